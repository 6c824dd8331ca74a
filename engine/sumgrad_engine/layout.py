"""Where things lie in a partial result: the value, then each metric, then each gradient, in row-major order, in one flat vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    @property
    def width(self) -> int:
        """Length of a partial result."""
        return 1 + sum(size(shape) for _, shape in (*self.metrics, *self.grads))

    def pack(self, parts: Sequence[Array]) -> Vector:
        """One vector of value, metrics and gradients."""
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64, copy=False)

    def unpack(self, vector: Vector) -> tuple[float, dict[str, Array], dict[str, Array]]:
        """Value, metrics and gradients of a vector."""
        found: list[Array] = []
        offset = 1
        for _, shape in (*self.metrics, *self.grads):
            found.append(vector[offset : offset + size(shape)].reshape(shape).copy())
            offset += size(shape)
        names = [name for name, _ in self.metrics], [name for name, _ in self.grads]
        metrics = dict(zip(names[0], found[: len(names[0])], strict=True))
        return float(vector[0]), metrics, dict(zip(names[1], found[len(names[0]) :], strict=True))
