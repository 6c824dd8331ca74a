"""Which scalar nodes are elements of which arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..ir import Graph
from ..ops.movement import reshape, slice_
from ..types import Shape

# A path of views from an element to its array is followed for so many steps: more are correct, but seen as a new array.
_MOST_VIEWS = 8


class Place(NamedTuple):
    """An element: the unit it belongs to and its index there, in row-major order. A scalar of its own is element 0 of itself."""

    unit: int
    """A node of the graph, or a vector that was rolled: numbers from the graph's node count on."""
    element: int


class Run(NamedTuple):
    """Neighbouring elements of one unit."""

    unit: int
    first: int
    length: int


class Columns:
    """A graph's columns as lists, in which single nodes are found faster than in arrays."""

    def __init__(self, graph: Graph) -> None:
        self.numbers: list[int] = graph.opcodes.tolist()
        self.starts: list[int] = graph.starts.tolist()
        self.operands: list[int] = graph.operands.tolist()

    def operands_of(self, node: int) -> list[int]:
        """The operands of a node."""
        return self.operands[self.starts[node] : self.starts[node + 1]]


class Places:
    """Finds the places of scalar nodes. Elements of rolled vectors are entered as they become known."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.columns = Columns(graph)
        self._known: dict[int, Place] = {}

    def enter(self, unit: int, elements: Sequence[int]) -> None:
        """Says that nodes are the elements of a vector, in this order."""
        for index, node in enumerate(elements):
            self._known[node] = Place(unit, index)

    def rolled(self, node: int) -> Place | None:
        """The place of a node in a rolled vector, if it has one."""
        place = self._known.get(node)
        return place if place is not None and place.unit >= self.graph.node_count else None

    def of(self, node: int) -> Place:
        """The place of a scalar node."""
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._found(node)
        return known

    def _found(self, node: int) -> Place:
        """Follows reshapes and slices from an element down to the array that they are views of."""
        unit, index = node, 0
        for _ in range(_MOST_VIEWS):
            number = self.columns.numbers[unit]
            if number == slice_.number:
                index = self._through_slice(unit, index)
            elif number != reshape.number:
                break
            unit = self.columns.operands_of(unit)[0]
            known = self._known.get(unit)
            if known is not None:
                return known
        return Place(unit, index)

    def _through_slice(self, node: int, index: int) -> int:
        """The index in a slice's operand of an element of the slice."""
        graph, attributes = self.graph, self.graph.attributes[node]
        wide = graph.shape(self.columns.operands_of(node)[0])
        at = _unravelled(index, graph.shape(node))
        result = 0
        for extent, i, start, step in zip(wide, at, attributes["start"], attributes["step"], strict=True):
            result = result * extent + start + i * step
        return result


def _unravelled(index: int, shape: Shape) -> list[int]:
    at: list[int] = []
    for extent in reversed(shape):
        index, rest = divmod(index, extent)
        at.append(rest)
    return at[::-1]


def runs(places: Sequence[Place]) -> list[Run]:
    """Places one after another as runs of neighbours."""
    found: list[Run] = []
    unit, first, count = -1, 0, 0
    for place in places:
        if place.unit == unit and place.element == first + count:
            count += 1
        else:
            if count:
                found.append(Run(unit, first, count))
            (unit, first), count = place, 1
    return [*found, Run(unit, first, count)]
