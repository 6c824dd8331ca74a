"""`sg.here`: this process with the methods of a service, for where a service is asked for and none is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.objective import Objective, fit_arrays
from sumgrad_engine.options import Evaluator, Options, Precision
from sumgrad_engine.program import EvaluateProgram, Result
from sumgrad_engine.trace import named_expressions, trace
from sumgrad_engine.types import Leaf
from sumgrad_engine.value import Value

__all__ = ["Here", "here"]


class Here:
    """Computes in this process what a `Service` has computed by a server, to the same bits."""

    def value_and_grad(
        self,
        objective: Objective,
        params: Mapping[str, ArrayLike],
        data: Mapping[str, ArrayLike],
        *,
        wrt: Iterable[str] | str | None = None,
        debug: bool = False,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> Result:
        """As `Service.value_and_grad`."""
        return objective.value_and_grad(params, data, wrt=wrt, debug=debug, evaluator=evaluator, precision=precision)

    def evaluate(
        self,
        outputs: Mapping[str, Value],
        params: Mapping[str, ArrayLike] | None = None,
        data: Mapping[str, ArrayLike] | None = None,
        *,
        debug: bool = False,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> dict[str, NDArray[Any]]:
        """As `Service.evaluate`."""
        graph = trace(named_expressions(outputs))
        arrays, inputs, samples = fit_arrays(graph, _needed(params, graph.parameters), _needed(data, graph.inputs), precision)
        return EvaluateProgram(graph, Options(evaluator, precision, debug)).run(arrays, inputs, 0, samples)

    def backward(self, value: Value) -> None:
        """As `Service.backward`."""
        value.backward()


here = Here()


def _needed(arrays: Mapping[str, ArrayLike] | None, leaves: Iterable[Leaf]) -> dict[str, ArrayLike]:
    """The arrays of these leaves; one that is missing is for the caller to notice."""
    given = {} if arrays is None else dict(arrays.items())
    return {leaf.name: given[leaf.name] for leaf in leaves if leaf.name in given}
