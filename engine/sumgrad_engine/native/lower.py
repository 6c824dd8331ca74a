"""From a graph to steps: what is computed by which piece of straight-line code or loop, and where the values lie in between.

Nodes of few scalars are taken apart and gathered into pieces; large ones become loops over their elements. A node goes into the open group of its
kind, unless it needs a value of another open group, which is then closed: so groups grow as long as the order of the graph allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np

from ..interpret import needed_rows, per_block
from ..ir import Graph, Row
from ..ops.arithmetic import multiply, square
from ..ops.contraction import matmul, matmul_samples, sum_, sum_samples
from ..ops.indexing import scatter_add, scatter_add_samples, take
from ..ops.leaves import input_, parameter
from ..ops.movement import broadcast_to, concat, flip, reshape, slice_, transpose
from ..shapes import size
from ..types import NO_ATTRIBUTES
from ..types import Array as Data
from .cells import OVER_SAMPLES, Cells, Ids, expand, moved, summands
from .lanes import Module, Precision
from .loops import lower_nest
from .nests import Copy, Map, Pack, Unpack, separate
from .piece import Piece
from .storage import Array, Geometry, Indices, Ramp, Space, Storage

MOVEMENT = (reshape, transpose, broadcast_to, slice_, flip, concat)
"""Ops that only number elements anew."""

PRODUCTS = {sum_: (multiply, square), sum_samples: (multiply, square, matmul)}
"""Products that sums absorb."""

SMALL = 32
"""A node of fewer scalar operations is taken apart."""
LOOP = 8
"""Elementwise ops over at least so many elements become loops."""
SUMMED = 24
"""Sums over samples of at least so many terms become loops."""
PIECE = 60
"""Instructions after which a piece is closed: so few that the processor overlaps several rounds of its loop, and keeps values in registers."""
LONG_PIECE = 800
"""The same for large graphs: fewer values go through memory, and there is less to compile."""
LARGE = 4000
"""A graph of more nodes is compiled with less care: the time that compiling takes counts for more than the time of the code."""
WIDE = 512
"""Sums of products with more elements are made at the end of a block, in registers, instead of in lanes of memory after each tile."""


class Stage(Enum):
    """When a node is computed."""

    SHARED = Space.SHARED  # once a call
    SAMPLES = Space.TILE  # for each tile
    SUMS = Space.SUMS  # after the sums of a block


class Step(Protocol):
    """A function of generated code."""

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function in a module."""


@dataclass
class Steps:
    """What a kernel does, in order."""

    shared: list[Step] = field(default_factory=list)
    tile: list[Step] = field(default_factory=list)
    block: list[Step] = field(default_factory=list)
    sums: list[Step] = field(default_factory=list)

    def by_name(self) -> dict[str, list[Step]]:
        """The steps of each stage."""
        return {"shared": self.shared, "tile": self.tile, "block": self.block, "sums": self.sums}

    def of(self, stage: Stage) -> list[Step]:
        """The steps of a stage."""
        return {Stage.SHARED: self.shared, Stage.SAMPLES: self.tile, Stage.SUMS: self.sums}[stage]


class _Group:
    """Nodes that will become one step."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.nodes: list[int] = []
        self.cells = Cells()
        self.ids: dict[int, Ids] = {}


class Lowering:
    """Steps and storage for some nodes of a graph."""

    def __init__(
        self, graph: Graph, wanted: Sequence[int], precision: Precision, *, rows: bool = False, tick: Callable[[], None] = lambda: None
    ) -> None:
        self.graph, self.wanted, self.precision = graph, tuple(wanted), precision
        self.storage, self.steps = Storage(), Steps()
        self.constants: list[tuple[Array, Data]] = []
        self.parameters: list[tuple[int, Array]] = []
        self.inputs: list[int] = []
        self.accumulators: list[tuple[int, Array]] = []
        self.accumulator_count = 0
        self.zeroed: list[Array] = []
        self.arrays: dict[int, Array] = {}
        self.written = self.wanted if rows else ()
        """Nodes whose results are written for each sample."""
        self.summed = () if rows else self.wanted
        """Nodes whose results are the same for all samples: sums, and what follows from them or from parameters."""
        self._rows = needed_rows(graph, self.wanted)
        self.operations = sum(operations(graph, row) for row in self._rows if graph.per_sample[row[0]] or row[1] in OVER_SAMPLES)
        """Scalar operations for one sample."""
        # Loops are short whatever they run over: what takes time to compile is nodes.
        self.large = len(self._rows) > LARGE
        self._block_nodes = per_block(graph)
        self._users: dict[int, list[int]] = {}
        for node, _, operands, _ in self._rows:
            for operand in dict.fromkeys(operands):
                self._users.setdefault(operand, []).append(node)
        self._smalls: dict[int, bool] = {}
        self._groups: dict[Stage | tuple[Stage, tuple[int, ...]], _Group] = {}
        self._group_of: dict[int, _Group] = {}
        self._pending: dict[int, int] = {}
        self._roots: dict[int, int] = {}
        self._absorbing = self._products_to_absorb()
        self._absorbed = set(self._absorbing.values())
        self._blockwise = self._block_operands()
        self._run(tick)

    def _run(self, tick: Callable[[], None]) -> None:
        for node in (*self.graph.leaves, *self.graph.constants):
            if node in self._users or node in self.wanted:
                self._leaf(node)
        for row in self._rows:
            tick()
            self._visit(row)
        for group in list(self._groups.values()):
            self._close(group)
        self._rows_out()

    def stage(self, node: int) -> Stage:
        """When a node is computed."""
        if self.graph.per_sample[node]:
            return Stage.SAMPLES
        return Stage.SUMS if self._block_nodes[node] else Stage.SHARED

    def _leaf(self, node: int) -> None:
        letter, shape = self.graph.dtype(node).letter, self.graph.shape(node)
        if node in self.graph.constants:
            array = self.storage.allocate(Space.CONSTANTS, letter, shape)
            self.constants.append((array, self.graph.constants[node]))
        elif self.graph.op(node) is parameter:
            array = self.storage.allocate(Space.PARAMETERS, letter, shape)
            self.parameters.append((node, array))
        else:
            assert self.graph.op(node) is input_
            array = self._input(node, letter)
        self.arrays[node] = array

    def _input(self, node: int, letter: str) -> Array:
        """An input of one element a sample is read in place; others are laid out feature-major first."""
        shape = self.graph.shape(node)
        rows = Array(Space.ROWS, letter, np.arange(size(shape), dtype=np.int64).reshape(shape), len(self.inputs))
        self.inputs.append(node)
        if size(shape) == 1:
            return rows
        packed = self.storage.allocate(self._sample_space(node), letter, shape)
        self.steps.tile.append(Pack(rows, packed))
        return packed

    def _sample_space(self, node: int) -> Space:
        return Space.BLOCK if node in self._blockwise else Space.TILE

    def _block_operands(self) -> set[int]:
        """Nodes that sums over whole blocks read: their values are kept for all tiles."""
        found: set[int] = set()
        for node, op, _, _ in reversed(self._rows):
            if self.is_blockwise(node) or (node in found and op in MOVEMENT):
                found.update(self._read_by(node))
        return found

    def _products_to_absorb(self) -> dict[int, int]:
        """Large sums of products that nobody else needs: they are multiplied and added up in one loop."""
        found: dict[int, int] = {}
        for node, op, operands, _ in self._rows:
            wanted = PRODUCTS.get(op)
            if wanted is None or self._small(node):
                continue
            (product,) = operands
            alone = self._users[product] == [node] and product not in self.wanted and not self._small(product)
            together = op is sum_samples or self.stage(product) is self.stage(node)
            if alone and together and self.graph.op(product) in wanted:
                found[node] = product
        return found

    def absorbed(self, node: int) -> int | None:
        """The product that a sum computes by itself, if there is one."""
        return self._absorbing.get(node)

    def _read_by(self, node: int) -> tuple[int, ...]:
        """The nodes whose values a node reads."""
        product = self._absorbing.get(node)
        return self.graph.arguments(node if product is None else product)

    def _small(self, node: int) -> bool:
        if node not in self._smalls:
            op, operands = self.graph.op(node), self.graph.arguments(node)
            limit = LOOP if op.elementwise else SUMMED if op in OVER_SAMPLES else SMALL
            # Elements of many operands are better gathered one by one.
            many = op is concat and len(operands) > LOOP
            moved = size(self.graph.shape(node)) if op in MOVEMENT else 0
            self._smalls[node] = many or cost(self.graph, (node, op, operands, NO_ATTRIBUTES)) + moved < limit
        return self._smalls[node]

    def _visit(self, row: Row) -> None:
        node, op, _, _ = row
        if node in self._absorbed:
            return
        if op in MOVEMENT and self._alias(node, row):
            return
        if self._small(node):
            self._into_piece(row)
        elif op.elementwise:
            self._into_map(row)
        else:
            self._settle(self._read_by(node))
            lower_nest(self, row)
            self._done(node)

    def _alias(self, node: int, row: Row) -> bool:
        """Numbers the elements of operands anew, if they lie in one space."""
        _, op, operands, attributes = row
        if any(k in self._group_of for k in operands) and self._small(node):
            return False
        self._settle(operands)
        arrays = [self.arrays[k] for k in operands]
        if len({(a.space, a.letter, a.leaf) for a in arrays}) > 1 or (len(operands) > 1 and arrays[0].space is Space.TILE):
            return False
        self.arrays[node] = arrays[0].moved(moved(op)([a.index for a in arrays], attributes))
        if len(operands) == 1:
            self._share_root(node, operands[0])
        return True

    def _share_root(self, node: int, operand: int) -> None:
        root = self._roots.get(operand, operand)
        self._roots[node] = root
        if root in self._pending:
            self._pending[root] += len(self._users.get(node, ())) - 1 + (node in self.wanted)

    def _settle(self, operands: Iterable[int], besides: _Group | None = None) -> None:
        """Closes the open groups that hold these nodes."""
        for operand in operands:
            group = self._group_of.get(operand)
            if group is not None and group is not besides:
                self._close(group)

    def _group(self, key: Stage | tuple[Stage, tuple[int, ...]], stage: Stage) -> _Group:
        if key not in self._groups:
            self._groups[key] = _Group(stage)
        return self._groups[key]

    def _into_piece(self, row: Row) -> None:
        node, op, operands, attributes = row
        # A sum over samples is made where its terms are, whatever becomes of it.
        stage = Stage.SAMPLES if op in OVER_SAMPLES else self.stage(node)
        group = self._group(stage, stage)
        if group.cells.weight > (LONG_PIECE if self.large else PIECE):
            self._close(group)
            group = self._group(stage, stage)
        self._settle(operands, group)
        ids = [self._ids(group, k) for k in operands]
        if op in OVER_SAMPLES:
            self._add_sum(group, row, ids)
            return
        group.ids[node] = expand(group.cells, op, ids, attributes)
        group.nodes.append(node)
        self._group_of[node] = group

    def _ids(self, group: _Group, node: int) -> Ids:
        """The cells of a node in a group: made there, or loaded from where they lie."""
        if node not in group.ids:
            constant = self.graph.constants.get(node)
            if constant is not None:
                letter = self.graph.dtype(node).letter
                flat = [group.cells.constant(float(v), letter) for v in constant.ravel().tolist()]
                group.ids[node] = np.array(flat, np.int64).reshape(constant.shape)
            else:
                group.ids[node] = group.cells.load(self.arrays[node])
        return group.ids[node]

    def _add_sum(self, group: _Group, row: Row, ids: Sequence[Ids]) -> None:
        node, op, _, attributes = row
        terms, shape = summands(group.cells, op, ids, attributes)
        array = self.sum_array(node, shape)
        for k, element in enumerate(terms):
            group.cells.sums.extend((term, self.accumulator_count + k) for term in element)
        self.accumulate(array)
        group.nodes.append(node)
        # Whoever needs the sum must wait for the end of the block: it is in no group, and lies where sums do.
        self.arrays[node] = array

    def sum_array(self, node: int, shape: tuple[int, ...]) -> Array:
        """Room for the sums of a node."""
        return self.storage.allocate(Space.SUMS, "f", shape)

    def accumulate(self, array: Array) -> int:
        """Accumulators of eight lanes for an array of sums; the number of the first."""
        first = self.accumulator_count
        self.accumulators.append((first, array))
        self.accumulator_count += array.index.size
        return first

    def _into_map(self, row: Row) -> None:
        node, _, operands, _ = row
        stage, shape = self.stage(node), self.graph.shape(node)
        group = self._group((stage, shape), stage)
        self._settle(operands, group)
        group.nodes.append(node)
        self._group_of[node] = group

    def _close(self, group: _Group) -> None:
        """Makes a step of a group."""
        key = next(key for key, known in self._groups.items() if known is group)
        del self._groups[key]
        members = set(group.nodes)
        results = [n for n in group.nodes if n not in self.arrays and (n in self.wanted or not members.issuperset(self._users.get(n, ())))]
        if isinstance(key, Stage):
            self._close_piece(group, results)
        else:
            self._close_map(group, results)
        for node in group.nodes:
            self._group_of.pop(node, None)
        for node in group.nodes:
            self._done(node)

    def _close_piece(self, group: _Group, results: Sequence[int]) -> None:
        stores: list[tuple[int, Array, int]] = []
        stored: dict[int, tuple[int, int]] = {}
        for node in results:
            ids = group.ids[node].ravel().tolist()
            if self._stored_already(node, [stored.get(cell) for cell in ids]):
                continue
            array = self.result(node)
            for cell, element in zip(ids, array.index.ravel().tolist(), strict=True):
                stores.append((cell, array, element))
                stored[cell] = node, element
        if stores or group.cells.sums or group.cells.checks:
            self.steps.of(group.stage).append(Piece(group.cells, stores, group.stage.value))

    def _stored_already(self, node: int, places: Sequence[tuple[int, int] | None]) -> bool:
        """Whether all elements of a node were stored as those of another one, which then serves both."""
        owners = {place[0] if place else None for place in places}
        owner = owners.pop() if len(owners) == 1 else None
        if owner is None or (node in self._blockwise) != (owner in self._blockwise):
            return False
        elements = [place[1] for place in places if place]
        self.arrays[node] = self.arrays[owner].moved(np.array(elements, np.int64).reshape(self.graph.shape(node)))
        root = self._roots[node] = self._roots.get(owner, owner)
        if root in self._pending:
            self._pending[root] += len(self._users.get(node, ())) + (node in self.wanted)
        return True

    def _close_map(self, group: _Group, results: Sequence[int]) -> None:
        for node in results:
            self.result(node)
        rows = [(n, self.graph.op(n), self.graph.arguments(n), self.graph.attributes.get(n, {})) for n in group.nodes]
        self.steps.of(group.stage).append(Map.of(self, rows, results, group.stage.value))

    def result(self, node: int) -> Array:
        """Room for what a node gives, in the space of its stage."""
        stage = self.stage(node)
        space = self._sample_space(node) if stage is Stage.SAMPLES else stage.value
        array = self.storage.allocate(space, self.graph.dtype(node).letter, self.graph.shape(node))
        self.arrays[node] = array
        if space is Space.TILE:
            self._pending[node] = len(self._users.get(node, ())) + (node in self.wanted)
        return array

    def _done(self, node: int) -> None:
        """A node was computed: what nobody else needs is released."""
        for operand in dict.fromkeys(self._read_by(node)):
            root = self._roots.get(operand, operand)
            if root in self._pending:
                self._pending[root] -= 1
                if self._pending[root] == 0:
                    self.storage.release(self.arrays[root])

    def _rows_out(self) -> None:
        """Results for each sample are written as rows."""
        for number, node in enumerate(self.written):
            array = self.arrays[node]
            self.steps.tile.append(Unpack(array, Ramp.of(array.index, self.storage), number))
        for node in self.summed:
            if self.arrays[node].space is not Space.SUMS:
                self.arrays[node] = self._as_sums(self.arrays[node])

    def _as_sums(self, array: Array) -> Array:
        """A copy among the sums, from which results are collected."""
        copied = self.storage.allocate(Space.SUMS, "f", array.shape)
        self.copy(array, copied)
        return copied

    def copy(self, source: Array, target: Array) -> None:
        """A step that copies elements, in the stage of the target."""
        self.steps_in(target.space).append(Copy.of(self.storage, source, target))

    def scratch(self, array: Array, shape: tuple[int, ...]) -> Array:
        """Room for a copy of an array in another layout."""
        space = Space.SHARED if array.space in (Space.PARAMETERS, Space.CONSTANTS) else array.space
        return self.storage.allocate(Space.TILE if space is Space.ROWS else space, array.letter, shape)

    def separated(self, array: Array, table: Indices) -> tuple[Array, Ramp, Ramp]:
        """See `nests.separate`."""
        return separate(self, array, table)

    def is_blockwise(self, node: int) -> bool:
        """Whether a sum over samples is made at the end of a block."""
        wide = size(self.graph.shape(node)) > WIDE
        return wide and (self.graph.op(node) is matmul_samples or (node in self._absorbing and self.graph.op(node) is sum_samples))

    def steps_in(self, space: Space) -> list[Step]:
        """The steps that compute what lies in a space."""
        return {Space.SHARED: self.steps.shared, Space.SUMS: self.steps.sums}.get(space, self.steps.tile)


def operations(graph: Graph, row: Row) -> int:
    """Scalar operations of a node that is a loop."""
    chooses = row[1] in (take, scatter_add, scatter_add_samples)
    return max(size(graph.shape(row[0])), size(graph.shape(row[2][0]))) if chooses else cost(graph, row)


def cost(graph: Graph, row: Row) -> int:
    """Scalar operations of a node that is taken apart."""
    node, op, operands, _ = row
    if op in MOVEMENT:
        return 0
    count = size(graph.types[node].shape)
    if op in (matmul, matmul_samples):
        return count * graph.shape(operands[0])[-1]
    if op is take:
        return count * size(graph.shape(operands[0]))
    if op in (scatter_add, scatter_add_samples):
        return count * size(graph.shape(operands[1]))
    return count if op.elementwise else max(count, size(graph.shape(operands[0])))


__all__ = ["Lowering", "Stage", "Steps", "cost"]
