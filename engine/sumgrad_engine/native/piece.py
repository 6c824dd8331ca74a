"""Straight-line code: the cells of some nodes, for a vector of samples at a time, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from .cells import Cell, Cells
from .emission import EIGHT, Emission, Store, eight_lanes, narrow_sums
from .lanes import F64, Function, Lanes, Module
from .storage import LANES, SIGNATURE, Array, Frame, Geometry, Space


def frame_of(module: Module, geometry: Geometry, space: Space) -> Frame:
    """The frame of a step's function: vectors of samples, or single values of what all samples share; what follows from sums is f64, as they are."""
    function = Function(module)
    if space.per_sample:
        return Frame(function, Lanes(function, geometry.precision, geometry.precision.lanes), geometry)
    return Frame(function, Lanes(function, F64 if space is Space.SUMS else geometry.precision, 1), geometry)


@dataclass(frozen=True)
class Piece:
    """Cells of one stage, and which of them are written where."""

    cells: Cells
    stores: Sequence[tuple[int, Array, int]]
    """(cell, array, number of the element in its space)"""
    space: Space

    def emit(self, module: Module, geometry: Geometry, name: str) -> None:
        """Defines the function of this step."""
        frame = frame_of(module, geometry, self.space)
        narrow = narrow_sums(self.cells, frame.lanes)
        sums = {accumulator: _variable(frame, accumulator, narrow) for _, accumulator in self.cells.sums}
        with frame.samples() as sample:

            def load(cell: Cell) -> str:
                # What lies in memory is loaded at each use: that is cheaper than a register.
                assert cell.array is not None
                return frame.load(cell.array, str(cell.element), sample)

            stores: dict[int, list[Store]] = {}
            for cell, array, element in self.stores:
                stores.setdefault(cell, []).append(partial(frame.store, array=array, index=str(element), sample=sample))
            Emission(self.cells, frame, sample, load, stores, sums).run()
        for accumulator, variable in sums.items():
            _keep(frame, accumulator, variable, narrow)
        frame.function.define(name, SIGNATURE)


def accumulator_place(frame: Frame, accumulator: int) -> str:
    """Where the lanes of a sum over samples lie."""
    return frame.function.emit(f"getelementptr inbounds i8, ptr %lanes, i64 {accumulator * LANES * 8}")


def _variable(frame: Frame, accumulator: int, narrow: set[int]) -> str:
    """The lanes of a sum in a variable, for the time of a loop."""
    function = frame.function
    if accumulator in narrow:
        return function.variable(frame.lanes.float, frame.lanes.number(-0.0))
    return function.variable(EIGHT, function.get(EIGHT, accumulator_place(frame, accumulator)))


def _keep(frame: Frame, accumulator: int, variable: str, narrow: set[int]) -> None:
    """Writes the lanes of a sum back; those of a tile in f32 are added."""
    function, place = frame.function, accumulator_place(frame, accumulator)
    if accumulator in narrow:
        lanes = eight_lanes(frame, function.get(frame.lanes.float, variable))
        function.put(EIGHT, function.emit(f"fadd {EIGHT} {function.get(EIGHT, place)}, {lanes}"), place)
    else:
        function.put(EIGHT, function.get(EIGHT, variable), place)
