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

from .resident import RowChoice, taken_rows

__all__ = ["Here", "here"]


class Here:
    """Computes in this process what a `Service` has computed by a server, to the same bits."""

    def value_and_grad(
        self,
        objective: Objective,
        params: Mapping[str, ArrayLike],
        data: Mapping[str, ArrayLike],
        *,
        rows: RowChoice | None = None,
        wrt: Iterable[str] | str | None = None,
        debug: bool = False,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> Result:
        """As `Service.value_and_grad`."""
        data = data if rows is None else taken_rows(data, rows)
        return objective.value_and_grad(params, data, wrt=wrt, debug=debug, evaluator=evaluator, precision=precision)

    def evaluate(
        self,
        outputs: Mapping[str, Value],
        params: Mapping[str, ArrayLike] | None = None,
        data: Mapping[str, ArrayLike] | None = None,
        *,
        rows: RowChoice | None = None,
        debug: bool = False,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> dict[str, NDArray[Any]]:
        """As `Service.evaluate`."""
        graph = trace(named_expressions(outputs))
        chosen = _needed(data, graph.inputs)
        chosen = chosen if rows is None else dict(taken_rows(chosen, rows))
        arrays, inputs, samples = fit_arrays(graph, _needed(params, graph.parameters), chosen, precision)
        return EvaluateProgram(graph, Options(evaluator, precision, debug)).run(arrays, inputs, 0, samples)

    def backward(self, value: Value) -> None:
        """As `Service.backward`."""
        value.backward()


here = Here()


def _needed(arrays: Mapping[str, ArrayLike] | None, leaves: Iterable[Leaf]) -> dict[str, ArrayLike]:
    """The arrays of these leaves; one that is missing is for the caller to notice."""
    given = {} if arrays is None else dict(arrays.items())
    return {leaf.name: given[leaf.name] for leaf in leaves if leaf.name in given}
