"""Objective: a loss for one sample, summed over samples, with a penalty and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, Literal

import numpy as np

from .blocks import block_count
from .errors import GraphError, InputError
from .ir import Graph
from .ops.leaves import parameter
from .options import Evaluator, Options, Precision
from .program import METRIC, GradientProgram, Result, check_arrays, check_objective, conform, wanted_names
from .trace import named_expressions, trace
from .types import Array, DType, Leaf
from .value import Value, as_value, topological


class Objective:
    """F(p) = sum over samples of loss(x_i; p), or their mean, plus penalty(p).

    `loss` is a scalar expression for one sample; `penalty` one of parameters alone, counted once; `metrics` are named expressions that are
    summed (or averaged) like the loss and not differentiated. Raises GraphError if they are not.
    """

    def __init__(
        self,
        loss: Value,
        penalty: Value | float | None = None,
        metrics: Mapping[str, Value] | None = None,
        reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        if reduction not in ("sum", "mean"):
            raise GraphError(f'reduction must be "sum" or "mean", not {reduction!r}')
        outputs = {"loss": as_value(loss)}
        if penalty is not None:
            outputs["penalty"] = as_value(penalty)
        if metrics:
            outputs |= {METRIC + name: value for name, value in named_expressions(metrics).items()}
        self.reduction: Literal["sum", "mean"] = reduction
        nodes = topological(list(outputs.values()))
        self.graph: Graph = trace(outputs, nodes)
        check_objective(self.graph)
        self.initial = {node.name: node for node in nodes if node.op is parameter}
        self._programs: dict[tuple[tuple[str, ...], str, str, bool], GradientProgram] = {}

    @property
    def params(self) -> dict[str, Array]:
        """The parameters' initial values, as new float64 arrays."""
        return {name: np.array(value.data, np.float64) for name, value in self.initial.items()}

    def value_and_grad(
        self,
        params: Mapping[str, Any],
        data: Mapping[str, Any],
        wrt: Iterable[str] | str | None = None,
        debug: bool = False,
        *,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> Result:
        """Value, gradients and metrics at `params` over `data`, computed in this process; the same bits as from a service.

        `data` has an array for each input, with a leading sample axis. `wrt` names the parameters to differentiate with respect to (all, if None).
        With `debug`, the first NaN or infinity raises NumericalError. `evaluator` is "compiled", "reference", or "auto" for the first of them that
        is at hand; `precision` is "f64", or "f32" with sums over samples in f64. Raises InputError for arrays that do not fit, and
        MissingDependencyError if what is asked for can't be compiled here.
        """
        program = self._program(wrt, evaluator, precision, debug)
        arrays, columns, samples = fit_arrays(self.graph, params, data, precision)
        total = program.partial(arrays, columns, 0, block_count(samples), samples)
        penalty = program.penalty(arrays) if program.has_penalty else None
        return program.finish(total, penalty, samples, self.reduction == "mean")

    def _program(self, wrt: Iterable[str] | str | None, evaluator: Evaluator, precision: Precision, debug: bool) -> GradientProgram:
        key = (wanted_names(wrt), evaluator, precision, debug)
        found = self._programs.get(key)
        if found is None:
            found = self._programs[key] = GradientProgram(self.graph, key[0], Options(evaluator, precision, debug))
        return found

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: not the programs, which are made again when they are needed."""
        return {**self.__dict__, "_programs": {}}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that data must have."""
        return tuple(leaf.name for leaf in self.graph.inputs)


def fit_arrays(
    graph: Graph, params: Mapping[str, Any], data: Mapping[str, Any], precision: Precision = "f64"
) -> tuple[dict[str, Array], dict[str, Array], int]:
    """Parameters and inputs as the evaluator needs them, and the number of samples. Raises InputError naming the field."""
    if (samples := _fitting(graph, params, data, precision)) is not None:
        return (
            dict(zip(graph.parameter_shapes, map(params.__getitem__, graph.parameter_shapes), strict=True)),
            {leaf.name: data[leaf.name] for leaf in graph.inputs},
            samples,
        )
    given = {name: _array(f"parameters.{name}", value) for name, value in params.items()}
    columns = {name: _array(f"inputs.{name}", value) for name, value in data.items()}
    samples = check_arrays(graph, given, columns)
    return (
        {leaf.name: conform(leaf, given[leaf.name]) for leaf in graph.parameters},
        {leaf.name: conform(leaf, columns[leaf.name], precision) for leaf in graph.inputs},
        samples,
    )


_SHAPE, _DTYPE = attrgetter("shape"), attrgetter("dtype")
_FLOATS = {np.dtype(np.float64)}
_ARRAYS = {np.ndarray}


def _fitting(graph: Graph, params: Mapping[str, Any], data: Mapping[str, Any], precision: Precision) -> int | None:
    """The number of samples if nothing has to be converted, as in every step but the first of a fit; None where it must be looked at closely.

    For a hundred thousand scalar parameters every look at one counts: `map` and `set` look at all of them without a step of Python for each.
    """
    shapes = graph.parameter_shapes
    if params.keys() != shapes.keys() or len(data) != len(graph.inputs):
        return None
    arrays = list(map(params.__getitem__, shapes))
    if arrays and (set(map(type, arrays)) != _ARRAYS or set(map(_DTYPE, arrays)) != _FLOATS):
        return None
    if list(map(_SHAPE, arrays)) != list(shapes.values()) or not all(params[name].flags.c_contiguous for name in graph.parameter_arrays):
        return None
    return _samples(graph.inputs, data, precision)


def _samples(leaves: Sequence[Leaf], data: Mapping[str, Any], precision: Precision) -> int | None:
    """The number of samples of inputs that are as the evaluator needs them, else None; 1 without inputs."""
    samples = None
    for leaf in leaves:
        array = data.get(leaf.name)
        wanted = np.float32 if precision == "f32" and leaf.dtype is DType.FLOAT else leaf.dtype.numpy
        if type(array) is not np.ndarray or array.dtype != wanted or array.shape[1:] != leaf.shape or not array.flags.c_contiguous:
            return None
        if array.ndim == 0 or len(array) == 0 or len(array) != (samples or len(array)):
            return None
        samples = len(array)
    return 1 if samples is None else samples


def _array(field: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InputError(f"{field} is no array: {error}", field=field) from None
