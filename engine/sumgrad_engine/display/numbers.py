"""Numbers and arrays as displays print them."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np

# Outside of these decimal exponents %v writes an exponent (strconv decides with precision 6 where digits are the shortest).
_SMALLEST, _LARGEST = -4, 6


def go_float(number: float) -> str:
    """A float as Go's %v prints it: the shortest digits that give it back, with an exponent below 1e-4 and from 1e6."""
    number = float(number)
    if not math.isfinite(number):
        return _special(number)
    exact = Decimal(repr(number)).normalize()
    sign, digits, _ = exact.as_tuple()
    exponent = exact.adjusted() if number else 0
    if _SMALLEST <= exponent < _LARGEST:
        return format(exact, "f")
    mantissa = "".join(map(str, digits))
    point = "." if len(mantissa) > 1 else ""
    return f"{'-' if sign else ''}{mantissa[0]}{point}{mantissa[1:]}e{exponent:+03d}"


def go_fixed(number: float) -> str:
    """A float as Go's %6.4f prints it."""
    return f"{number:6.4f}" if math.isfinite(number) else f"{_special(number):>6}"


def _special(number: float) -> str:
    return "NaN" if math.isnan(number) else f"{number:+.0f}".replace("inf", "Inf")


def compact(array: Any, width: int) -> str:
    """An array on one line of at most `width` characters: 4 digits an element, the middle left out where there is much."""
    text = np.array2string(np.asarray(array), threshold=6, edgeitems=2, formatter={"all": _short}, separator=" ")
    line = " ".join(text.split()).replace("...", "…")
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _short(element: Any) -> str:
    return f"{element:.4g}" if isinstance(element, float) else str(element)
