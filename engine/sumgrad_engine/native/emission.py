"""The code of cells for one vector of samples: what pieces and loops over elements have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from ..ops.arithmetic import add, cast_float, multiply, square, subtract, where
from .cells import Cell, Cells
from .lanes import F32, F64, Lanes
from .storage import LANES, Frame

EIGHT = f"<{LANES} x double>"
"""The lanes of a sum over samples."""

Load = Callable[[Cell], str]
Store = Callable[[str], None]


class Emission:
    """Emits cells in order. `load` gives the register of what lies in memory; `stores` say what to do with the values of cells."""

    def __init__(
        self,
        code: Cells,
        frame: Frame,
        sample: str,
        load: Load,
        stores: Mapping[int, Sequence[Store]],
        accumulators: Mapping[int, str] = {},
    ) -> None:
        self.code, self.frame, self.sample, self.load, self.stores = code, frame, sample, load, stores
        self.accumulators = accumulators
        """The variables of sums over samples, by their numbers."""
        self.cells = code.cells
        self.lanes, self.function = frame.lanes, frame.function
        self.values: dict[int, str] = {}
        self.uses = Counter(k for cell in self.cells for k in cell.operands)
        self.uses.update({cell: len(found) for cell, found in stores.items()})
        self.uses.update(k for terms, _ in code.sums for k in terms)
        added = {k for cell in self.cells if cell.op in (add, subtract) for k in cell.operands}
        self.added = added.union(terms[0] for terms, _ in code.sums if len(terms) == 1)

    def run(self) -> None:
        """Emits all of it."""
        self._check()
        for number, cell in enumerate(self.cells):
            if self.uses[number] and not self._waits(number) and cell.kind in ("op", "fma", "index"):
                self.values[number] = self._compute(cell)
            for store in self.stores.get(number, ()):
                store(self.value(number))
        if self.code.sums:
            self._sum()

    def value(self, number: int) -> str:
        """A cell's register. What lies in memory is loaded at each use: that is cheaper than a register."""
        cell = self.cells[number]
        if cell.kind == "load":
            return self.load(cell)
        if cell.kind == "constant":
            return self._constant(cell)
        if number not in self.values:
            self.values[number] = self._compute(cell)
        return self.values[number]

    def _constant(self, cell: Cell) -> str:
        if cell.letter == "f":
            return self.lanes.number(cell.value)
        return self.lanes.position(int(cell.value)) if cell.letter == "i" else self.lanes.truth(bool(cell.value))

    def _waits(self, number: int) -> bool:
        """Whether a cell is a product that is only added to something: the two are rounded together."""
        return self.uses[number] == 1 and self.cells[number].op in (multiply, square) and number in self.added

    def _factors(self, number: int) -> tuple[str, str] | None:
        """The factors of a product that is not computed by itself."""
        if not self._waits(number) or number in self.values:
            return None
        operands = self.cells[number].operands
        left = self.value(operands[0])
        return (left, left) if self.cells[number].op is square else (left, self.value(operands[1]))

    def _compute(self, cell: Cell) -> str:
        lanes = self.lanes
        if cell.kind == "index":
            return self.function.emit(f"icmp eq {lanes.index} {self.value(cell.operands[0])}, {lanes.position(int(cell.value))}")
        if cell.kind == "fma":
            return lanes.fma(*[self.value(k) for k in cell.operands])
        assert cell.op is not None
        if cell.op in (add, subtract):
            return self._sum_of_two(cell)
        values = [self.value(k) for k in cell.operands]
        if cell.op is cast_float:
            return self._as_float(cell.operands[0], values[0])
        if cell.op is where and cell.letter != "f":
            of = self.frame.vector(cell.letter)
            return self.function.emit(f"select {lanes.bool} {values[0]}, {of} {values[1]}, {of} {values[2]}")
        return cell.op.emitted(lanes, values, dict(cell.attributes))

    def _sum_of_two(self, cell: Cell) -> str:
        """A sum or difference, rounded once with a product if one of its terms is one."""
        lanes, (left, right) = self.lanes, cell.operands
        product = self._factors(right)
        if product:
            a, b = product
            return lanes.fma(a if cell.op is add else lanes.neg(a), b, self.value(left))
        product = self._factors(left)
        if product:
            other = self.value(right)
            return lanes.fma(*product, other if cell.op is add else lanes.neg(other))
        assert cell.op is not None
        return cell.op.emitted(lanes, [self.value(left), self.value(right)])

    def _as_float(self, operand: int, value: str) -> str:
        letter = self.cells[operand].letter
        if letter == "f":
            return value
        return self.lanes.from_index(value) if letter == "i" else self.lanes.from_bool(value)

    def _check(self) -> None:
        """Raises the flag if an index is out of range."""
        for index, extent in self.code.checks:
            raise_flag(self.frame, self.value(index), extent)

    def _sum(self) -> None:
        valid = [lane_mask(self.frame, self.function.plus(self.sample, str(k))) for k in range(0, self.lanes.width, LANES)]
        narrow = narrow_sums(self.code, self.lanes)
        all_valid = self._joined(valid) if narrow else ""
        for terms, accumulator in self.code.sums:
            variable = self.accumulators[accumulator]
            if accumulator in narrow:
                before = self.function.get(self.lanes.float, variable)
                after = self.lanes.fma(self.value(terms[0]), self.value(terms[1]), before)
                self.function.put(self.lanes.float, self.lanes.select(all_valid, after, before), variable)
            else:
                total = self._accumulate(self.function.get(EIGHT, variable), terms, valid)
                self.function.put(EIGHT, total, variable)

    def _joined(self, halves: Sequence[str]) -> str:
        """Two masks of eight lanes as one of sixteen."""
        numbers = ", ".join(f"i32 {k}" for k in range(2 * LANES))
        return self.function.emit(f"shufflevector <8 x i1> {halves[0]}, <8 x i1> {halves[1]}, <16 x i32> <{numbers}>")

    def _accumulate(self, total: str, terms: tuple[int, ...], valid: Sequence[str]) -> str:
        """Adds a term, or a product, of each sample to the eight lanes: of the first eight samples, then of the next eight."""
        factors = (self.value(terms[0]), self.value(terms[1])) if len(terms) == 2 else self._factors(terms[0])
        eight = Lanes(self.function, F64, LANES)
        if self.lanes.precision is F32:
            factors, value = None, self.lanes.mul(*factors) if factors else self.value(terms[0])
            terms_of = [(part,) for part in self._eights(value)]
        elif factors:
            terms_of = list(zip(*map(self._eights, factors), strict=True))
        else:
            terms_of = [(part,) for part in self._eights(self.value(terms[0]))]
        for parts, mask in zip(terms_of, valid, strict=True):
            added = eight.fma(*parts, total) if len(parts) == 2 else eight.add(total, parts[0])
            total = eight.select(mask, added, total)
        return total

    def _eights(self, value: str) -> list[str]:
        """A vector in pieces of eight samples, in f64."""
        lanes, function = self.lanes, self.function
        parts = []
        for start in range(0, lanes.width, LANES):
            mask = ", ".join(f"i32 {start + k}" for k in range(LANES))
            of = lanes.precision.float
            part = (
                function.emit(f"shufflevector {lanes.float} {value}, {lanes.float} poison, <8 x i32> <{mask}>")
                if lanes.width > LANES
                else value
            )
            parts.append(part if of == "double" else function.emit(f"fpext <8 x {of}> {part} to <8 x double>"))
        return parts


def lane_mask(frame: Frame, sample: str) -> str:
    """Which of eight lanes hold samples: the last vector of a block may have fewer."""
    function = frame.function
    eight = Frame(function, Lanes(function, F64, LANES), frame.geometry)
    numbers = "<" + ", ".join(f"i64 {k}" for k in range(LANES)) + ">"
    rest = function.emit(f"sub nsw i64 %count, {function.plus('%first', sample)}")
    return function.emit(f"icmp slt <8 x i64> {numbers}, {eight.splat('i', rest)}")


def narrow_sums(code: Cells, lanes: Lanes) -> set[int]:
    """Sums of products that are added up in f32 for the time of a tile: at most 32 terms a lane."""
    if lanes.precision is F64 or lanes.width == 1:
        return set()
    return {accumulator for _, accumulator in code.sums} - {accumulator for terms, accumulator in code.sums if len(terms) != 2}


def eight_lanes(frame: Frame, total: str) -> str:
    """The eight lanes of a sum, in f64: of sixteen f32 lanes the upper half is added onto the lower."""
    if frame.lanes.precision is F64:
        return total
    function, parts = frame.function, []
    for start in (0, LANES):
        mask = ", ".join(f"i32 {start + k}" for k in range(LANES))
        parts.append(function.emit(f"shufflevector <16 x float> {total}, <16 x float> poison, <8 x i32> <{mask}>"))
    return function.emit(f"fpext <8 x float> {function.emit(f'fadd <8 x float> {parts[0]}, {parts[1]}')} to <8 x double>")


def raise_flag(frame: Frame, index: str, extent: int) -> None:
    """Notes in %flags that an index is not in 0..extent-1."""
    function, lanes = frame.function, frame.lanes
    wrong = lanes.any(function.emit(f"icmp uge {lanes.index} {index}, {lanes.position(extent)}"))
    before = function.emit("load i8, ptr %flags, align 1")
    after = function.emit(f"or i8 {before}, {function.emit(f'zext i1 {wrong} to i8')}")
    function.do(f"store i8 {after}, ptr %flags, align 1")
