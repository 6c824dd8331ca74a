"""Small datasets for demos, examples and tests, made on the spot."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["make_moons"]


def make_moons(samples: int = 100, *, noise: float = 0.0, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Two interleaving half circles, with the figures of scikit-learn's `make_moons(samples, noise=noise, random_state=seed)`.

    Returns points of shape (samples, 2) and labels 0 and 1 of shape (samples,). The draws come from NumPy's legacy `RandomState` in
    scikit-learn's order (shuffle first, then noise), so that results that others published can be had again.
    """
    outer = samples // 2
    inner = samples - outer
    upper, lower = np.linspace(0, np.pi, outer), np.linspace(0, np.pi, inner)
    across = np.append(np.cos(upper), 1 - np.cos(lower))
    along = np.append(np.sin(upper), 1 - np.sin(lower) - 0.5)
    points = np.column_stack([across, along])
    labels = np.concatenate([np.zeros(outer, dtype=np.int64), np.ones(inner, dtype=np.int64)])
    generator = np.random.RandomState(seed)
    order = np.arange(samples)
    generator.shuffle(order)
    points, labels = points[order], labels[order]
    if noise:
        points = points + generator.normal(scale=noise, size=points.shape)
    return points, labels
