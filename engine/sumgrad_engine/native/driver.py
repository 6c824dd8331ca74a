"""The functions of a kernel that are called from outside: they run the steps over blocks and add the blocks' sums up in the fixed tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..blocks import BLOCK
from .lanes import F64, Function, Lanes, Module
from .storage import ARGUMENTS, LANES, POINTERS, SIGNATURE, Array, Frame, Geometry, Ramp, Space

PADDING = 64
"""Samples that any loop takes at a time at most: a tile has no fewer."""
RUN_POINTERS = (*POINTERS, "bases", "tails", "targets", "slots")
RUN_SIGNATURE = (*(("ptr", f"%{p}") for p in RUN_POINTERS), ("i64", "%samples"))
"""Parameters of `run`: arrays of pointers to inputs, to their padded last rows and to results, and room for vectors of sums."""
_SUM = Array(Space.SUMS, "f", np.zeros(0, np.int64))


@dataclass(frozen=True)
class Driver:
    """What the outer functions need to know."""

    geometry: Geometry
    steps: Mapping[str, Sequence[str]]
    """Names of the steps of each stage: shared, tile, block, sums."""
    accumulators: Sequence[tuple[int, Array]]
    zeroed: Sequence[Array]
    """Sums that start at 0 in every block."""
    collected: Sequence[tuple[int, Ramp, int]]
    """Where the elements of the result lie among the sums: from which element on, so many."""
    width: int
    input_bytes: Ramp
    """Bytes of a sample of each input."""
    inputs: int
    output_bytes: Ramp
    outputs: int

    def emit(self, module: Module) -> None:
        """Defines `prepare`, for what all samples share, and `run`, for some blocks."""
        calls = [f"call void @{name}({ARGUMENTS})" for name in self.steps["shared"]]
        module.define("prepare", "void", SIGNATURE, [*calls, "ret void"], "nounwind")
        function = Function(module)
        _Run(self, function).run()
        module.define("run", "void", RUN_SIGNATURE, function.lines, "nounwind")


class _Run:
    """The loop over blocks."""

    def __init__(self, driver: Driver, function: Function) -> None:
        self.driver, self.function = driver, function
        self.frame = Frame(function, Lanes(function, F64, 1), driver.geometry)
        self.padded = -(-driver.width // LANES) * LANES

    def run(self) -> None:
        function = self.function
        depth = function.emit("alloca i64")
        function.do(f"store i64 0, ptr {depth}")
        with function.loop("%samples", BLOCK) as first:
            rest = function.emit(f"sub nsw i64 %samples, {first}")
            function.module.declarations["llvm.smin.i64"] = "declare i64 @llvm.smin.i64(i64, i64)"
            self._block(first, function.emit(f"call i64 @llvm.smin.i64(i64 {rest}, i64 {BLOCK})"))
            self._push(first, depth)
        self._finish(depth)
        function.do("ret void")

    def _block(self, first: str, count: str) -> None:
        self._point(first, count)
        self._clear()
        driver, function = self.driver, self.function
        with function.loop(count, driver.geometry.tile) as sample:
            self._call(driver.steps["tile"], sample, count)
        self._call(driver.steps["block"], "0", count)
        for number, array in driver.accumulators:
            self._reduce(number, array)
        self._call(driver.steps["sums"], "0", count)

    def _call(self, names: Sequence[str], first: str, count: str) -> None:
        pointers = ", ".join(f"ptr %{p}" for p in POINTERS)
        for name in names:
            self.function.do(f"call void @{name}({pointers}, i64 {first}, i64 {count})")

    def _point(self, first: str, count: str) -> None:
        """Rows of this block: those of the arrays, or of the padded copies that a last block of odd length has."""
        function, driver = self.function, self.driver
        odd = function.emit(f"icmp ne i64 {function.emit(f'and i64 {count}, {driver.geometry.precision.lanes - 1}')}, 0")
        if driver.inputs:
            with function.loop(str(driver.inputs)) as k:
                moved = self._moved("%bases", k, driver.input_bytes, first)
                tail = function.emit(f"load ptr, ptr {self._entry('%tails', k)}, align 8")
                function.do(
                    f"store ptr {function.emit(f'select i1 {odd}, ptr {tail}, ptr {moved}')}, ptr {self._entry('%inputs', k)}, align 8"
                )
        if driver.outputs:
            with function.loop(str(driver.outputs)) as k:
                moved = self._moved("%targets", k, driver.output_bytes, first)
                function.do(f"store ptr {moved}, ptr {self._entry('%outputs', k)}, align 8")

    def _entry(self, table: str, k: str) -> str:
        return self.function.emit(f"getelementptr inbounds ptr, ptr {table}, i64 {k}")

    def _moved(self, table: str, k: str, row_bytes: Ramp, first: str) -> str:
        function = self.function
        base = function.emit(f"load ptr, ptr {self._entry(table, k)}, align 8")
        offset = function.emit(f"mul nsw i64 {self.frame.at(row_bytes, k)}, {first}")
        return function.emit(f"getelementptr inbounds i8, ptr {base}, i64 {offset}")

    def _clear(self) -> None:
        """Sums start at -0.0, which changes no sum; those that are scattered into start at 0.0, as the op says."""
        function = self.function
        count = sum(array.index.size for _, array in self.driver.accumulators)
        if count:
            with function.loop(str(count * LANES), LANES) as k:
                place = function.emit(f"getelementptr inbounds double, ptr %lanes, i64 {k}")
                function.do(f"store <8 x double> splat (double -0.0), ptr {place}, align 64")
        for array in self.driver.zeroed:
            if array.index.size == 0:
                continue
            with function.loop(str(array.index.size)) as k:
                self.frame.store(self.frame.lanes.number(0.0), array, function.plus(k, str(int(array.index.flat[0]))), "0")

    def _reduce(self, number: int, array: Array) -> None:
        """Eight lanes to one sum: the upper half is added onto the lower until one is left."""
        function = self.function
        if array.index.size == 0:
            return
        with function.loop(str(array.index.size)) as k:
            lane = function.times(function.plus(k, str(number)), LANES)
            value = function.emit(
                f"load <8 x double>, ptr {function.emit(f'getelementptr inbounds double, ptr %lanes, i64 {lane}')}, align 64"
            )
            self.frame.store(fold_lanes(function, value), array, function.plus(k, str(int(array.index.flat[0]))), "0")

    def _slot(self, index: str) -> str:
        return self.function.emit(f"getelementptr inbounds double, ptr %slots, i64 {self.function.times(index, self.padded)}")

    def _push(self, first: str, depth: str) -> None:
        """Puts the block's vector on the stack, and adds vectors that hold equally many blocks."""
        function, driver = self.function, self.driver
        level = function.emit(f"load i64, ptr {depth}")
        slot = self._slot(level)
        for start, ramp, count in driver.collected:
            self._collect(slot, start, ramp, count)
        function.do(f"store i64 {function.plus(level, '1')}, ptr {depth}")
        number = function.plus(function.emit(f"lshr i64 {first}, {BLOCK.bit_length() - 1}"), "1")
        trailing = function.emit(f"call i64 @llvm.cttz.i64(i64 {number}, i1 true)")
        function.module.declarations["llvm.cttz.i64"] = "declare i64 @llvm.cttz.i64(i64, i1 immarg)"
        self._merge(depth, trailing)

    def _collect(self, slot: str, start: int, ramp: Ramp, count: int) -> None:
        """Copies sums that lie one after another eight at a time, others one by one."""
        function = self.function
        whole = count - count % LANES if ramp.table is None and ramp.stride == 1 else 0
        for begin, end, width in ((0, whole, LANES), (whole, count, 1)):
            if begin < end:
                of = "double" if width == 1 else f"<{width} x double>"
                with function.loop(str(end), width, str(begin)) as k:
                    source = self.frame.address(_SUM, self.frame.at(ramp, k), "0")
                    value = function.emit(f"load {of}, ptr {source}, align 8")
                    target = function.emit(f"getelementptr inbounds double, ptr {slot}, i64 {function.plus(k, str(start))}")
                    function.do(f"store {of} {value}, ptr {target}, align 8")

    def _finish(self, depth: str) -> None:
        level = self.function.emit(f"load i64, ptr {depth}")
        self._merge(depth, self.function.emit(f"sub nsw i64 {level}, 1"))

    def _merge(self, depth: str, times: str) -> None:
        """Adds the last vector of the stack onto the one before it, so many times."""
        function = self.function
        inside, after = function.label(), function.label()
        function.do(f"br i1 {function.emit(f'icmp sgt i64 {times}, 0')}, label %{inside}, label %{after}")
        function.start(inside)
        with function.loop(times):
            level = function.emit(f"sub nsw i64 {function.emit(f'load i64, ptr {depth}')}, 1")
            function.do(f"store i64 {level}, ptr {depth}")
            self._add(self._slot(function.emit(f"sub nsw i64 {level}, 1")), self._slot(level))
        function.do(f"br label %{after}")
        function.start(after)

    def _add(self, target: str, source: str) -> None:
        function = self.function
        with function.loop(str(max(self.padded, LANES)), LANES) as k:
            places = [function.emit(f"getelementptr inbounds double, ptr {slot}, i64 {k}") for slot in (target, source)]
            values = [function.emit(f"load <8 x double>, ptr {place}, align 8") for place in places]
            function.do(f"store <8 x double> {function.emit(f'fadd <8 x double> {values[0]}, {values[1]}')}, ptr {places[0]}, align 8")


def fold_lanes(function: Function, value: str) -> str:
    """The sum of eight lanes in the fixed order."""
    width = LANES
    while width > 1:
        half = width // 2
        parts = []
        for start in (0, half):
            mask = ", ".join(f"i32 {start + k}" for k in range(half))
            parts.append(function.emit(f"shufflevector <{width} x double> {value}, <{width} x double> poison, <{half} x i32> <{mask}>"))
        value = function.emit(f"fadd <{half} x double> {parts[0]}, {parts[1]}")
        width = half
    return function.emit(f"extractelement <1 x double> {value}, i64 0")
