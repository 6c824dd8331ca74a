"""Where things lie in a partial result: the value, then each metric, then each gradient, in row-major order, in one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .shapes import size
from .types import Array, Shape

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """Where things lie in a partial result."""

    metrics: tuple[tuple[str, Shape], ...]
    grads: tuple[tuple[str, Shape], ...]

    @cached_property
    def width(self) -> int:
        """Length of a partial result."""
        return 1 + sum(size(shape) for _, shape in (*self.metrics, *self.grads))

    def pack(self, parts: Sequence[Array]) -> Vector:
        """One vector of value, metrics and gradients."""
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64, copy=False)

    def unpack(self, vector: Vector) -> tuple[float, dict[str, Array], dict[str, Array]]:
        """Value, metrics and gradients of a vector."""
        own = vector.copy()
        metrics = {name: own[start:stop].reshape(shape) for name, start, stop, shape in _spans(1, self.metrics)}
        names, keys, matrices = self._grad_keys
        grads = dict(zip(names, map(own.__getitem__, keys), strict=True))
        for name, shape in matrices:
            grads[name] = grads[name].reshape(shape)
        return float(own[0]), metrics, grads

    @cached_property
    def _grad_keys(self) -> tuple[list[str], list[Any], list[tuple[str, Shape]]]:
        """Names, what to index a partial result with for each, and which have to be reshaped then: ready for a hundred thousand scalars."""
        spans = _spans(1 + sum(size(shape) for _, shape in self.metrics), self.grads)
        keys = [slice(start, stop) if shape else (start, ...) for _, start, stop, shape in spans]
        return [name for name, *_ in spans], keys, [(name, shape) for name, _, _, shape in spans if len(shape) > 1]


def _spans(offset: int, parts: Iterable[tuple[str, Shape]]) -> list[tuple[str, int, int, Shape]]:
    """Name, first element, end and shape of parts that lie one after another."""
    found = []
    for name, shape in parts:
        found.append((name, offset, offset + size(shape), shape))
        offset += size(shape)
    return found
