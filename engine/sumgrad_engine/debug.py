"""Finding the first NaN or infinity: the node in which it arose, not those that it went through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import NumericalError
from .types import Array

if TYPE_CHECKING:
    from .ir import Graph


class NonFinite:
    """Checks the values of a block as they are made. A value is at fault in a sample where it is not finite but all its operands are."""

    def __init__(self, graph: Graph, first: int) -> None:
        self.graph = graph
        self.first = first

    def leaves(self, values: Mapping[int, Array]) -> None:
        """Raises NumericalError if an input or parameter holds a NaN or an infinity, or a constant a NaN (infinite ones are meant)."""
        for node, constant in self.graph.constants.items():
            self._report(node, constant, _bad(constant, 0) & np.isnan(constant).any(), 0, "a constant")
        for node, leaf in self.graph.leaves.items():
            if node in values:
                lead = int(self.graph.per_sample[node])
                self._report(node, values[node], _bad(values[node], lead), lead, f"{self.graph.op(node).name} {leaf.name!r}")

    def step(self, node: int, operands: Sequence[Array], leads: Sequence[int], value: Array) -> None:
        """Raises NumericalError if a NaN or an infinity arose in this node."""
        lead = int(self.graph.per_sample[node])
        bad = _bad(value, lead)
        if not bad.any():
            return
        for operand, operand_lead in zip(operands, leads, strict=True):
            inherited = _bad(operand, operand_lead)
            bad = bad & ~(inherited if lead or not operand_lead else inherited.any())
        self._report(node, value, bad, lead, self.graph.op(node).name)

    def _report(self, node: int, value: Array, bad: npt.NDArray[np.bool_], lead: int, what: str) -> None:
        if not bad.any():
            return
        row = int(np.argmax(bad)) if lead else None
        elements = np.ravel(value[row] if row is not None else value)
        kind = "NaN" if np.isnan(elements[~np.isfinite(elements)][0]) else "infinity"
        sample = None if row is None else self.first + row
        place = self.graph.describe(node)
        text = f"the first {kind} arose in {what} (node {node})"
        text += f" at sample {sample}" if sample is not None else ""
        text += f", made at {place}" if place else ""
        raise NumericalError(text, node=node, op=self.graph.op(node).name, source=place, sample=sample)


def _bad(value: Array, lead: int) -> npt.NDArray[np.bool_]:
    """Per sample (or, without a sample axis, for the whole) whether any element is not finite."""
    if value.dtype.kind != "f":
        return np.zeros(len(value) if lead else (), np.bool_)
    bad = ~np.isfinite(value)
    return np.asarray(bad.any(axis=tuple(range(lead, value.ndim))))
