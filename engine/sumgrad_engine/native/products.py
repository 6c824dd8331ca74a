"""Matrix products, and sums over samples of them, in tiles of registers.

They are generated here instead of being left to a BLAS: every element is summed in one fixed order with fused multiply-add, whatever the sizes of the
tiles, so that the bits are the same on every machine, while a BLAS chooses its order by the processor. One of the operands lies feature-major, so nothing
is packed, and what follows finds its vectors over samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..ir import Row
from ..shapes import size
from .cells import product_operands
from .driver import fold_lanes
from .emission import eight_lanes
from .lanes import F32, F64, Lanes, Module
from .piece import frame_of
from .storage import LANES, SIGNATURE, Array, Frame, Geometry, Indices, Ramp, Space

if TYPE_CHECKING:
    from .lower import Lowering

Cell = tuple[str, str, str]
"""(o, i, j) of a sum, in registers."""
Factors = tuple[tuple[Array, Indices], tuple[Array, Indices] | None, bool]
"""What is multiplied and summed: arrays with indices of shape (o, i, k) and (o, j, k), and whether they are paired."""
DEPTH = 128
"""Terms of a sum after which its value goes back to memory: the operand's part for so many stays in the first-level cache."""


@dataclass(frozen=True)
class Operand:
    """An array whose index is outer(o) + side(j) + inner(k)."""

    array: Array
    outer: Ramp
    side: Ramp
    inner: Ramp

    @classmethod
    def of(cls, lowering: Lowering, array: Array, index: Indices) -> Operand:
        """From indices of shape (o, j, k); an array that is laid out otherwise is copied."""
        origin = index[:1, :1, :1]
        regular = index[:, :1, :1] + (index[:1, :, :1] - origin) + (index[:1, :1, :] - origin)
        if not bool(np.all(index == regular)):
            source = array.moved(index)
            array = lowering.scratch(array, index.shape)
            lowering.copy(source, array)
            index = array.index
            origin = index[:1, :1, :1]
        ramps = [
            Ramp.of(part, lowering.storage) for part in (index[:, 0, 0], index[0, :, 0] - origin[0, 0, 0], index[0, 0] - origin[0, 0, 0])
        ]
        return cls(array, *ramps)

    @property
    def steady(self) -> bool:
        """Whether the index does not depend on j."""
        return self.side.stride == 0 and self.side.table is None


def factors(lowering: Lowering, operands: Sequence[int]) -> tuple[Array, Indices, Array, Indices]:
    """Both operands of a matrix product, with indices of shape (stack, m, k) and (stack, n, k)."""
    left, right = (lowering.arrays[k] for k in operands)
    a, b = product_operands(left.index, right.index)
    return left, a.reshape(-1, *a.shape[-2:]), right, b.reshape(-1, *b.shape[-2:]).swapaxes(-1, -2)


@dataclass(frozen=True)
class Product:
    """target[o, j] = sum over k of left[o, j, k] * right[o, j, k]; the tile of registers runs over j."""

    left: Operand
    right: Operand
    target: Operand
    extents: tuple[int, int, int]

    @classmethod
    def of(cls, lowering: Lowering, row: Row) -> Product:
        """The loops for a matmul; the longer side of its result becomes j."""
        left, a, right, b = factors(lowering, row[2])
        target = lowering.result(row[0])
        out = target.index.reshape(-1, a.shape[1], b.shape[1])
        if b.shape[1] < a.shape[1]:
            left, a, right, b, out = right, b, left, a, out.swapaxes(-1, -2)
        shape = (*a.shape[:2], b.shape[1], a.shape[2])
        return cls._of(lowering, (left, a[:, :, None]), (right, b[:, None]), (target, out), shape)

    @classmethod
    def of_sum(cls, lowering: Lowering, row: Row, operands: Sequence[int]) -> Product:
        """The loops for a sum over axes of a product of arrays, which is not computed by itself."""
        node, _, (product,), attributes = row
        shape = lowering.graph.shape(product)
        kept = [axis for axis in range(len(shape)) if axis not in attributes["axes"]]
        wide = (1, *[shape[axis] for axis in kept]) if kept else (1, 1)
        extents = (size(wide[:-1]), 1, wide[-1], size(shape) // max(1, size(wide)))
        target = lowering.result(node)

        def ordered(array: Array) -> tuple[Array, Indices]:
            index = np.broadcast_to(array.index, shape).transpose([*kept, *attributes["axes"]])
            return array, index.reshape(extents)

        a, b = (ordered(lowering.arrays[k]) for k in (operands[0], operands[-1]))
        return cls._of(lowering, a, b, (target, target.index), extents)

    @classmethod
    def _of(
        cls,
        lowering: Lowering,
        left: tuple[Array, Indices],
        right: tuple[Array, Indices],
        target: tuple[Array, Indices],
        shape: tuple[int, ...],
    ) -> Product:
        """From indices that broadcast to (stack, m, n, k)."""
        rows, n, depth = shape[0] * shape[1], shape[2], shape[3]
        operands = [Operand.of(lowering, array, np.broadcast_to(index, shape).reshape(rows, n, depth)) for array, index in (left, right)]
        # What does not depend on j is loaded once for all of a tile: it goes to the left.
        operands.sort(key=lambda operand: not operand.steady)
        return cls(operands[0], operands[1], Operand.of(lowering, target[0], target[1].reshape(rows, n, 1)), (rows, n, depth))

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.target.array.space)
        function = frame.function
        depth = self.extents[2]
        if size(self.extents[:2]):
            self._part(frame, "0", str(min(depth, DEPTH)), fresh=True)
        if size(self.extents[:2]) and depth > DEPTH:
            with function.loop(str(depth), DEPTH, str(DEPTH)) as start:
                stop = function.plus(start, str(DEPTH))
                over = function.emit(f"icmp slt i64 {stop}, {depth}")
                self._part(frame, start, function.emit(f"select i1 {over}, i64 {stop}, i64 {depth}"), fresh=False)
        function.define(name, SIGNATURE)

    def _part(self, frame: Frame, start: str, stop: str, *, fresh: bool) -> None:
        """Adds the terms from `start` to `stop`."""
        rows, count, _ = self.extents
        width, vectors = frame.geometry.product_tile(count) if frame.lanes.width > 1 else (4, 1)
        with frame.samples(vectors) as sample, frame.function.loop(str(rows)) as o:
            if count >= width:
                with frame.function.loop(str(count - count % width), width) as j:
                    self._tile(frame, (start, stop), (o, j, sample), (width, vectors), fresh=fresh)
            if count % width:
                self._tile(frame, (start, stop), (o, str(count - count % width), sample), (count % width, vectors), fresh=fresh)

    def _tile(self, frame: Frame, terms: tuple[str, str], place: tuple[str, str, str], shape: tuple[int, int], *, fresh: bool) -> None:
        """A tile of results in registers: some elements, for some vectors of samples."""
        function, lanes, (o, j, sample) = frame.function, frame.lanes, place
        of = lanes.float
        samples = [function.plus(sample, str(k * lanes.width)) for k in range(shape[1])]
        columns = [function.plus(j, str(k)) for k in range(shape[0])]
        targets = [function.plus(frame.at(self.target.outer, o), frame.at(self.target.side, column)) for column in columns]
        rights = [function.plus(frame.at(self.right.outer, o), frame.at(self.right.side, column)) for column in columns]
        lefts = [function.plus(frame.at(self.left.outer, o), frame.at(self.left.side, column)) for column in columns]
        cells = [(target, s) for target in targets for s in samples]
        totals = [
            function.variable(of, lanes.number(-0.0 if self.extents[2] else 0.0) if fresh else frame.load(self.target.array, target, s))
            for target, s in cells
        ]
        if self.extents[2]:
            with function.loop(terms[1], 1, terms[0]) as k:
                self._terms(frame, k, lefts, rights, samples, totals)
        for (target, s), total in zip(cells, totals, strict=True):
            frame.store(function.get(of, total), self.target.array, target, s)

    def _terms(
        self, frame: Frame, k: str, lefts: Sequence[str], rights: Sequence[str], samples: Sequence[str], totals: Sequence[str]
    ) -> None:
        """One term of each sum of the tile."""
        function, of = frame.function, frame.lanes.float
        inner, outer = frame.at(self.left.inner, k), frame.at(self.right.inner, k)
        a = _loads(frame, self.left.array, function.plus(lefts[0], inner), samples)
        for column, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            if not self.left.steady and column:
                a = _loads(frame, self.left.array, function.plus(left, inner), samples)
            b = _loads(frame, self.right.array, function.plus(right, outer), samples)
            for number, (x, y) in enumerate(zip(a, b, strict=True)):
                total = totals[column * len(samples) + number]
                function.put(of, frame.lanes.fma(x, y, function.get(of, total)), total)


def _loads(frame: Frame, array: Array, index: str, samples: Sequence[str]) -> list[str]:
    """An element for some vectors of samples; what all samples share is loaded once."""
    if not array.space.per_sample:
        return [frame.load(array, index, samples[0])] * len(samples)
    return [frame.load(array, index, sample) for sample in samples]


@dataclass(frozen=True)
class SampleSum:
    """Sums over samples: target[o, i, j] = sum of left[o, i, k] * right[o, j, k] over samples and k; without `right` of left[o, i] alone.

    If it is paired, right has an i instead of a j. With `first` sums are added to accumulators of eight lanes after each tile; without, all samples
    of a block are added up in registers.
    """

    left: Operand
    right: Operand | None
    extents: tuple[int, int, int, int]
    target: Array
    targets: Operand
    first: int | None
    paired: bool = False

    @classmethod
    def of(cls, lowering: Lowering, node: int, factors_of: Factors, *, blockwise: bool) -> SampleSum:
        """The loops for a sum over samples of these factors."""
        target = lowering.sum_array(node, lowering.graph.shape(node))
        lowering.arrays[node] = target
        first = None if blockwise else lowering.accumulate(target)
        (left, a), right, paired = factors_of
        b = a[:, :1] if right is None or paired else right[1]
        extents = (a.shape[0], a.shape[1], b.shape[1], a.shape[2])
        targets = Operand.of(lowering, target, target.index.reshape(extents[0], extents[1], -1))
        second = None if right is None else Operand.of(lowering, *right)
        return cls(Operand.of(lowering, left, a), second, extents, target, targets, first, paired)

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, Space.TILE)
        outer, rows, columns, _ = self.extents
        height, width = (8, 1) if self.right is None or self.paired else geometry.sum_tile
        with frame.function.loop(str(max(1, outer))) as o:
            for i, tall in _spans(frame, rows if outer else 0, height):
                with i as top:
                    for j, wide in _spans(frame, columns, width):
                        with j as start:
                            self._tile(frame, (o, top, start), (tall, wide))
        frame.function.define(name, SIGNATURE)

    def _tile(self, frame: Frame, place: tuple[str, str, str], shape: tuple[int, int]) -> None:
        function, lanes, o = frame.function, frame.lanes, place[0]
        rows = [function.plus(place[1], str(k)) for k in range(shape[0])]
        columns = [function.plus(place[2], str(k)) for k in range(shape[1])]
        cells = [(o, row, column) for row in rows for column in columns]
        totals = [function.variable(lanes.float, self._start(frame, cell)) for cell in cells]
        lefts = [_index(frame, self.left, o, row) for row in rows]
        rights = [_index(frame, self.right, o, side) for side in (rows if self.paired else columns)] if self.right else []
        if self.first is None:
            with function.loop("%count", frame.geometry.tile) as first:
                frame.first = first
                self._samples(frame, lefts, rights, totals)
            frame.first = "%first"
        else:
            self._samples(frame, lefts, rights, totals)
        values = [eight_lanes(frame, function.get(lanes.float, total)) for total in totals]
        if self.first is None:
            self._finish(frame, cells, values)
            return
        for cell, value in zip(cells, values, strict=True):
            self._keep(frame, self._lane(frame, cell), value)

    def _start(self, frame: Frame, cell: Cell) -> str:
        if self.first is None or frame.lanes.precision is F32:
            return frame.lanes.number(-0.0)
        return frame.function.emit(f"load <8 x double>, ptr {self._lane(frame, cell)}, align 64")

    def _lane(self, frame: Frame, cell: Cell) -> str:
        """Where the accumulator of a sum lies."""
        function, (o, row, column) = frame.function, cell
        row = function.plus(function.times(o, self.extents[1]), row)
        number = function.plus(function.plus(function.times(row, self.extents[2]), column), str(self.first))
        return function.emit(f"getelementptr inbounds double, ptr %lanes, i64 {function.times(number, LANES)}")

    def _samples(self, frame: Frame, lefts: Sequence[str], rights: Sequence[str], totals: Sequence[str]) -> None:
        """All samples of a tile: whole vectors, then the last one with the lanes that hold samples."""
        function, width = frame.function, frame.lanes.width
        rest = function.emit(f"sub nsw i64 %count, {frame.first}")
        below = function.emit(f"icmp slt i64 {rest}, {frame.geometry.tile}")
        limit = function.emit(f"select i1 {below}, i64 {rest}, i64 {frame.geometry.tile}")
        whole = function.emit(f"and i64 {limit}, -{width}")
        with function.when(function.emit(f"icmp sgt i64 {whole}, 0")), function.loop(whole, width) as sample:
            self._terms(frame, sample, lefts, rights, totals, None)
        with function.when(function.emit(f"icmp slt i64 {whole}, {limit}")):
            self._terms(frame, whole, lefts, rights, totals, self._mask(frame, whole))

    def _mask(self, frame: Frame, sample: str) -> str:
        """Which lanes hold samples."""
        function, lanes = frame.function, frame.lanes
        numbers = "<" + ", ".join(f"i64 {k}" for k in range(lanes.width)) + ">"
        rest = function.emit(f"sub nsw i64 %count, {function.plus(frame.first, sample)}")
        return function.emit(f"icmp slt {lanes.index} {numbers}, {frame.splat('i', rest)}")

    def _terms(
        self, frame: Frame, sample: str, lefts: Sequence[str], rights: Sequence[str], totals: Sequence[str], mask: str | None
    ) -> None:
        """What one vector of samples adds to each sum of the tile."""
        depth = self.extents[3]
        if depth == 1:
            self._products(frame, "0", sample, lefts, rights, totals, mask)
        elif depth:
            with frame.function.loop(str(depth)) as k:
                self._products(frame, k, sample, lefts, rights, totals, mask)

    def _products(
        self, frame: Frame, k: str, sample: str, lefts: Sequence[str], rights: Sequence[str], totals: Sequence[str], mask: str | None
    ) -> None:
        left = [_element(frame, self.left, start, k, sample) for start in lefts]
        right = [_element(frame, self.right, start, k, sample) for start in rights] if self.right else []
        wide = max(1, len(totals) // len(left))
        for number, total in enumerate(totals):
            y = right[number if self.paired else number % wide] if right else None
            self._accumulate(frame, total, left[number // wide], y, mask)

    def _accumulate(self, frame: Frame, total: str, x: str, y: str | None, mask: str | None) -> None:
        function, lanes = frame.function, frame.lanes
        before = function.get(lanes.float, total)
        after = lanes.fma(x, y, before) if y else lanes.add(before, x)
        function.put(lanes.float, lanes.select(mask, after, before) if mask else after, total)

    def _keep(self, frame: Frame, place: str, value: str) -> None:
        """Lanes go back to their accumulator, from which an f64 sum started and to which an f32 sum is added."""
        function = frame.function
        if frame.lanes.precision is F32:
            value = function.emit(f"fadd <8 x double> {function.emit(f'load <8 x double>, ptr {place}, align 64')}, {value}")
        function.do(f"store <8 x double> {value}, ptr {place}, align 64")

    def _finish(self, frame: Frame, cells: Sequence[Cell], values: Sequence[str]) -> None:
        """Adds lanes up and writes the results: eight sums at a time, side by side."""
        function = frame.function
        single = Frame(function, Lanes(function, F64, 1), frame.geometry)
        for start in range(0, len(values), LANES):
            for (o, row, column), value in zip(cells[start:], _folded(frame, values[start : start + LANES]), strict=False):
                index = function.plus(_index(frame, self.targets, o, row), frame.at(self.targets.inner, column))
                single.store(value, self.target, index, "0")


def _folded(frame: Frame, values: Sequence[str]) -> list[str]:
    """The sums of lanes, in the order of `fold_lanes`: pairs of vectors are folded into one, until one holds a sum in each lane."""
    function, width, vectors = frame.function, LANES, list(values)
    if len(vectors) < LANES:
        return [fold_lanes(function, value) for value in vectors]
    while width > 1:
        groups = range(0, LANES, width)
        lower = [start + k for start in groups for k in range(width // 2)]
        vectors = [_halves_added(frame, a, b, lower, width // 2) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
        width //= 2
    return [function.emit(f"extractelement <8 x double> {vectors[0]}, i64 {k}") for k in range(LANES)]


def _halves_added(frame: Frame, a: str, b: str, lower: Sequence[int], distance: int) -> str:
    """The lower lanes of two vectors plus the lanes at a distance above them."""
    function, parts = frame.function, []
    for start in (0, distance):
        lanes = [start + k for k in lower] + [LANES + start + k for k in lower]
        mask = ", ".join(f"i32 {k}" for k in lanes)
        parts.append(function.emit(f"shufflevector <8 x double> {a}, <8 x double> {b}, <8 x i32> <{mask}>"))
    return function.emit(f"fadd <8 x double> {parts[0]}, {parts[1]}")


def _index(frame: Frame, operand: Operand, o: str, side: str) -> str:
    """The part of an index that does not depend on k."""
    return frame.function.plus(frame.at(operand.outer, o), frame.at(operand.side, side))


def _element(frame: Frame, operand: Operand, start: str, k: str, sample: str) -> str:
    return frame.load(operand.array, frame.function.plus(start, frame.at(operand.inner, k)), sample)


def _spans(frame: Frame, count: int, step: int) -> Iterator[tuple[AbstractContextManager[str], int]]:
    """Loops over a range in steps, and what is left."""
    if count >= step:
        yield frame.function.loop(str(count - count % step), step), step
    if count % step:
        yield nullcontext(str(count - count % step)), count % step


def summed_alone(lowering: Lowering, node: int) -> Factors:
    """A sum over samples of an array."""
    array = lowering.arrays[node]
    return (array, array.index.reshape(1, -1, 1)), None, False


def summed_matmul(lowering: Lowering, operands: Sequence[int]) -> Factors:
    """A sum over samples of a matrix product."""
    left, a, right, b = factors(lowering, operands)
    return (left, a), (right, b), False


def summed_product(lowering: Lowering, product: int, operands: Sequence[int]) -> Factors:
    """A sum over samples of an elementwise product: of rows and columns if each operand varies along one of the last two axes, else of pairs."""
    shape = lowering.graph.shape(product)
    left, right = lowering.arrays[operands[0]], lowering.arrays[operands[-1]]
    a, b = (np.broadcast_to(array.index, shape) for array in (left, right))
    for first, second, x, y in ((left, right, a, b), (right, left, b, a)):
        if len(shape) >= 2 and _repeats(x, -1) and _repeats(y, -2):
            rows, columns = x[..., :1].reshape(-1, shape[-2], 1), y[..., :1, :].reshape(-1, shape[-1], 1)
            return (first, rows), (second, columns), False
    return (left, a.reshape(1, -1, 1)), (right, b.reshape(1, -1, 1)), True


def _repeats(index: Indices, axis: int) -> bool:
    """Whether indices are the same along an axis."""
    return bool(np.all(index == index.take([0], axis=axis)))
