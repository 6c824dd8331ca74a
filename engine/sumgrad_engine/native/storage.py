"""Where values lie while a kernel runs, and how generated code addresses them.

A value of the graph is an `Array`: indices of elements in a space. Reshaping, slicing, transposing and concatenating are done on the indices, with
the very functions that the reference evaluator applies to data, so they cost nothing at run time.

What differs from sample to sample lies feature-major in tiles: element after element, each with its samples side by side, so that vectors run over
samples whatever the graph looks like.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from ..blocks import BLOCK
from ..types import Shape
from .lanes import F64, Function, Lanes, Precision

Indices = npt.NDArray[np.int64]
LANES = 8
"""Lanes of a sum over samples: sample i of a block is added in lane i % 8. Part of the definition of a result, whatever the machine's vectors are."""


class Space(Enum):
    """A region of memory in which elements are numbered."""

    PARAMETERS = "parameters"
    CONSTANTS = "constants"
    SHARED = "shared"  # what all samples share, computed once a call
    ROWS = "rows"  # an input of one element a sample, read in place
    TILE = "tile"  # what differs from sample to sample, for one tile
    BLOCK = "block"  # the same, for all tiles of a block
    SUMS = "sums"  # sums over a block's samples, and what follows from them

    @property
    def per_sample(self) -> bool:
        """Whether each element has a value for each sample."""
        return self in (Space.ROWS, Space.TILE, Space.BLOCK)


@dataclass(frozen=True, eq=False)
class Array:
    """A value of the graph: element k of it is element `index[k]` of a space. `letter` is f, i or b; `leaf` is the input's number for ROWS."""

    space: Space
    letter: str
    index: Indices
    leaf: int = 0

    @property
    def shape(self) -> Shape:
        """Shape for one sample."""
        return self.index.shape

    def moved(self, index: Indices) -> Array:
        """Other elements of the same space."""
        return Array(self.space, self.letter, index, self.leaf)


@dataclass
class Storage:
    """Hands out elements of the spaces; those of tiles are used again."""

    counts: dict[tuple[Space, str], int] = field(default_factory=lambda: defaultdict(int))
    tables: list[Indices] = field(default_factory=list)
    table_length: int = 0
    _free: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))

    def allocate(self, space: Space, letter: str, shape: Shape) -> Array:
        """A new array, its elements in row-major order."""
        count = int(np.prod(shape, dtype=np.int64))
        spare = self._free[letter, count] if space is Space.TILE else None
        first = spare.pop() if spare else self.counts[space, letter]
        if first == self.counts[space, letter]:
            self.counts[space, letter] += count
        return Array(space, letter, np.arange(first, first + count, dtype=np.int64).reshape(shape))

    def release(self, array: Array) -> None:
        """Elements of a tile that are not needed any more."""
        if array.space is Space.TILE and array.index.size:
            self._free[array.letter, array.index.size].append(int(array.index.flat[0]))

    def table(self, values: Indices) -> int:
        """Stores integers that generated code reads; gives the number of the first."""
        self.tables.append(np.ascontiguousarray(values, np.int64).ravel())
        first = self.table_length
        self.table_length += values.size
        return first


@dataclass(frozen=True)
class Ramp:
    """An index as a function of a counter: `first + stride * counter`, or, if there is a table, its entry."""

    first: int
    stride: int
    table: int | None = None

    @classmethod
    def of(cls, indices: Indices, storage: Storage) -> Ramp:
        """The function with these values at 0, 1, 2, ..."""
        flat = indices.ravel()
        first = int(flat[0]) if flat.size else 0
        stride = int(flat[1]) - first if flat.size > 1 else 0
        if flat.size <= 2 or bool(np.all(np.diff(flat) == stride)):
            return cls(first, stride)
        return cls(0, 0, storage.table(flat))


ITEM_BYTES = {"i": 8, "b": 1}


@dataclass(frozen=True)
class Geometry:
    """Sizes that generated code has built in: the precision, samples in a tile, and elements of each space."""

    precision: Precision
    tile: int
    counts: dict[tuple[Space, str], int]
    row_elements: tuple[int, ...]
    """Elements a sample of each input."""
    wide: bool = True
    """Whether the machine has 32 vector registers of 64 bytes, instead of 16 of 32."""

    def product_tile(self, columns: int) -> tuple[int, int]:
        """Elements and vectors of samples that a matrix product of so many columns keeps in registers."""
        if not self.wide:
            return (5, 1) if columns > 1 else (1, 4)
        return (6, 4) if columns > 1 else (1, 64 // self.precision.lanes)

    @property
    def sum_tile(self) -> tuple[int, int]:
        """Rows and columns of a sum over samples that are kept in registers."""
        return (6, 4) if self.wide else (3, 2)

    def item(self, space: Space, letter: str) -> int:
        """Bytes of one element of one sample."""
        if letter != "f":
            return ITEM_BYTES[letter]
        return 8 if space is Space.SUMS else self.precision.nbytes

    @property
    def row(self) -> int:
        """Samples for which an element of a tile has room: one vector more than a tile, so that elements do not compete for cache sets."""
        return self.tile + self.precision.lanes

    def start(self, space: Space, letter: str) -> int:
        """Where the elements of one kind begin in a space, in bytes."""
        return sum(self._span(space, k) for k in "fib"[: "fib".index(letter)])

    def _span(self, space: Space, letter: str) -> int:
        rows = self.row if space.per_sample else 1
        return -(-self.counts.get((space, letter), 0) * rows * self.item(space, letter) // 64) * 64

    def nbytes(self, space: Space) -> int:
        """Bytes of a space; of one tile, where there are tiles."""
        return sum(self._span(space, letter) for letter in "fib")

    @property
    def tiles(self) -> int:
        """Tiles in a block."""
        return BLOCK // self.tile


POINTERS = ("parameters", "constants", "shared", "tile", "block", "sums", "lanes", "tables", "inputs", "outputs", "flags")
_READ_ONLY = ("parameters", "constants", "tables", "inputs")
SIGNATURE = (
    *((f"ptr noalias{' readonly' if p in _READ_ONLY else ''}", f"%{p}") for p in POINTERS),
    ("i64", "%first"),
    ("i64", "%count"),
)
"""Parameters of every step: the spaces, the first sample of the tile in its block, and the block's number of samples."""
ARGUMENTS = ", ".join([*(f"ptr %{p}" for p in POINTERS), "i64 %first", "i64 %count"])


class Frame:
    """Emits loads and stores of elements into one function. `lanes` says for how many samples at a time."""

    def __init__(self, function: Function, lanes: Lanes, geometry: Geometry) -> None:
        self.function, self.lanes, self.geometry = function, lanes, geometry
        self.first = "%first"
        """The first sample of the tile at hand, in its block."""
        self.last: str | None = None
        """The last vector of samples of the tile, in loops that may go beyond it."""

    @contextmanager
    def samples(self, vectors: int = 1) -> Iterator[str]:
        """A loop over the samples of a tile, some vectors at a time; the last round may go beyond the last sample, within the tile."""
        if self.lanes.width == 1:
            yield "0"
            return
        function = self.function
        rest = function.emit(f"sub nsw i64 %count, {self.first}")
        below = function.emit(f"icmp slt i64 {rest}, {self.geometry.tile}")
        limit = function.emit(f"select i1 {below}, i64 {rest}, i64 {self.geometry.tile}")
        # Rows of inputs end with the last vector that holds samples: what lies beyond is replaced by that vector.
        self.last = function.emit(f"and i64 {function.emit(f'sub nsw i64 {limit}, 1')}, -{self.lanes.width}") if vectors > 1 else None
        with function.loop(limit, self.lanes.width * vectors) as sample:
            yield sample
        self.last = None

    def vector(self, letter: str, lanes: Lanes | None = None) -> str:
        """The type of a value in registers."""
        lanes = lanes or self.lanes
        return {"f": lanes.float, "i": lanes.index, "b": lanes.bool}[letter]

    def at(self, ramp: Ramp, counter: str) -> str:
        """The register of a ramp's value."""
        function = self.function
        if ramp.table is None:
            return function.plus(function.times(counter, ramp.stride), str(ramp.first))
        entry = function.emit(f"getelementptr inbounds i64, ptr %tables, i64 {function.plus(counter, str(ramp.table))}")
        return function.emit(f"load i64, ptr {entry}, align 8")

    def address(self, array: Array, index: str, sample: str) -> str:
        """Where an element lies: `index` is its number in the space and `sample` the first sample, counted from the tile's first; both i64."""
        function, geometry, space = self.function, self.geometry, array.space
        item = geometry.item(space, array.letter)
        if space is Space.ROWS:
            return self._row_address(array, index, sample, item)
        # The part that changes from round to round comes first: it is the same for all elements that a round touches.
        base = f"%{space.value}"
        if space is Space.BLOCK:
            tile = function.once(f"udiv exact i64 {self.first}, {geometry.tile}")
            base = function.offset(base, function.times(tile, geometry.nbytes(space)))
        if space.per_sample:
            base = function.offset(base, function.times(sample, item))
        step = geometry.row * item if space.per_sample else item
        return function.offset(base, function.plus(function.times(index, step), str(geometry.start(space, array.letter))))

    def _row_address(self, array: Array, index: str, sample: str, item: int) -> str:
        """Inputs lie as the user has them, sample after sample."""
        function = self.function
        base = function.once(f"load ptr, ptr {function.offset('%inputs', str(8 * array.leaf))}, align 8")
        if self.last is not None:
            function.module.declarations["llvm.smin.i64"] = "declare i64 @llvm.smin.i64(i64, i64)"
            sample = function.once(f"call i64 @llvm.smin.i64(i64 {sample}, i64 {self.last})")
        row = function.times(function.plus(self.first, sample), self.geometry.row_elements[array.leaf] * item)
        return function.offset(function.offset(base, row), function.times(index, item))

    def load(self, array: Array, index: str, sample: str) -> str:
        """The value of an element: for the frame's lanes where it differs from sample to sample, else the same in all of them."""
        place = self.address(array, index, sample)
        if array.space.per_sample:
            return self._load(self.lanes, array, place)
        one = Lanes(self.function, F64 if array.space is Space.SUMS else self.geometry.precision, 1)
        return self.splat(array.letter, self._converted(self._load(one, array, place), one, array.letter))

    def _load(self, lanes: Lanes, array: Array, place: str) -> str:
        item = self.geometry.item(array.space, array.letter)
        emit = self.function.emit
        if array.letter != "b":
            return emit(f"load {self.vector(array.letter, lanes)}, ptr {place}, align {item}")
        stored = emit(f"load {lanes.vector('i8')}, ptr {place}, align 1")
        return emit(f"icmp ne {lanes.vector('i8')} {stored}, {lanes.splat('i8', '0')}")

    def _converted(self, value: str, of: Lanes, letter: str) -> str:
        """A scalar in the precision of the frame."""
        if letter != "f" or of.precision is self.lanes.precision:
            return value
        widen = of.precision.bits < self.lanes.precision.bits
        return self.function.emit(f"{'fpext' if widen else 'fptrunc'} {of.precision.float} {value} to {self.lanes.precision.float}")

    def splat(self, letter: str, value: str) -> str:
        """A scalar in all lanes."""
        width = self.lanes.width
        if width == 1:
            return value
        of = {"f": self.lanes.precision.float, "i": "i64", "b": "i1"}[letter]
        first = self.function.emit(f"insertelement <{width} x {of}> poison, {of} {value}, i64 0")
        return self.function.emit(f"shufflevector <{width} x {of}> {first}, <{width} x {of}> poison, <{width} x i32> zeroinitializer")

    def store(self, value: str, array: Array, index: str, sample: str) -> None:
        """Writes an element for the frame's lanes."""
        place, item = self.address(array, index, sample), self.geometry.item(array.space, array.letter)
        of = self.vector(array.letter)
        if array.letter == "b":
            value = self.function.emit(f"zext {of} {value} to {self.lanes.vector('i8')}")
            of = self.lanes.vector("i8")
        self.function.do(f"store {of} {value}, ptr {place}, align {item}")


def fits(arrays: Sequence[Array]) -> bool:
    """Whether any of these differs from sample to sample."""
    return any(array.space.per_sample for array in arrays)
