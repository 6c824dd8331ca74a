"""Layers in a graph of scalars: sums of products over the same factors, and what is done with all of a layer's outputs alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain, count
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..ir import Graph
from ..ops import BY_NUMBER
from ..ops.leaves import parameter, scalar
from ..types import NO_ATTRIBUTES
from .places import Columns, Place, Places
from .sums import Sums


class Worth(NamedTuple):
    """From what sizes on a group of sums is rolled."""

    outputs: int
    inputs: int
    products: int


# Below about 64 products a compiled sample keeps everything in registers, and a matrix product's preparation costs more than it saves.
_PACKED = "scalars {}"
"""The names of vectors of scalar parameters, as far as no leaf has them."""

WORTHWHILE = Worth(outputs=4, inputs=4, products=64)


class Layer(NamedTuple):
    """Sums of products that become one: output j is the sum over i of x[i] * weights[j][i] and of biases[j]."""

    outputs: list[int]
    x: list[Place]
    weights: list[list[int]]
    biases: list[list[int]]

    def listed(self, places: Places) -> tuple[list[int], bool]:
        """The weights one after another, output by output if the second is true, else input by input.

        Whichever is nearer to the order in which they lie in an array, or in which they were made.
        """
        found = [[places.of(node) for node in row] for row in self.weights]
        order = np.array([[(place.unit << 32) + place.element for place in row] for row in found], np.int64)
        by_output = _distance(order, 1) <= _distance(order, 0)
        return list(chain.from_iterable(self.weights if by_output else zip(*self.weights, strict=True))), by_output


class Operand(NamedTuple):
    """An operand of an elementwise op on vectors: elements first.. of a unit, or the node `unit` for all elements alike if `first` is None."""

    unit: int
    first: int | None


class Lifted(NamedTuple):
    """Nodes that do the same with the elements of vectors: one op on the vectors."""

    outputs: list[int]
    operands: tuple[Operand, ...]


class Scalars(NamedTuple):
    """Scalar parameters that become the elements of one vector, a parameter of this name."""

    outputs: list[int]
    name: str


Vector: TypeAlias = Layer | Lifted | Scalars
Key: TypeAlias = tuple[int, tuple[tuple[str, tuple[int, ...]], ...], tuple[Operand, ...]]
"""An op, its attributes and its operands, as seen from one element of a vector."""


class Layers:
    """Finds the layers of a graph. Unit `graph.node_count + k` is vector k.

    A layer's sums have one depth: the largest number of sums on a path that leads to them. So none depends on another, and as depth grows
    along every path into a layer, no cycle comes up when its sums are made at once.
    """

    def __init__(self, graph: Graph, sums: Sums, worth: Worth) -> None:
        self.graph, self.sums, self.worth = graph, sums, worth
        self.places = Places(graph)
        self.vectors: list[Vector] = []
        self.found = 0
        self._users = _Users(graph)
        self._orders: dict[tuple[int, ...], tuple[tuple[Place, ...], list[int]] | None] = {}

    def find(self) -> None:
        """Fills `vectors`, those that others are computed from first."""
        depths = _depths(self.places.columns, self.sums.roots.tolist())
        by_depth: dict[int, list[int]] = defaultdict(list)
        for number, root in enumerate(self.sums.roots.tolist()):
            by_depth[depths[root]].append(number)
        for depth in sorted(by_depth):
            self._find_at(by_depth[depth])

    def pack(self) -> list[Scalars]:
        """Makes vectors of the scalar parameters of layers: for each layer one of its weights, as the matrix lists them, and one of its biases."""
        layers = [vector for vector in self.vectors if isinstance(vector, Layer)]
        lists = [nodes for layer in layers for nodes in (layer.listed(self.places)[0], chain.from_iterable(layer.biases))]
        free = {node for node, leaf in self.graph.leaves.items() if self.graph.op(node) is parameter and leaf.shape == ()}
        taken = {leaf.name for leaf in self.graph.leaves.values()}
        names = (name for name in map(_PACKED.format, count()) if name not in taken)
        found = []
        for nodes in lists:
            elements = list(dict.fromkeys(node for node in nodes if node in free))
            free.difference_update(elements)
            if elements:
                found.append(Scalars(elements, next(names)))
                self._append(found[-1])
        return found

    def rolled_nodes(self) -> list[bool]:
        """Marks the nodes that vectors stand for, and the insides of rolled sums: they are made only if something else needs them."""
        marks: list[bool] = self.sums.inner.tolist()
        for vector in self.vectors:
            for node in vector.outputs:
                marks[node] = True
        return marks

    def _find_at(self, numbers: Iterable[int]) -> None:
        groups: dict[tuple[Place, ...], list[int]] = defaultdict(list)
        for number in numbers:
            order = self._order(number)
            if order is not None and self.places.rolled(int(self.sums.roots[number])) is None:
                groups[order[0]].append(number)
        for x, members in groups.items():
            if self._pays(len(members), len(x)):
                self.found += 1
                self._enter(self._layer(list(x), members))

    def _pays(self, outputs: int, inputs: int) -> bool:
        worth = self.worth
        return outputs >= worth.outputs and inputs >= worth.inputs and outputs * inputs >= worth.products

    def _shared(self, number: int) -> tuple[int, ...]:
        firsts = self.sums.firsts
        return tuple(self.sums.shared[firsts[number] : firsts[number + 1]].tolist())

    def _order(self, number: int) -> tuple[tuple[Place, ...], list[int]] | None:
        """The places of a sum's x's in the order of their arrays, and which product has each; None if one x occurs twice."""
        shared = self._shared(number)
        if shared not in self._orders:
            found = sorted((self.places.of(node), k) for k, node in enumerate(shared))
            places = tuple(place for place, _ in found)
            self._orders[shared] = (places, [k for _, k in found]) if len(set(places)) == len(places) else None
        return self._orders[shared]

    def _layer(self, x: list[Place], members: list[int]) -> Layer:
        sums = self.sums
        weights, biases = [], []
        for number in members:
            order = self._order(number)
            assert order is not None
            own = sums.own[sums.firsts[number] : sums.firsts[number + 1]].tolist()
            weights.append([own[k] for k in order[1]])
            others = sums.others[sums.other_firsts[number] : sums.other_firsts[number + 1]].tolist()
            biases.append([node for node in others if not self._is_zero(node)])
        return Layer(sums.roots[members].tolist(), x, weights, biases)

    def _is_zero(self, node: int) -> bool:
        """Whether a term is the 0 that Python's `sum` begins with."""
        return self.graph.op(node) is scalar and float(self.graph.constants[node]) == 0.0

    def _enter(self, vector: Vector) -> None:
        """Enters a vector and all that follow from it element by element."""
        waiting = [vector]
        for new in waiting:
            self._append(new)
            waiting.extend(self._lifted(new.outputs))

    def _append(self, vector: Vector) -> None:
        self.places.enter(self.graph.node_count + len(self.vectors), vector.outputs)
        self.vectors.append(vector)

    def _lifted(self, elements: list[int]) -> list[Lifted]:
        """What is done with all elements of a vector alike, and is not rolled yet."""
        columns: list[dict[Key, int]] = []
        common: list[Key] | None = None
        for index, element in enumerate(elements):
            columns.append(self._uses(element, index, len(elements)))
            common = [key for key in (columns[0] if common is None else common) if key in columns[-1]]
            if not common:
                return []
        found = [Lifted([column[key] for column in columns], key[2]) for key in common or ()]
        return [lifted for lifted in found if len(set(lifted.outputs)) == len(elements)]

    def _uses(self, element: int, index: int, count: int) -> dict[Key, int]:
        found: dict[Key, int] = {}
        for user in self._users.of(element):
            op = BY_NUMBER[self.places.columns.numbers[user]]
            if op.elementwise and self.graph.shape(user) == () and self.places.rolled(user) is None:
                attributes = tuple(sorted(self.graph.attributes.get(user, NO_ATTRIBUTES).items()))
                operands = tuple(self._operand(k, index, count) for k in self.places.columns.operands_of(user))
                found.setdefault((op.number, attributes, operands), user)
        return found

    def _operand(self, node: int, index: int, count: int) -> Operand:
        """An operand of element `index` of a vector so long, as the operand that all elements have in common, if they do."""
        place = self.places.of(node)
        if place.unit >= self.graph.node_count:
            aligned = place.element == index and len(self.vectors[place.unit - self.graph.node_count].outputs) == count
            return Operand(place.unit, 0) if aligned else Operand(node, None)
        return Operand(node, None) if place.unit == node else Operand(place.unit, place.element - index)


def _distance(order: npt.NDArray[np.int64], axis: int) -> float:
    """How far apart neighbours along an axis lie, on average."""
    steps = np.abs(np.diff(order, axis=axis))
    return float(steps.sum()) / max(1, steps.size)


class _Users:
    """Which nodes use a node."""

    def __init__(self, graph: Graph) -> None:
        order = np.argsort(graph.operands, kind="stable")
        users = np.repeat(np.arange(graph.node_count), np.diff(graph.starts))[order]
        firsts = np.searchsorted(graph.operands[order], np.arange(graph.node_count + 1))
        self._users: list[int] = users.tolist()
        self._firsts: list[int] = firsts.tolist()

    def of(self, node: int) -> list[int]:
        """The users of a node."""
        return self._users[self._firsts[node] : self._firsts[node + 1]]


def _depths(columns: Columns, roots: list[int]) -> list[int]:
    """For each node the largest number of the sums on a path that leads to it, itself included."""
    starts, operands = columns.starts, columns.operands
    depths = [0] * (len(starts) - 1)
    sums = set(roots)
    for node in range(len(depths)):
        depth = 0
        for k in operands[starts[node] : starts[node + 1]]:
            depth = max(depth, depths[k])
        depths[node] = depth + (node in sums)
    return depths
