"""The graph with its layers rolled: units are made when something needs them, in an order that follows from what each is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..ir import Builder, Graph
from ..ops import BY_NUMBER
from ..ops.arithmetic import add
from ..ops.contraction import matmul
from ..ops.movement import concat, reshape, slice_, transpose
from ..shapes import size
from ..types import NO_ATTRIBUTES, Leaf, Shape
from .layers import Layer, Layers, Lifted, Operand, Scalars
from .places import Place, Run, runs


class Emitter:
    """Makes the new graph. A unit is a node of the old graph or a vector, as in `Layers`."""

    def __init__(self, graph: Graph, layers: Layers) -> None:
        self._old, self._vectors, self._places = graph, layers.vectors, layers.places
        self._columns = layers.places.columns
        self._rolled = layers.rolled_nodes()
        self._made = [-1] * (graph.node_count + len(layers.vectors))
        self._builder = Builder()

    def graph(self) -> Graph:
        """The new graph."""
        for node in range(self._old.node_count):
            if not self._rolled[node]:
                self._make_all(node)
        for unit in (*self._packed_units(), *self._old.outputs.values()):
            self._make_all(unit)
        self._builder.place = None
        return self._builder.graph({name: self._made[node] for name, node in self._old.outputs.items()})

    def _packed_units(self) -> list[int]:
        return [self._old.node_count + k for k, vector in enumerate(self._vectors) if isinstance(vector, Scalars)]

    def _make_all(self, unit: int) -> None:
        """Makes a unit and what it is computed from."""
        made = self._made
        stack = [unit]
        while stack:
            unit = stack[-1]
            missing = [needed for needed in self._needs(unit) if made[needed] < 0] if made[unit] < 0 else []
            if missing:
                stack.extend(missing)
                continue
            if made[unit] < 0:
                made[unit] = self._make(unit)
            stack.pop()

    def _needs(self, unit: int) -> Iterable[int]:
        """The units that a unit is computed from."""
        nodes = self._old.node_count
        if unit < nodes:
            place = self._places.rolled(unit)
            return self._node_needs(unit) if place is None else (place.unit,)
        vector = self._vectors[unit - nodes]
        if isinstance(vector, Scalars):
            return ()
        if isinstance(vector, Lifted):
            return [operand.unit for operand in vector.operands]
        weights = {self._places.of(node).unit for row in vector.weights for node in row}
        return {place.unit for place in vector.x} | weights | {self._places.of(b).unit for terms in vector.biases for b in terms}

    def _node_needs(self, node: int) -> Iterable[int]:
        stacked = self._stacked(node)
        return self._columns.operands_of(node) if stacked is None else {place.unit for place in stacked}

    def _stacked(self, node: int) -> list[Place] | None:
        """The places of the elements of a vector that is put together from elements of rolled vectors, among others."""
        columns = self._columns
        if columns.numbers[node] != concat.number or len(self._old.shape(node)) != 1:
            return None
        places = []
        for part in columns.operands_of(node):
            inner = columns.operands_of(part)[0] if columns.numbers[part] == reshape.number else part
            if self._old.shape(inner) != ():
                return None
            places.append(self._places.of(inner))
        return places if any(place.unit >= self._old.node_count for place in places) else None

    def _make(self, unit: int) -> int:
        nodes = self._old.node_count
        if unit < nodes:
            return self._make_node(unit)
        vector = self._vectors[unit - nodes]
        self._builder.place = self._old.sources.place(vector.outputs[0]) if self._old.sources else None
        if isinstance(vector, Scalars):
            return self._builder.parameter(Leaf(vector.name, (len(vector.outputs),)))
        return self._make_lifted(vector) if isinstance(vector, Lifted) else self._make_layer(vector)

    def _make_node(self, node: int) -> int:
        builder, old = self._builder, self._old
        builder.place = old.sources.place(node) if old.sources else None
        place = self._places.rolled(node)
        if place is not None:
            return self._reshaped(self._part(Run(place.unit, place.element, 1)), ())
        op = BY_NUMBER[self._columns.numbers[node]]
        if not op.kinds:
            return builder.copy_leaf(old, node)
        stacked = self._stacked(node) if op is concat else None
        if stacked is not None:
            return self._vector(stacked)
        operands = [self._made[k] for k in self._columns.operands_of(node)]
        return builder.add(op, operands, old.attributes.get(node, NO_ATTRIBUTES))

    def _make_lifted(self, vector: Lifted) -> int:
        first = vector.outputs[0]
        operands = [self._operand(operand, len(vector.outputs)) for operand in vector.operands]
        return self._builder.add(self._old.op(first), operands, self._old.attributes.get(first, NO_ATTRIBUTES))

    def _operand(self, operand: Operand, count: int) -> int:
        return self._made[operand.unit] if operand.first is None else self._part(Run(operand.unit, operand.first, count))

    def _make_layer(self, layer: Layer) -> int:
        row = self._reshaped(self._vector(layer.x), (1, len(layer.x)))
        product = self._reshaped(self._builder.add(matmul, [row, self._matrix(layer)]), (len(layer.outputs),))
        if not any(layer.biases):
            return product
        return self._builder.add(add, [product, self._bias(layer.biases)])

    def _matrix(self, layer: Layer) -> int:
        """The weights of shape (inputs, outputs), read in the order in which they lie in an array, or in which they were made."""
        nodes, by_output = layer.listed(self._places)
        flat = self._vector([self._places.of(node) for node in nodes])
        inputs, outputs = len(layer.x), len(layer.outputs)
        if by_output:
            return self._builder.add(transpose, [self._reshaped(flat, (outputs, inputs))], {"axes": (1, 0)})
        return self._reshaped(flat, (inputs, outputs))

    def _bias(self, biases: Sequence[Sequence[int]]) -> int:
        """The terms beside the products, added up for each output; -0.0 where there is none, which changes no sum."""
        if all(len(terms) == 1 for terms in biases):
            return self._vector([self._places.of(terms[0]) for terms in biases])
        parts = [self._reshaped(self._sum(terms), (1,)) for terms in biases]
        return self._builder.add(concat, parts, {"axis": (0,)})

    def _sum(self, terms: Sequence[int]) -> int:
        if not terms:
            return self._builder.constant(-0.0)
        parts = [self._reshaped(self._vector([self._places.of(term)]), ()) for term in terms]
        total = parts[0]
        for part in parts[1:]:
            total = self._builder.add(add, [total, part])
        return total

    def _vector(self, places: Sequence[Place]) -> int:
        """A vector of these elements: where they are all that an array has, in order, the array itself."""
        parts = [self._part(run) for run in runs(places)]
        return parts[0] if len(parts) == 1 else self._builder.add(concat, parts, {"axis": (0,)})

    def _part(self, run: Run) -> int:
        """Neighbouring elements of a unit as a vector."""
        whole = self._made[run.unit]
        extent = size(self._builder.types[whole].shape)
        flat = self._reshaped(whole, (extent,))
        if run.length == extent:
            return flat
        return self._builder.add(slice_, [flat], {"start": (run.first,), "stop": (run.first + run.length,), "step": (1,)})

    def _reshaped(self, node: int, shape: Shape) -> int:
        return node if self._builder.types[node].shape == shape else self._builder.add(reshape, [node], {"shape": shape})
