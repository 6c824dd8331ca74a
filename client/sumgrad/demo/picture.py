"""The picture of a decision boundary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sumgrad_engine.errors import MissingDependencyError

FloatArray = NDArray[np.float64]
_RESOLUTION = 240


def draw_boundary(score: Callable[[FloatArray], FloatArray], points: FloatArray, labels: NDArray[np.int64], path: Path) -> None:
    """Draws the score of a classifier over the plane, its zero line, and the points of both classes. Needs Matplotlib."""
    figure_type, colors = _matplotlib()
    grid, across, along = _grid(points)
    surface = np.tanh(score(grid)).reshape(len(along), len(across))
    figure = figure_type(figsize=(7.0, 5.0), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    shades = colors.LinearSegmentedColormap.from_list("moons", ["#c8553d", "#f6e7df", "#f4f4f2", "#dfe9f0", "#2b6c99"])
    extent = (across[0], across[-1], along[0], along[-1])
    axes.imshow(surface, extent=extent, origin="lower", vmin=-1.0, vmax=1.0, cmap=shades, interpolation="bilinear", alpha=0.85)
    axes.contour(across, along, surface, levels=[0.0], colors="#222222", linewidths=1.4)
    for label, colour in ((0, "#a23b25"), (1, "#1b4f75")):
        chosen = points[labels == label]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=42, color=colour, edgecolors="white", linewidths=0.9, label=f"class {label}")
    axes.legend(frameon=False, loc="upper left")
    axes.set(xlabel="$x_1$", ylabel="$x_2$", title="Two moons, a 2-16-16-1 network, gradients by sumgrad", aspect="equal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(path)


def _grid(points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The points of a grid around these, and its coordinates along both axes."""
    low, high = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
    across, along = (np.linspace(low[axis], high[axis], _RESOLUTION) for axis in (0, 1))
    return np.stack(np.meshgrid(across, along), axis=-1).reshape(-1, 2), across, along


def _matplotlib() -> tuple[Any, Any]:
    try:
        from matplotlib import colors
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError('the picture needs Matplotlib: pip install "sumgrad[demo]"') from None
    return Figure, colors
