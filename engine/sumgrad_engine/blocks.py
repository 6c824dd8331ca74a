"""The fixed order of sums over samples.

Samples are cut into blocks by index, each block is summed in one fixed way, and block sums are combined by one fixed binary tree over block
indices. So the bits of a result do not depend on who computed which block, or when.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .types import Array

BLOCK = 512
"""Samples in a block. Part of the definition of a result: changing it changes last bits."""


def block_count(samples: int) -> int:
    """Number of blocks of that many samples."""
    return -(-samples // BLOCK)


def block_range(block: int, samples: int) -> tuple[int, int]:
    """First sample of a block, and one past its last."""
    return block * BLOCK, min((block + 1) * BLOCK, samples)


def tree_sum(vectors: Sequence[Array]) -> Array:
    """The sum by the fixed tree over indices: split at the largest power of two below the count, and so on in both parts.

    If shard k holds vectors k*S to (k+1)*S - 1 (the last may hold fewer) with S a power of two, the tree sum of the shards' tree sums has the same
    bits as the tree sum of all vectors. Raises ValueError if there are none.
    """
    if not vectors:
        raise ValueError("the sum of no blocks is not defined: a minibatch has at least one sample")
    stack = TreeSum()
    for vector in vectors:
        stack.push(vector)
    return stack.total()


class TreeSum:
    """The tree sum of vectors that come one after another, holding only logarithmically many of them."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, Array]] = []

    @np.errstate(all="ignore")
    def push(self, vector: Array) -> None:
        """Takes the vector of the next index; it is not changed."""
        count = 1
        while self._parts and self._parts[-1][0] == count:
            vector = self._parts.pop()[1] + vector
            count *= 2
        self._parts.append((count, vector))

    @np.errstate(all="ignore")
    def total(self) -> Array:
        """The sum of all vectors so far."""
        total = self._parts[-1][1]
        for _, part in reversed(self._parts[:-1]):
            total = part + total
        return total
