"""Loops for choosing by integers: take, scatter_add and one_hot over large arrays.

An index that is out of range raises the flag and is replaced by 0, so that nothing outside the array is touched; the caller then has the reference
evaluator say which sample it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..ir import Row
from ..ops.indexing import scatter_add_samples
from .emission import raise_flag
from .lanes import F64, Lanes, Module
from .piece import frame_of
from .storage import SIGNATURE, Array, Frame, Geometry, Indices, Ramp, Space

if TYPE_CHECKING:
    from .lower import Lowering


def _checked(frame: Frame, index: str, extent: int, sample: str) -> str:
    """The index where it is in range, else 0; lanes that hold no sample are not looked at."""
    function, lanes = frame.function, frame.lanes
    if lanes.width > 1:
        numbers = "<" + ", ".join(f"i64 {k}" for k in range(lanes.width)) + ">"
        rest = function.emit(f"sub nsw i64 %count, {function.plus(frame.first, sample)}")
        holds = function.emit(f"icmp slt {lanes.index} {numbers}, {frame.splat('i', rest)}")
        index = function.emit(f"select {lanes.bool} {holds}, {lanes.index} {index}, {lanes.index} {lanes.position(0)}")
    raise_flag(frame, index, extent)
    inside = function.emit(f"icmp ult {lanes.index} {index}, {lanes.position(extent)}")
    return function.emit(f"select {lanes.bool} {inside}, {lanes.index} {index}, {lanes.index} {lanes.position(0)}")


def _lane(frame: Frame, letter: str, value: str, lane: int) -> str:
    """One lane of a value."""
    if frame.lanes.width == 1:
        return value
    return frame.function.emit(f"extractelement {frame.vector(letter)} {value}, i64 {lane}")


def _one(frame: Frame, space: Space) -> Frame:
    """The frame that loads and stores one element of one sample."""
    precision = F64 if space is Space.SUMS else frame.geometry.precision
    single = Frame(frame.function, Lanes(frame.function, precision, 1), frame.geometry)
    single.first = frame.first
    return single


@dataclass(frozen=True)
class Take:
    """target[i, r] = source[index[i], r]."""

    source: Array
    entries: Ramp
    rest: Ramp
    index: Array
    indices: Ramp
    extents: tuple[int, int, int]
    """Indices, elements of an entry, and entries to choose from."""
    target: Array
    targets: Ramp

    @classmethod
    def of(cls, lowering: Lowering, row: Row) -> Take:
        """The loop for a take; the result is laid out index by index."""
        node, _, operands, attributes = row
        (axis,) = attributes["axis"]
        source, index = lowering.arrays[operands[0]], lowering.arrays[operands[1]]
        table = np.moveaxis(source.index, axis, 0).reshape(source.shape[axis], -1)
        source, entries, rest = lowering.separated(source, table)
        target = lowering.result(node)
        rank = index.index.ndim
        ordered = np.moveaxis(target.index, range(axis, axis + rank), range(rank)).reshape(index.index.size, -1)
        storage = lowering.storage
        extents = (index.index.size, table.shape[1], table.shape[0])
        return cls(source, entries, rest, index, Ramp.of(index.index, storage), extents, target, Ramp.of(ordered, storage))

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.target.space)
        function = frame.function
        if self.extents[0] and self.extents[1]:
            with function.loop(str(self.extents[0])) as i:
                place = frame.at(self.indices, i)
                with frame.samples() as sample:
                    chosen = _checked(frame, frame.load(self.index, place, sample), self.extents[2], sample)
                    with function.loop(str(self.extents[1])) as r:
                        target = frame.at(self.targets, function.plus(function.times(i, self.extents[1]), r))
                        frame.store(self._gathered(frame, chosen, r, sample), self.target, target, sample)
        function.define(name, SIGNATURE)

    def _gathered(self, frame: Frame, chosen: str, r: str, sample: str) -> str:
        function, letter = frame.function, self.source.letter
        one, rest, result = _one(frame, self.source.space), frame.at(self.rest, r), "poison"
        for lane in range(frame.lanes.width):
            entry = frame.at(self.entries, _lane(frame, "i", chosen, lane))
            value = one.load(self.source, function.plus(entry, rest), function.plus(sample, str(lane)))
            if frame.lanes.width == 1:
                return value
            of = {"f": one.lanes.precision.float, "i": "i64", "b": "i1"}[letter]
            result = function.emit(f"insertelement {frame.vector(letter)} {result}, {of} {value}, i64 {lane}")
        return result


@dataclass(frozen=True)
class Scatter:
    """target[index[i], r] += source[i, r], sample after sample where the target is a sum over samples."""

    source: Array
    sources: Ramp
    index: Array
    indices: Ramp
    extents: tuple[int, int, int]
    target: Array
    entries: Ramp
    rest: Ramp

    @classmethod
    def of(cls, lowering: Lowering, row: Row) -> Scatter:
        """The loop for a scatter_add."""
        node, op, operands, attributes = row
        (axis,), storage = attributes["axis"], lowering.storage
        source, index = lowering.arrays[operands[0]], lowering.arrays[operands[1]]
        if op is scatter_add_samples:
            target = lowering.sum_array(node, lowering.graph.shape(node))
            lowering.arrays[node] = target
        else:
            target = lowering.result(node)
        rank = index.index.ndim
        ordered = np.moveaxis(source.index, range(axis, axis + rank), range(rank)).reshape(index.index.size, -1)
        table = np.moveaxis(target.index, axis, 0).reshape(attributes["extent"][0], -1)
        extents = (index.index.size, ordered.shape[1] if ordered.size else 0, table.shape[0])
        entries, rest = _table_ramps(table, lowering)
        return cls(source, Ramp.of(ordered, storage), index, Ramp.of(index.index, storage), extents, target, entries, rest)

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        summed = self.target.space is Space.SUMS and (self.source.space.per_sample or self.index.space.per_sample)
        frame = frame_of(module, geometry, Space.TILE if summed else self.target.space)
        function = frame.function
        if self.extents[0] and self.extents[1]:
            with frame.samples() as sample, function.loop(str(self.extents[0])) as i:
                loaded = frame.load(self.index, frame.at(self.indices, i), sample)
                chosen = _checked(frame, loaded, self.extents[2], sample)
                with function.loop(str(self.extents[1])) as r:
                    source = frame.at(self.sources, function.plus(function.times(i, self.extents[1]), r))
                    self._add(frame, frame.load(self.source, source, sample), chosen, r, sample)
        function.define(name, SIGNATURE)

    def _add(self, frame: Frame, value: str, chosen: str, r: str, sample: str) -> None:
        function, one, rest = frame.function, _one(frame, self.target.space), frame.at(self.rest, r)
        for lane in range(frame.lanes.width):
            place = function.plus(frame.at(self.entries, _lane(frame, "i", chosen, lane)), rest)
            at = function.plus(sample, str(lane))
            item = _lane(frame, "f", value, lane)
            if one.lanes.precision is not frame.lanes.precision:
                item = function.emit(f"fpext float {item} to double")
            if frame.lanes.width > 1:
                row = function.plus(frame.first, at)
                item = one.lanes.select(function.emit(f"icmp slt i64 {row}, %count"), item, one.lanes.number(-0.0))
            one.store(one.lanes.add(one.load(self.target, place, at), item), self.target, place, at)


def _table_ramps(table: Indices, lowering: Lowering) -> tuple[Ramp, Ramp]:
    """Where entries and their elements lie; arrays that were just made are regular."""
    if not table.size:
        return Ramp(0, 0), Ramp(0, 0)
    return Ramp.of(table[:, 0], lowering.storage), Ramp.of(table[0] - table[0, 0], lowering.storage)


@dataclass(frozen=True)
class OneHot:
    """target[i, e] = 1 where index[i] is e, else 0."""

    index: Array
    indices: Ramp
    extent: int
    target: Array
    targets: Ramp

    @classmethod
    def of(cls, lowering: Lowering, row: Row) -> OneHot:
        """The loop for a one_hot."""
        node, _, operands, attributes = row
        index, target = lowering.arrays[operands[0]], lowering.result(node)
        storage = lowering.storage
        return cls(index, Ramp.of(index.index, storage), attributes["extent"][0], target, Ramp.of(target.index, storage))

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.target.space)
        function, lanes = frame.function, frame.lanes
        if self.index.index.size:
            with function.loop(str(self.index.index.size)) as i:
                place = frame.at(self.indices, i)
                with frame.samples() as sample:
                    index = _checked(frame, frame.load(self.index, place, sample), self.extent, sample)
                    with function.loop(str(self.extent)) as e:
                        hit = function.emit(f"icmp eq {lanes.index} {index}, {frame.splat('i', e)}")
                        target = frame.at(self.targets, function.plus(function.times(i, self.extent), e))
                        frame.store(lanes.from_bool(hit), self.target, target, sample)
        function.define(name, SIGNATURE)
