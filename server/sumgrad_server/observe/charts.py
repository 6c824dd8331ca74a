"""Small line charts as SVG paths, stretched by the page to whatever width there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 240.0, 60.0
_TOP = 3.0


@dataclass(frozen=True)
class Chart:
    """A line through values at equal distances, the area below it, and the value at the top of the picture."""

    line: str
    area: str
    top: float


def chart(values: Sequence[float]) -> Chart:
    """The chart of at least two values that are not negative."""
    top = ceiling(max(values))
    step = WIDTH / (len(values) - 1)
    points = " ".join(f"{position * step:.1f},{HEIGHT - value / top * (HEIGHT - _TOP):.1f}" for position, value in enumerate(values))
    return Chart(f"M{points}", f"M0,{HEIGHT:g} {points} {WIDTH:g},{HEIGHT:g}Z", top)


@dataclass(frozen=True)
class Curve:
    """A line through values at equal distances, and those at the bottom and at the top of the picture."""

    line: str
    low: float
    high: float


def curve(values: Sequence[float]) -> Curve | None:
    """The curve of values of any size; the line is broken where one is no finite number. None without two finite ones."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return None
    low, high = min(finite), max(finite)
    span = high / 2 - low / 2  # halves: the difference itself may be beyond floats
    step, pieces, pen = WIDTH / (len(values) - 1), [], "M"
    for position, value in enumerate(values):
        if not math.isfinite(value):
            pen = "M"
            continue
        share = (value / 2 - low / 2) / span if span else 0.5
        pieces.append(f"{pen}{position * step:.1f},{HEIGHT - 0.5 - share * (HEIGHT - 0.5 - _TOP):.1f}")
        pen = "L"
    return Curve("".join(pieces), low, high)


def ceiling(value: float) -> float:
    """The next of ..., 1, 1.5, 2, 3, 5, 7, 10, 15, ... that is not less; 1 for 0. So the scale doesn't change with every value."""
    if value <= 0.0:
        return 1.0
    size = 1.0
    while size * 10.0 <= value:
        size *= 10.0
    while size > value:
        size /= 10.0
    return next(round(size * factor, 12) for factor in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0) if size * factor >= value)
