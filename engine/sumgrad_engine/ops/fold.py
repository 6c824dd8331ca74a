"""Sums in one fixed order, made of elementwise additions only, so that their bits are the same on every machine."""

from __future__ import annotations

import numpy as np

from ..types import Array


def fold(array: Array, axis: int) -> Array:
    """The sum along an axis: the upper half is added onto the lower until one entry is left."""
    count = array.shape[axis]
    if count == 0:
        return np.zeros(array.shape[:axis] + array.shape[axis + 1 :], array.dtype)
    while count > 1:
        half = 1 << ((count - 1).bit_length() - 1)
        lower = _part(array, axis, 0, half).copy()
        rest = _part(lower, axis, 0, count - half)
        rest += _part(array, axis, half, count)
        array, count = lower, half
    return array.reshape(array.shape[:axis] + array.shape[axis + 1 :])


def _part(array: Array, axis: int, start: int, stop: int) -> Array:
    """A view of some entries along an axis."""
    part: Array = array[(slice(None),) * axis + (slice(start, stop),)]
    return part


def product(a: Array, b: Array) -> Array:
    """a @ b for (..., m, k) and (..., k, n), broadcasting, the terms added in order of k."""
    if a.shape[-1] == 0:
        return np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]))
    total = a[..., :, :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        total += a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return total
