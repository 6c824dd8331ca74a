"""The samples of a task, and sums over them: arrays as they lie in shared memory, or rows of a dataset gathered piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from sumgrad_engine.blocks import BLOCK, TreeSum, block_count
from sumgrad_engine.program import EvaluateProgram, GradientProgram
from sumgrad_engine.types import Array

PIECE_BLOCKS = 64
PIECE_BYTES = 1 << 23
"""Rows are gathered in pieces of about this size: they stay in a cache until they are used."""


class Piece(NamedTuple):
    """Samples first..last-1 are rows first - offset..last - offset - 1 of these arrays."""

    first: int
    last: int
    arrays: dict[str, Array]
    offset: int


class Samples:
    """Arrays with a row a sample; or with `indices`, the row of each sample."""

    def __init__(self, arrays: Mapping[str, Array], indices: Array | None = None) -> None:
        self._arrays = dict(arrays)
        self._indices = indices

    def pieces(self, program: GradientProgram | EvaluateProgram, start: int, stop: int) -> Iterator[Piece]:
        """Samples start..stop-1 in pieces of a power of two of blocks. `start` is the first of a block.

        Compiled code reads any type that a column may have; the reference evaluator needs that in which it computes.
        """
        wanted = {leaf.name: leaf.dtype.numpy for leaf in program.graph.inputs} if program.evaluator == "reference" else {}
        exact = all(self._arrays[name].dtype == dtype for name, dtype in wanted.items())
        if self._indices is None and exact:
            yield Piece(start, stop, self._arrays, 0)
            return
        step = self._piece_blocks() * BLOCK
        for first in range(start, stop, step):
            last = min(first + step, stop)
            rows = slice(first, last) if self._indices is None else self._indices[first:last]
            yield Piece(first, last, {name: _typed(array[rows], wanted.get(name)) for name, array in self._arrays.items()}, first)

    def _piece_blocks(self) -> int:
        row_bytes = sum(array[:1].nbytes for array in self._arrays.values())
        blocks = PIECE_BLOCKS
        while blocks > 1 and blocks * BLOCK * row_bytes > PIECE_BYTES:
            blocks //= 2
        return blocks


def _typed(array: Array, dtype: np.dtype[np.generic] | None) -> Array:
    return array if dtype is None else array.astype(dtype, copy=False)


def summed(
    program: GradientProgram,
    parameters: Mapping[str, Array],
    samples: Samples,
    first_block: int,
    blocks: int,
    count: int,
    should_stop: Callable[[], bool],
) -> Array:
    """The tree sum of some blocks of `count` samples, whose number is a power of two unless they are the last ones."""
    total = TreeSum()
    for first, last, arrays, offset in samples.pieces(program, first_block * BLOCK, min((first_block + blocks) * BLOCK, count)):
        rows = last - offset
        total.push(program.partial(parameters, arrays, (first - offset) // BLOCK, block_count(last - first), rows, should_stop, offset))
    return program.checked_sum(total.total())
