"""What the summing of an objective over samples runs: the same code in this process and in a server's workers.

A partial result is one flat float64 vector: the value, then each metric, then each gradient, in row-major order. So sums over blocks are sums of
vectors, wherever they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from . import native
from .adjoint import Tape
from .blocks import BLOCK, TreeSum
from .collector import paused_collector
from .errors import Cancelled, GraphError, InputError, LimitError, MissingDependencyError, NumericalError
from .grad import differentiate
from .interpret import Plan, conform
from .ir import Graph, replay
from .layout import Layout, Vector
from .ops.arithmetic import cast_float
from .ops.contraction import sum_samples
from .options import DEFAULT, Options
from .packing import Packing
from .shapes import size
from .simplify import Simplifier
from .types import Array, DType, Leaf, Shape

if TYPE_CHECKING:
    from .native.kernel import Kernel

Stop = Callable[[], bool]
METRIC = "metric:"
COMPILED_NODES = 150_000
"""Larger graphs are compiled only if that is asked for: it takes 0.1 ms a node (benchmarks/compile_time.py), in which the reference evaluator runs a
dozen blocks."""


def never() -> bool:
    """The answer of an evaluation that nobody stops."""
    return False


@dataclass(frozen=True)
class Result:
    """Value, gradients and metrics of an objective."""

    value: float
    """The reduced loss plus the penalty."""
    grads: dict[str, Array]
    """For each parameter the derivative of `value`, float64, of the parameter's shape."""
    metrics: dict[str, Array]
    """For each metric its sum (or mean) over the samples, float64."""
    count: int
    """Number of samples."""
    evaluator: str = "reference"
    """What computed it. Results are the same to the bit within one evaluator."""


def wanted_names(wrt: Iterable[str] | str | None) -> tuple[str, ...]:
    """The names of parameters to differentiate with respect to; none, like None, means all. A string is one name."""
    return () if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(map(str, wrt))


def gradient_layout(graph: Graph, wrt: Iterable[str] | str | None = None) -> Layout:
    """The layout of an objective's partial results, known without differentiating. Raises GraphError, InputError."""
    check_objective(graph)
    shapes = {leaf.name: leaf.shape for leaf in graph.parameters}
    wanted = wanted_names(wrt)
    for name in wanted:
        if name not in shapes:
            raise InputError(f"there is no parameter {name!r}; the graph has {sorted(shapes)}", field=f"wrt.{name}")
    names = [name for name in shapes if not wanted or name in wanted]
    metrics = tuple((name[len(METRIC) :], graph.shape(node)) for name, node in graph.outputs.items() if name.startswith(METRIC))
    return Layout(metrics, tuple((name, shapes[name]) for name in names))


def check_objective(graph: Graph) -> None:
    """Raises GraphError unless the outputs are those of an objective: a scalar "loss", maybe "penalty", and "metric:NAME"."""
    for name, node in graph.outputs.items():
        if name not in ("loss", "penalty") and not name.startswith(METRIC):
            raise GraphError(f"an objective has outputs loss, penalty and metric:NAME, not {name!r}", node=node)
        if name in ("loss", "penalty") and graph.types[node] != ((), DType.FLOAT):
            raise GraphError(
                f"the {name} must be a float of shape (), not {graph.dtype(node).name} of shape {graph.shape(node)}: sum or average it first",
                node=node,
                op=graph.op(node).name,
                source=graph.describe(node),
            )
    if "loss" not in graph.outputs:
        raise GraphError('an objective needs an output "loss"')
    penalty = graph.outputs.get("penalty")
    if penalty is not None and graph.per_sample[penalty]:
        raise GraphError("the penalty depends on an input: it may depend on parameters only", node=penalty, source=graph.describe(penalty))


class GradientProgram:
    """Value and gradient of an objective's graph, block by block. `evaluator` says what computes them."""

    def __init__(self, graph: Graph, wrt: Iterable[str] | str | None = None, options: Options = DEFAULT) -> None:
        self.graph, self.options = graph, options
        self.layout = gradient_layout(graph, wrt)
        self.has_penalty = "penalty" in graph.outputs
        self.evaluator = chosen_evaluator(options)
        self._kernel = self._penalty_kernel = None
        if self.evaluator == "compiled":
            self._packing = Packing(graph, self.layout)
            if options.evaluator == "auto" and self._packing.graph.node_count > COMPILED_NODES:
                self.evaluator = "reference"
                return
            self._kernel = self._compiled("loss", self._packing.graph, self._packing.layout)
            self._penalty_kernel = self._compiled("penalty", graph, self.layout) if self.has_penalty else None

    @cached_property
    def _loss(self) -> tuple[Plan, list[int]]:
        return _planned(derived(self.graph, self.layout, "loss"))

    @cached_property
    def _penalty(self) -> tuple[Plan, list[int]]:
        return _planned(derived(self.graph, self.layout, "penalty"))

    def _compiled(self, output: str, graph: Graph, layout: Layout) -> Kernel:
        names = " ".join(repr(name) for name, _ in layout.grads)
        what = f"gradient of {output} {graph.digest} {names}"
        return native.compiler().kernel(what, self.options.precision, lambda: native.Job(*derived(graph, layout, output)))

    def partial(
        self,
        params: Mapping[str, Array],
        inputs: Mapping[str, Array],
        first_block: int,
        block_count: int,
        samples: int,
        should_stop: Stop = never,
        offset: int = 0,
    ) -> Vector:
        """The tree sum of some blocks. `inputs` are arrays of `samples` rows; errors name a row by its index plus `offset`.

        Raises Cancelled, NumericalError, InputError.
        """
        start, stop = first_block * BLOCK, min((first_block + block_count) * BLOCK, samples)
        if self._kernel is not None:
            with located_indices(lambda: self._reference(params, inputs, start, stop, should_stop, offset)):
                return self._packing.unpacked(self._kernel.sums(self._packing.parameters(params), inputs, start, stop, should_stop))
        return self.checked_sum(self._reference(params, inputs, start, stop, should_stop, offset))

    def _reference(
        self, params: Mapping[str, Array], inputs: Mapping[str, Array], start: int, stop: int, should_stop: Stop, offset: int
    ) -> Vector:
        debug, (plan, nodes) = self.options.debug, self._loss
        total = TreeSum()
        shared = plan.shared(params, debug)
        for first in range(start, stop, BLOCK):
            if should_stop():
                raise Cancelled("the evaluation was stopped")
            rows = {name: array[first : min(first + BLOCK, stop)] for name, array in inputs.items()}
            found = plan.block(shared, rows, first + offset, debug)
            total.push(self.layout.pack([found[node] for node in nodes]))
        return total.total()

    def checked_sum(self, total: Vector) -> Vector:
        """A sum over blocks. In debug mode an infinity in it raises NumericalError: the blocks were looked at before they were added."""
        if self.options.debug and not np.isfinite(total).all():
            raise NumericalError("the first infinity arose in the sum over blocks of samples: every block is finite", op="sum_samples")
        return total

    def check_memory(self, samples: int, limit: str, allowed: int) -> None:
        """Raises LimitError that names a node if a block certainly takes more bytes than allowed; `limit` is the name of the limit."""
        if self._kernel is None:
            self._loss[0].check_memory(min(samples, BLOCK), limit, allowed)
        else:
            check_kernel_memory(self._kernel, limit, allowed)

    def penalty(self, params: Mapping[str, Array]) -> Vector:
        """Value and gradient of the penalty, laid out as a partial result. Raises NumericalError."""
        if self._penalty_kernel is not None:
            with located_indices(lambda: self._reference_penalty(params)):
                return self._penalty_kernel.sums(params, {}, 0, 1, never)
        return self._reference_penalty(params)

    def _reference_penalty(self, params: Mapping[str, Array]) -> Vector:
        plan, nodes = self._penalty
        shared = plan.shared(params, self.options.debug)
        found = plan.block(shared, {}, 0, self.options.debug)
        return self.layout.pack([found[node] for node in nodes])

    def finish(self, total: Vector, penalty: Vector | None, samples: int, mean: bool) -> Result:
        """The result: the sum over samples, averaged if `mean`, plus the penalty once."""
        return finish(self.layout, total, penalty, samples, mean, self.evaluator)


def chosen_evaluator(options: Options) -> Literal["compiled", "reference"]:
    """What evaluates with these options here. Raises MissingDependencyError if compiled code is wanted and can't be made."""
    if options.debug or options.evaluator == "reference":
        return "reference"
    missing = native.unavailable()
    if missing and (options.evaluator == "compiled" or options.precision == "f32"):
        raise MissingDependencyError(f"there is no compiled evaluator here: {missing}")
    return "reference" if missing else "compiled"


@contextmanager
def located_indices(reference: Callable[[], object]) -> Iterator[None]:
    """Compiled code only notices that some index is out of range: the reference evaluator then says which one it was."""
    try:
        yield
    except native.IndexRangeError:
        reference()
        raise RuntimeError("compiled code found an index out of range, and the reference evaluator did not: please report this") from None


def check_kernel_memory(kernel: Kernel, limit: str, allowed: int) -> None:
    """Raises LimitError if compiled code works in more bytes than allowed."""
    if kernel.nbytes > allowed:
        raise LimitError(
            f"a block of {BLOCK} samples takes {kernel.nbytes:,} bytes, more than {limit} = {allowed:,}: cut the expression or its arrays",
            limit=limit,
            value=kernel.nbytes,
            allowed=allowed,
        )


def finish(layout: Layout, total: Vector, penalty: Vector | None, samples: int, mean: bool, evaluator: str) -> Result:
    """The result of a sum over samples, averaged if `mean`, plus the penalty once."""
    value, metrics, grads = layout.unpack(reduced(total, penalty, samples, mean))
    return Result(value, grads, metrics, samples, evaluator)


def reduced(total: Vector, penalty: Vector | None, samples: int, mean: bool) -> Vector:
    """A sum over samples, averaged if `mean`, plus the penalty once."""
    if not mean and penalty is None:
        return total
    with np.errstate(all="ignore"):
        total = total / samples if mean else total
        return total if penalty is None else total + penalty


@paused_collector()
def derived(graph: Graph, layout: Layout, output: str) -> tuple[Graph, list[int]]:
    """The graph of value, metrics and gradients of the loss or the penalty, and their nodes in the order of the layout."""
    builder = Simplifier()
    ids = replay(graph, builder)
    loss = output == "loss"
    builder.place = graph.sources.place(graph.outputs[output]) if graph.sources else None
    target = builder.add(sum_samples, [ids[graph.outputs[output]]]) if loss else ids[graph.outputs[output]]
    wrt = [ids[graph.node_of(name)] for name, _ in layout.grads]
    zeros = [builder.constant(np.zeros(shape)) for _, shape in layout.metrics] if not loss else []
    metrics = zeros or [builder.add(sum_samples, [_as_float(builder, ids[graph.outputs[METRIC + name]])]) for name, _ in layout.metrics]
    nodes = [target, *metrics, *differentiate(builder, target, wrt, over_samples=loss)]
    derived = builder.graph({str(position): node for position, node in enumerate(nodes)})
    return derived, [derived.outputs[str(position)] for position in range(len(nodes))]


def _planned(derived: tuple[Graph, list[int]]) -> tuple[Plan, list[int]]:
    graph, nodes = derived
    return Plan(graph, nodes), nodes


def _as_float(builder: Simplifier, node: int) -> int:
    return node if builder.types[node].dtype is DType.FLOAT else builder.add(cast_float, [node])


class EvaluateProgram:
    """The outputs of a graph for each sample."""

    def __init__(self, graph: Graph, options: Options = DEFAULT) -> None:
        self.graph, self.options = graph, options
        self.evaluator = chosen_evaluator(options)
        if options.evaluator == "auto" and graph.node_count > COMPILED_NODES:
            self.evaluator = "reference"
        self.outputs = {name: (graph.shape(node), graph.dtype(node).numpy) for name, node in graph.outputs.items()}
        self._kernel = self._compiled() if self.evaluator == "compiled" else None

    def _compiled(self) -> Kernel:
        return native.compiler().kernel(
            f"outputs {self.graph.digest}", self.options.precision, lambda: native.Job(self._simple, self._nodes, rows=True)
        )

    @cached_property
    @paused_collector()
    def _simple(self) -> Graph:
        builder = Simplifier()
        ids = replay(self.graph, builder)
        return builder.graph({name: ids[node] for name, node in self.graph.outputs.items()})

    @property
    def _nodes(self) -> list[int]:
        return list(self._simple.outputs.values())

    @cached_property
    def _plan(self) -> Plan:
        return Plan(self._simple, self._nodes)

    def check_memory(self, samples: int, limit: str, allowed: int) -> None:
        """As GradientProgram's."""
        if self._kernel is None:
            self._plan.check_memory(min(samples, BLOCK), limit, allowed)
        else:
            check_kernel_memory(self._kernel, limit, allowed)

    def run(
        self, params: Mapping[str, Array], inputs: Mapping[str, Array], start: int, stop: int, should_stop: Stop = never, offset: int = 0
    ) -> dict[str, Array]:
        """The outputs of samples start..stop-1, each of shape (stop - start, *output shape). `start` is a multiple of BLOCK.

        Errors name a sample by its index plus `offset`.
        """
        if self._kernel is None:
            return self._reference(params, inputs, start, stop, should_stop, offset)
        with located_indices(lambda: self._reference(params, inputs, start, stop, should_stop, offset)):
            found = self._kernel.rows(params, inputs, start, stop, should_stop)
        return {name: of.reshape(stop - start, *shape) for (name, (shape, _)), of in zip(self.outputs.items(), found, strict=True)}

    def _reference(
        self, params: Mapping[str, Array], inputs: Mapping[str, Array], start: int, stop: int, should_stop: Stop, offset: int
    ) -> dict[str, Array]:
        shared = self._plan.shared(params, self.options.debug)
        parts: list[dict[str, Array]] = []
        for first in range(start, stop, BLOCK):
            if should_stop():
                raise Cancelled("the evaluation was stopped")
            last = min(first + BLOCK, stop)
            rows = {name: array[first:last] for name, array in inputs.items()}
            parts.append(self._block(shared, rows, first + offset, last - first))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def _block(self, shared: dict[int, Array], rows: Mapping[str, Array], first: int, samples: int) -> dict[str, Array]:
        found = self._plan.block(shared, rows, first, self.options.debug)
        nodes = self._simple.outputs
        return {
            name: np.asarray(np.broadcast_to(found[nodes[name]], (samples, *shape)), dtype) for name, (shape, dtype) in self.outputs.items()
        }


def backward_all(graph: Graph) -> tuple[Vector, Vector]:
    """Value of every node of a graph without leaves, and the derivative of its one scalar output with respect to each.

    Both are flat: the elements of node 0 in row-major order, then those of node 1, and so on. Raises GraphError.
    """
    if graph.leaves:
        name = next(iter(graph.leaves.values())).name
        raise GraphError(f"backward needs the data of every leaf, but {name!r} is an input or a parameter")
    if len(graph.outputs) != 1:
        raise GraphError(f"backward needs exactly one output, not {len(graph.outputs)}")
    (target,) = graph.outputs.values()
    if graph.types[target] != ((), DType.FLOAT):
        raise GraphError(f"only a float of shape () has a gradient, not {graph.types[target]}", node=target, source=graph.describe(target))
    rows = list(graph.rows())
    tape = Tape([op for _, op, _, _ in rows], [operands for _, _, operands, _ in rows], [attributes for *_, attributes in rows])
    data = tape.forward(graph.constants)
    return _flat(graph, data), _flat(graph, tape.backward(data, target))


def _flat(graph: Graph, arrays: Sequence[Array | None]) -> Vector:
    parts = [
        np.zeros(size(of.shape)) if a is None else np.ravel(np.asarray(a, np.float64)) for a, of in zip(arrays, graph.types, strict=True)
    ]
    return np.concatenate(parts)


def check_arrays(graph: Graph, params: Mapping[str, Array], inputs: Mapping[str, Array]) -> int:
    """Checks that arrays are those that a graph needs, and gives the number of samples: 1 if the graph has no inputs.

    Raises InputError that names the field: missing, unexpected, of a wrong shape or kind, or without samples.
    """
    check_parameters(graph, params)
    _check_names("inputs", graph.inputs, inputs)
    counts = {}
    for leaf in graph.inputs:
        array, field = inputs[leaf.name], f"inputs.{leaf.name}"
        if array.ndim == 0:
            raise InputError(f"{field} needs a leading sample axis: shape (n, *{leaf.shape}), not a scalar", field=field)
        _check_shape(field, leaf, array, array.shape[1:])
        counts[leaf.name] = len(array)
    return _sample_count(counts)


def check_parameters(graph: Graph, params: Mapping[str, Array]) -> None:
    """Checks that arrays are the parameters that a graph needs. Raises InputError that names the field."""
    _check_names("parameters", graph.parameters, params)
    for leaf in graph.parameters:
        _check_shape(f"parameters.{leaf.name}", leaf, params[leaf.name], params[leaf.name].shape)


def _sample_count(counts: Mapping[str, int]) -> int:
    first = next(iter(counts.values()), 1)
    for name, count in counts.items():
        if count != first or count == 0:
            said = f"has {count} samples" + (f", but {next(iter(counts))!r} has {first}" if count else "; at least one is needed")
            raise InputError(f"inputs.{name} {said}", field=f"inputs.{name}")
    return first


def _check_names(what: str, leaves: Sequence[Leaf], arrays: Mapping[str, Array]) -> None:
    names = {leaf.name for leaf in leaves}
    for name in names - arrays.keys():
        raise InputError(f"{what}.{name} is missing", field=f"{what}.{name}")
    for name in arrays.keys() - names:
        raise InputError(f"{what}.{name} is not in the graph, which has {sorted(names)}", field=f"{what}.{name}")


def _check_shape(field: str, leaf: Leaf, array: Array, shape: Shape) -> None:
    if shape != leaf.shape:
        lead = "(" + ", ".join(map(str, ("n", *leaf.shape))) + ")"
        wanted = f"{lead}: one row a sample" if field.startswith("inputs.") else str(leaf.shape)
        raise InputError(f"{field} has shape {array.shape}, but the graph needs {wanted}", field=field)
    conform(leaf._replace(name=field), array[:0] if array.ndim else array)


__all__ = [
    "BLOCK",
    "EvaluateProgram",
    "GradientProgram",
    "Layout",
    "Result",
    "backward_all",
    "check_arrays",
    "check_parameters",
    "conform",
    "finish",
    "gradient_layout",
    "reduced",
    "wanted_names",
]
