"""Array ops taken apart into scalar ones: straight-line code over cells.

A cell is one scalar. Ops that move elements move numbers of cells, by the functions that the reference evaluator applies to data; so they leave no code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..ops import Op
from ..ops.arithmetic import add, equal, maximum, multiply, subtract, where
from ..ops.contraction import logsumexp, matmul, matmul_samples, max_, sum_, sum_samples
from ..ops.indexing import one_hot, scatter_add, scatter_add_samples, take
from ..ops.movement import broadcast_to, concat, flip, pad, reshape, slice_, transpose
from ..ops.record import ELEMENTWISE_BOOL
from ..ops.transcendental import exp, log
from ..types import NO_ATTRIBUTES, Attributes
from .storage import Array

Ids = npt.NDArray[np.int64]


FUNCTION_WEIGHT = 25
"""Instructions of a vector function, roughly."""


class Cell(NamedTuple):
    """One scalar: an op of cells, a constant, an element of an array, or a sum over samples."""

    kind: str  # op, constant, load, fma, index
    letter: str
    operands: tuple[int, ...] = ()
    op: Op | None = None
    attributes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    value: float = 0.0
    array: Array | None = None
    element: int = 0


class Cells:
    """Cells under construction; equal ones are made once."""

    def __init__(self) -> None:
        self.cells: list[Cell] = []
        self._known: dict[Any, int] = {}
        self.sums: list[tuple[tuple[int, ...], int]] = []
        """Sums over samples: cells of one term, or factors of products, and the number of the accumulator."""
        self.checks: list[tuple[int, int]] = []
        """Indices and their extents."""
        self.weight = 0
        """About how many instructions it all takes."""

    def _make(self, key: Any, cell: Cell) -> int:
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = len(self.cells)
            self.cells.append(cell)
            self.weight += 0 if cell.kind in ("load", "constant") else 1 if cell.op is None or cell.op.emit else FUNCTION_WEIGHT
        return found

    def constant(self, value: float, letter: str = "f") -> int:
        """A constant, by its bits."""
        return self._make((letter, np.float64(value).tobytes()), Cell("constant", letter, value=value))

    def load(self, array: Array) -> Ids:
        """The elements of an array."""
        key = (array.space.value, array.letter, array.leaf)
        flat = [self._make((*key, k), Cell("load", array.letter, array=array, element=k)) for k in array.index.ravel().tolist()]
        return np.array(flat, np.int64).reshape(array.shape)

    def element(self, letter: str, number: int) -> int:
        """What the surrounding loop loads under a number."""
        return self._make(("element", number), Cell("load", letter, element=number))

    def op(self, op: Op, *operands: int, attributes: Attributes = NO_ATTRIBUTES, letter: str = "f") -> int:
        """An elementwise op of cells, which gives booleans or else what `letter` says."""
        of = "b" if op.infer is ELEMENTWISE_BOOL else letter
        frozen = tuple(sorted(attributes.items()))
        return self._make((op.number, operands, frozen), Cell("op", of, operands, op, frozen))

    def fma(self, a: int, b: int, c: int) -> int:
        """a * b + c, rounded once."""
        return self._make(("fma", a, b, c), Cell("fma", "f", (a, b, c)))

    def is_index(self, index: int, value: int) -> int:
        """Whether an integer cell has a value: a boolean."""
        return self._make(("index", index, value), Cell("index", "b", (index,), value=value))

    def check(self, index: int, extent: int) -> None:
        """Demands that an integer cell lies in 0..extent-1."""
        if (index, extent) not in self.checks:
            self.checks.append((index, extent))

    def total(self, terms: Sequence[int]) -> int:
        """The sum in order; -0.0, which changes nothing when it is added, if there are no terms."""
        if not terms:
            return self.constant(0.0)
        result = terms[0]
        for term in terms[1:]:
            result = self.op(add, result, term)
        return result

    def inner(self, pairs: Sequence[tuple[int, int]]) -> int:
        """The sum of products in order, each rounded together with its addition."""
        if not pairs:
            return self.constant(0.0)
        result = self.op(multiply, *pairs[0])
        for a, b in pairs[1:]:
            result = self.fma(a, b, result)
        return result


Expand = Callable[[Cells, Sequence[Ids], Attributes], Ids]


def expand(cells: Cells, op: Op, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    """The cells of an op's result for one sample."""
    special = EXPANSIONS.get(op)
    return special(cells, operands, attributes) if special else _elementwise(cells, op, operands, attributes)


def _elementwise(cells: Cells, op: Op, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    if all(ids.size == 1 == ids.ndim + 1 for ids in operands):  # scalars, which large graphs are made of
        return np.array(cells.op(op, *[int(ids) for ids in operands], attributes=attributes), np.int64)
    wide = np.broadcast_arrays(*operands)
    columns = zip(*[ids.ravel().tolist() for ids in wide], strict=True)
    return _ids([cells.op(op, *column, attributes=attributes) for column in columns], wide[0].shape)


def _ids(flat: Sequence[int], shape: tuple[int, ...]) -> Ids:
    return np.array(flat, np.int64).reshape(shape)


def moved(op: Op) -> Callable[[Sequence[npt.NDArray[Any]], Attributes], npt.NDArray[Any]]:
    """An op that moves elements, applied to their numbers."""

    def move(operands: Sequence[npt.NDArray[Any]], attributes: Attributes) -> npt.NDArray[Any]:
        return op.forward(operands, (0,) * len(operands), attributes)

    return move


def _movement(op: Op) -> Expand:
    move = moved(op)
    return lambda cells, operands, attributes: move(operands, attributes)


def _pad(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    # pad fills with 0: numbers of cells are shifted by one, so that 0 means "nothing".
    shifted = moved(pad)([operands[0] + 1], attributes)
    return np.where(shifted == 0, cells.constant(0.0), shifted - 1)


def _rows(ids: Ids, axes: Sequence[int]) -> tuple[list[list[int]], tuple[int, ...]]:
    """For each element of a reduction's result what is reduced to it, and the result's shape."""
    kept = [axis for axis in range(ids.ndim) if axis not in axes]
    shape = tuple(ids.shape[axis] for axis in kept)
    count = int(np.prod(shape, dtype=np.int64))
    rows: list[list[int]] = ids.transpose([*kept, *axes]).reshape(count, ids.size // max(1, count)).tolist()
    return rows, shape


def _sum(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    rows, shape = _rows(operands[0], attributes["axes"])
    return _ids([cells.total(row) for row in rows], shape)


def _largest(cells: Cells, row: Sequence[int]) -> int:
    result = row[0]
    for cell in row[1:]:
        result = cells.op(maximum, result, cell)
    return result


def _max(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    rows, shape = _rows(operands[0], attributes["axes"])
    return _ids([_largest(cells, row) for row in rows], shape)


def _logsumexp(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    rows, shape = _rows(operands[0], attributes["axes"])
    return _ids([_log_sum_exp(cells, row) for row in rows], shape)


def _log_sum_exp(cells: Cells, row: Sequence[int]) -> int:
    if not row:
        return cells.constant(-np.inf)
    largest = _largest(cells, row)
    # Infinite maxima would give inf - inf; without a shift they come out right.
    finite = cells.op(equal, cells.op(subtract, largest, largest), cells.constant(0.0))
    shift = cells.op(where, finite, largest, cells.constant(0.0))
    total = cells.total([cells.op(exp, cells.op(subtract, cell, shift)) for cell in row])
    return cells.op(add, cells.op(log, total), shift)


def product_operands(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Operands of a matrix product with the same stack of matrices."""
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return np.broadcast_to(a, (*stack, *a.shape[-2:])), np.broadcast_to(b, (*stack, *b.shape[-2:]))


def _pairs(operands: Sequence[Ids]) -> tuple[list[list[tuple[int, int]]], tuple[int, ...]]:
    """The factors of each element of a matrix product, and its shape."""
    a, b = product_operands(operands[0], operands[1])
    shape = (*a.shape[:-1], b.shape[-1])
    wide_a = np.broadcast_to(a[..., :, None, :], (*shape, a.shape[-1]))
    wide_b = np.broadcast_to(b.swapaxes(-1, -2)[..., None, :, :], (*shape, a.shape[-1]))
    lists = (int(np.prod(shape, dtype=np.int64)), a.shape[-1])
    rows = zip(wide_a.reshape(lists).tolist(), wide_b.reshape(lists).tolist(), strict=True)
    return [list(zip(left, right, strict=True)) for left, right in rows], shape


def _matmul(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    pairs, shape = _pairs(operands)
    return _ids([cells.inner(row) for row in pairs], shape)


def _choose(cells: Cells, index: int, entries: Sequence[int]) -> int:
    cells.check(index, len(entries))
    result = entries[0]
    for k, entry in enumerate(entries[1:], 1):
        result = cells.op(where, cells.is_index(index, k), entry, result, letter=cells.cells[entry].letter)
    return result


def _take(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    source, (axis,) = operands[0], attributes["axis"]
    moved_source = np.moveaxis(source, axis, -1)
    lists = moved_source.reshape(-1, source.shape[axis]).tolist()
    chosen = [[_choose(cells, index, entries) for index in operands[1].ravel().tolist()] for entries in lists]
    shape = (*moved_source.shape[:-1], *operands[1].shape)
    result = _ids([cell for row in chosen for cell in row], shape)
    rank = source.ndim - 1
    return np.moveaxis(result, range(rank, rank + operands[1].ndim), range(axis, axis + operands[1].ndim))


def _scatter_terms(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> tuple[list[list[int]], tuple[int, ...]]:
    """For each element of the result the terms that are added to it, 0 where an index says otherwise; and its shape with the extent first."""
    (axis,), (extent,) = attributes["axis"], attributes["extent"]
    source, index = operands
    entries = np.moveaxis(source, range(axis, axis + index.ndim), range(index.ndim))
    rest = entries.shape[index.ndim :]
    columns = entries.reshape(index.size, -1).T.tolist()
    places, zero = index.ravel().tolist(), cells.constant(0.0)
    for place in places:
        cells.check(place, extent)
    terms = [
        [cells.op(where, cells.is_index(place, k), entry, zero) for place, entry in zip(places, column, strict=True)]
        for k in range(extent)
        for column in columns
    ]
    return terms, (extent, *rest)


def _scatter_add(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    terms, shape = _scatter_terms(cells, operands, attributes)
    zero = cells.constant(0.0)
    return np.moveaxis(_ids([cells.total([zero, *row]) for row in terms], shape), 0, attributes["axis"][0])


def _one_hot(cells: Cells, operands: Sequence[Ids], attributes: Attributes) -> Ids:
    (extent,) = attributes["extent"]
    one, zero = cells.constant(1.0), cells.constant(0.0)
    places = operands[0].ravel().tolist()
    for place in places:
        cells.check(place, extent)
    flat = [cells.op(where, cells.is_index(place, k), one, zero) for place in places for k in range(extent)]
    return _ids(flat, (*operands[0].shape, extent))


EXPANSIONS: dict[Op, Expand] = {
    **{op: _movement(op) for op in (reshape, transpose, broadcast_to, concat, slice_, flip)},
    pad: _pad,
    sum_: _sum,
    max_: _max,
    logsumexp: _logsumexp,
    matmul: _matmul,
    take: _take,
    scatter_add: _scatter_add,
    one_hot: _one_hot,
}


def summands(cells: Cells, op: Op, operands: Sequence[Ids], attributes: Attributes) -> tuple[list[list[tuple[int, ...]]], tuple[int, ...]]:
    """For each element of a sum over samples what each sample adds: cells, or pairs of factors; and the shape."""
    if op is matmul_samples:
        pairs, shape = _pairs(operands)
        return [[tuple(pair) for pair in row] for row in pairs], shape
    if op is scatter_add_samples:
        terms, (extent, *rest) = _scatter_terms(cells, operands, attributes)
        order = np.moveaxis(np.arange(len(terms)).reshape(extent, *rest), 0, attributes["axis"][0])
        return [[(cell,) for cell in terms[k]] for k in order.ravel().tolist()], order.shape
    return [[(cell,)] for cell in operands[0].ravel().tolist()], operands[0].shape


OVER_SAMPLES = (sum_samples, matmul_samples, scatter_add_samples)
__all__ = ["OVER_SAMPLES", "Cell", "Cells", "expand", "moved", "product_operands", "summands"]
