"""Loops over the elements of large arrays, with the samples of a tile innermost: layout, copies, elementwise chains and reductions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..ir import Row
from ..ops.arithmetic import maximum
from ..ops.contraction import logsumexp, max_
from .cells import Cell, Cells
from .emission import Emission, Store
from .lanes import Module
from .piece import frame_of
from .storage import SIGNATURE, Array, Frame, Geometry, Indices, Ramp, Space, Storage

if TYPE_CHECKING:
    from .lower import Lowering


NOWHERE = 32
"""Bytes behind the flags that anybody may write to."""
AHEAD = 32
"""Rows that are fetched from memory ahead of their use: the processor does not see by itself what comes next."""


@dataclass(frozen=True)
class Pack:
    """Lays out an input feature-major: from sample after sample to element after element."""

    rows: Array
    packed: Array

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step: squares of as many samples as elements are transposed in registers."""
        frame = frame_of(module, geometry, Space.TILE)
        width, count = frame.lanes.width, self.packed.index.size
        whole = count - count % width if self.rows.letter == "f" else 0
        with frame.samples() as sample:
            if whole:
                with frame.function.loop(str(whole), width) as k:
                    self._square(frame, k, sample)
            if whole < count:
                with frame.function.loop(str(count), 1, str(whole)) as k:
                    self._column(frame, k, sample)
        frame.function.define(name, SIGNATURE)

    def _store(self, frame: Frame, value: str, k: str, sample: str) -> None:
        frame.store(value, self.packed, frame.function.plus(k, str(int(self.packed.index.flat[0]))), sample)

    def _square(self, frame: Frame, k: str, sample: str) -> None:
        function, lanes = frame.function, frame.lanes
        places = [frame.address(self.rows, k, function.plus(sample, str(lane))) for lane in range(lanes.width)]
        ahead = AHEAD * frame.geometry.row_elements[self.rows.leaf] * lanes.precision.nbytes
        function.module.declarations["llvm.prefetch"] = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
        for place in places:
            function.do(f"call void @llvm.prefetch.p0(ptr {function.offset(place, str(ahead))}, i32 0, i32 3, i32 1)")
        vectors = [function.emit(f"load {lanes.float}, ptr {place}, align {lanes.precision.nbytes}") for place in places]
        for number, vector in enumerate(transposed(frame, vectors)):
            self._store(frame, vector, function.plus(k, str(number)), sample)

    def _column(self, frame: Frame, k: str, sample: str) -> None:
        function, lanes = frame.function, frame.lanes
        of = {"f": lanes.precision.float, "i": "i64", "b": "i8"}[self.rows.letter]
        value = "poison"
        for lane in range(lanes.width):
            place = frame.address(self.rows, k, function.plus(sample, str(lane)))
            one = function.emit(f"load {of}, ptr {place}, align 1")
            value = function.emit(f"insertelement {lanes.vector(of)} {value}, {of} {one}, i64 {lane}")
        if self.rows.letter == "b":
            value = function.emit(f"icmp ne {lanes.vector('i8')} {value}, {lanes.splat('i8', '0')}")
        self._store(frame, value, k, sample)


def transposed(frame: Frame, vectors: list[str]) -> list[str]:
    """A square matrix in registers with rows and columns exchanged: blocks of 1, 2, 4, ... are exchanged across the diagonal."""
    width, of = frame.lanes.width, frame.lanes.float
    distance = 1
    while distance < width:
        upper = _mask([k if not k & distance else width + k - distance for k in range(width)])
        lower = _mask([k + distance if not k & distance else width + k for k in range(width)])
        for i in range(width):
            if not i & distance:
                pair = f"{of} {vectors[i]}, {of} {vectors[i | distance]}"
                vectors[i], vectors[i | distance] = (frame.function.emit(f"shufflevector {pair}, {mask}") for mask in (upper, lower))
        distance *= 2
    return vectors


def _mask(lanes: Sequence[int]) -> str:
    """The constant that tells shufflevector which lanes to take."""
    return f"<{len(lanes)} x i32> <" + ", ".join(f"i32 {k}" for k in lanes) + ">"


@dataclass(frozen=True)
class Unpack:
    """Writes a result as rows, sample after sample."""

    array: Array
    ramp: Ramp
    number: int
    """Which of the results it is."""

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, Space.TILE)
        function, letter, count = frame.function, self.array.letter, self.array.index.size
        of = {"f": geometry.precision.float, "i": "i64", "b": "i1"}[letter]
        base = function.emit(f"load ptr, ptr {function.emit(f'getelementptr inbounds ptr, ptr %outputs, i64 {self.number}')}, align 8")
        if not count:
            function.define(name, SIGNATURE)
            return
        with frame.samples() as sample, function.loop(str(count)) as k:
            value = frame.load(self.array, frame.at(self.ramp, k), sample)
            for lane in range(frame.lanes.width):
                row = function.plus(function.plus("%first", sample), str(lane))
                item = function.emit(f"extractelement {frame.vector(letter)} {value}, i64 {lane}")
                if letter == "b":
                    item = function.emit(f"zext i1 {item} to i8")
                place = function.plus(function.times(row, count), k)
                self._write(frame, item, "i8" if letter == "b" else of, base, place, row)
        function.define(name, SIGNATURE)

    def _write(self, frame: Frame, item: str, of: str, base: str, place: str, row: str) -> None:
        """Stores one element; lanes beyond the last sample go to a place that nobody reads."""
        function = frame.function
        valid = function.emit(f"icmp slt i64 {row}, %count")
        target = function.emit(f"getelementptr inbounds {of}, ptr {base}, i64 {place}")
        nowhere = function.offset("%flags", str(NOWHERE))
        function.do(f"store {of} {item}, ptr {function.emit(f'select i1 {valid}, ptr {target}, ptr {nowhere}')}, align 1")


@dataclass(frozen=True)
class Copy:
    """Elements to elements, converted to booleans or to the precision where the spaces differ."""

    source: Array
    target: Array
    first: Ramp
    second: Ramp

    @classmethod
    def of(cls, storage: Storage, source: Array, target: Array) -> Copy:
        """The copy between arrays of one shape."""
        return cls(source, target, Ramp.of(source.index, storage), Ramp.of(target.index, storage))

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.target.space)
        count = self.target.index.size
        if count:
            with frame.function.loop(str(count)) as k:
                source, target = frame.at(self.first, k), frame.at(self.second, k)
                with frame.samples() as sample:
                    frame.store(frame.load(self.source, source, sample), self.target, target, sample)
        frame.function.define(name, SIGNATURE)


@dataclass(frozen=True)
class Fill:
    """One number in all elements."""

    target: Array
    ramp: Ramp
    value: float

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.target.space)
        if self.target.index.size:
            with frame.function.loop(str(self.target.index.size)) as k:
                place = frame.at(self.ramp, k)
                with frame.samples() as sample:
                    frame.store(constant_of(frame, self.value, self.target.letter), self.target, place, sample)
        frame.function.define(name, SIGNATURE)


def constant_of(frame: Frame, value: float, letter: str) -> str:
    """A constant of a kind."""
    lanes = frame.lanes
    return {"f": lambda: lanes.number(value), "i": lambda: lanes.position(int(value)), "b": lambda: lanes.truth(bool(value))}[letter]()


@dataclass(frozen=True)
class Map:
    """A chain of elementwise ops over arrays of one shape, in one loop."""

    cells: Cells
    operands: Sequence[tuple[Array, Ramp]]
    results: Sequence[tuple[int, Array, Ramp]]
    count: int
    space: Space

    @classmethod
    def of(cls, lowering: Lowering, rows: Sequence[Row], results: Sequence[int], space: Space) -> Map:
        """The loop for these nodes, of which `results` are needed by others."""
        graph, cells = lowering.graph, Cells()
        shape = graph.shape(rows[0][0])
        operands: list[tuple[Array, Ramp]] = []
        ids: dict[int, int] = {}
        for node, op, arguments, attributes in rows:
            for operand in arguments:
                if operand not in ids:
                    ids[operand] = _operand(lowering, cells, operands, operand, shape)
            ids[node] = cells.op(op, *[ids[k] for k in arguments], attributes=attributes)
        targets = [(ids[node], lowering.arrays[node]) for node in results]
        stored = [(cell, array, Ramp.of(array.index, lowering.storage)) for cell, array in targets]
        return cls(cells, operands, stored, int(np.prod(shape, dtype=np.int64)), space)

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.space)
        if self.count:
            with frame.function.loop(str(self.count)) as k:
                self._element(frame, k)
        frame.function.define(name, SIGNATURE)

    def _element(self, frame: Frame, k: str) -> None:
        places = [frame.at(ramp, k) for _, ramp in self.operands]
        targets = [frame.at(ramp, k) for _, _, ramp in self.results]
        # What is the same for all samples is loaded before the loop over them.
        shared = {
            number: frame.load(array, place, "0")
            for number, ((array, _), place) in enumerate(zip(self.operands, places, strict=True))
            if not array.space.per_sample
        }
        with frame.samples() as sample:
            loaded = dict(shared)

            def load(cell: Cell) -> str:
                if cell.element not in loaded:
                    loaded[cell.element] = frame.load(self.operands[cell.element][0], places[cell.element], sample)
                return loaded[cell.element]

            stores: dict[int, list[Store]] = {}
            for (cell, array, _), place in zip(self.results, targets, strict=True):
                stores.setdefault(cell, []).append(partial(frame.store, array=array, index=place, sample=sample))
            Emission(self.cells, frame, sample, load, stores).run()


def _operand(lowering: Lowering, cells: Cells, operands: list[tuple[Array, Ramp]], node: int, shape: tuple[int, ...]) -> int:
    """The cell of an operand from outside the loop: a constant, or an element to load."""
    constant = lowering.graph.constants.get(node)
    if constant is not None and constant.size == 1:
        return cells.constant(float(constant.flat[0]), lowering.graph.dtype(node).letter)
    array = lowering.arrays[node]
    wide = array.moved(np.broadcast_to(array.index, shape))
    operands.append((wide, Ramp.of(wide.index, lowering.storage)))
    return cells.element(array.letter, len(operands) - 1)


def reduced_axes(index: Indices, axes: Sequence[int]) -> Indices:
    """Indices as (elements of the result, elements that are reduced to each)."""
    kept = [axis for axis in range(index.ndim) if axis not in axes]
    count = int(np.prod([index.shape[axis] for axis in kept], dtype=np.int64))
    return index.transpose([*kept, *axes]).reshape(count, -1) if index.size else np.zeros((count, 0), np.int64)


def separate(lowering: Lowering, array: Array, index: Indices) -> tuple[Array, Ramp, Ramp]:
    """An array whose index[e, r] is first(e) + second(r): the array itself, or a copy that is laid out so."""
    if index.size and not bool(np.all(index == index[:, :1] + (index[:1] - index[0, 0]))):
        source = array.moved(index)
        array = lowering.scratch(array, index.shape)
        lowering.copy(source, array)
        index = array.index
    if not index.size:
        return array, Ramp(0, 0), Ramp(0, 0)
    return array, Ramp.of(index[:, 0], lowering.storage), Ramp.of(index[0] - index[0, 0], lowering.storage)


@dataclass(frozen=True)
class Reduce:
    """Sums, maxima or logsumexps of some elements each."""

    op: str
    array: Array
    outer: Ramp
    inner: Ramp
    extents: tuple[int, int]
    target: Array
    targets: Ramp

    @classmethod
    def of(cls, lowering: Lowering, row: Row) -> Reduce:
        """The loop for a reducing node."""
        node, op, operands, attributes = row
        source = lowering.arrays[operands[0]]
        index = reduced_axes(source.index, attributes["axes"])
        array, outer, inner = separate(lowering, source, index)
        target = lowering.result(node)
        return cls(op.name, array, outer, inner, index.shape, target, Ramp.of(target.index, lowering.storage))

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.target.space)
        if self.extents[0]:
            with frame.function.loop(str(self.extents[0])) as e:
                outer, target = frame.at(self.outer, e), frame.at(self.targets, e)
                with frame.samples() as sample:
                    frame.store(self._reduced(frame, outer, sample), self.target, target, sample)
        frame.function.define(name, SIGNATURE)

    def _reduced(self, frame: Frame, outer: str, sample: str) -> str:
        lanes = frame.lanes
        if self.op == logsumexp.name:
            return self._log_sum_exp(frame, outer, sample)
        if self.op == max_.name:
            return self._fold(frame, outer, sample, -np.inf, lambda a, x: maximum.emitted(lanes, [a, x]))
        # -0.0 changes no sum; a sum of nothing is 0.0.
        return self._fold(frame, outer, sample, -0.0 if self.extents[1] else 0.0, lanes.add)

    def _fold(self, frame: Frame, outer: str, sample: str, start: float, step: Callable[[str, str], str]) -> str:
        function, of = frame.function, frame.lanes.float
        total = function.variable(of, frame.lanes.number(start))
        if self.extents[1]:
            with function.loop(str(self.extents[1])) as r:
                value = frame.load(self.array, function.plus(outer, frame.at(self.inner, r)), sample)
                function.put(of, step(function.get(of, total), value), total)
        return function.get(of, total)

    def _log_sum_exp(self, frame: Frame, outer: str, sample: str) -> str:
        lanes = frame.lanes
        largest = self._fold(frame, outer, sample, -np.inf, lambda a, x: maximum.emitted(lanes, [a, x]))
        finite = lanes.eq(lanes.sub(largest, largest), lanes.number(0.0))
        shift = lanes.select(finite, largest, lanes.number(0.0))
        total = self._fold(frame, outer, sample, -0.0, lambda a, x: lanes.add(a, lanes.call("exp", lanes.sub(x, shift))))
        return lanes.add(lanes.call("log", total), shift)
