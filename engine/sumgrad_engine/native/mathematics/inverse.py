"""asin, acos, atan, atan2, asinh, acosh, atanh.

Arguments of the arctangent are brought to |r| <= tan(pi/8) by arctan(t) = pi/4 + arctan((t - 1) / (t + 1)); the arcsine of more than 1/2 is found from
asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2)). Polynomials are minimax ones, found by Remez' algorithm; with each stands its largest error relative to
the function.
"""

from __future__ import annotations

import math

from ..lanes import F32, F64, Body, Lanes, Precision
from .trigonometric import HALF_PI

_ATAN: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-58.3
        -0.333333333333332,
        0.1999999999995406,
        -0.14285714280246262,
        0.11111110786021518,
        -0.0909089783293638,
        0.07692061571663271,
        -0.06663119610104622,
        0.05848003104521811,
        -0.05039818657896465,
        0.03807762506280578,
        -0.017921505290271988,
    ),
    F32: (-0.33333316445350647, 0.19998489320278168, -0.14243847131729126, 0.10595984756946564, -0.06083403900265694),  # 2^-28.6
}
"""P in arctan(r) = r + r z P(z), z = r² <= 0.1716."""
_ASIN: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-58.9
        0.16666666666666763,
        0.07499999999970275,
        0.04464285717510853,
        0.030381942684176922,
        0.022372215645286048,
        0.017351600349668466,
        0.01398095848452643,
        0.01139779938635292,
        0.010786402136043158,
        0.0036835077064840236,
        0.021762394160205534,
        -0.021075761819149014,
        0.032675949864917175,
    ),
    F32: (  # 2^-27.3
        0.16666753590106964,
        0.07495243847370148,
        0.045476850122213364,
        0.02414875477552414,
        0.042216695845127106,
    ),
}
"""P in asin(r) = r + r z P(z), z = r² <= 1/4."""


def _eighths(l: Lanes, count: str, r: str, rest: str) -> str:
    """count pi/4 + r + rest, for an integer count as a float and a rest that is small."""
    first, second, _ = HALF_PI[l.precision]
    return l.add(l.fma(count, l.number(first / 2), r), l.fma(count, l.number(second / 2), rest))


def _small_atan(l: Lanes, r: str) -> tuple[str, str]:
    """r and arctan(r) - r, |r| <= tan(pi/8)."""
    z = l.mul(r, r)
    return r, l.mul(l.mul(r, z), l.two_chains(z, _ATAN[l.precision]))


def atan(l: Lanes, x: str) -> str:
    """The inverse tangent."""
    a, one = l.abs(x), l.number(1.0)
    middle, high = l.lt(l.number(math.tan(math.pi / 8)), a), l.lt(l.number(math.tan(3 * math.pi / 8)), a)
    above = l.select(high, l.number(-1.0), l.select(middle, l.sub(a, one), a))
    below = l.select(high, a, l.select(middle, l.add(a, one), one))
    count = l.select(high, l.number(2.0), l.select(middle, one, l.number(0.0)))
    return l.copysign(_eighths(l, count, *_small_atan(l, l.div(above, below))), x)


def atan2(l: Lanes, y: str, x: str) -> str:
    """The angle of the point (x, y)."""
    a, b = l.abs(y), l.abs(x)
    swapped = l.lt(b, a)
    small, large = l.select(swapped, b, a), l.select(swapped, a, b)
    # Sums of the two must not overflow, and quotients need one that is not 0.
    top = 2.0 ** (2 ** (l.precision.bits - l.precision.mantissa - 2) - 2)
    usual = l.logical_and(l.lt(l.number(0.0), large), l.lt(large, l.number(top)))
    place = _Place(swapped, x, y)
    return l.rarely(l.logical_not(usual), _angle(l, small, large, place), lambda: _angle(l, *_bounded(l, small, large), place))


class _Place:
    """Where a point lies: which coordinate is larger, and the signs of both."""

    def __init__(self, swapped: str, x: str, y: str) -> None:
        self.swapped, self.x, self.y = swapped, x, y


def _bounded(l: Lanes, small: str, large: str) -> tuple[str, str]:
    """The same quotient, from numbers that are neither too large nor both 0."""
    zero, one, infinity = l.number(0.0), l.number(1.0), l.number(math.inf)
    infinite, origin = l.eq(large, infinity), l.eq(large, zero)
    both = l.from_bool(l.eq(small, infinity))
    above = l.select(l.logical_and(infinite, l.logical_not(l.isnan(small))), both, l.mul(small, l.number(0.25)))
    return above, l.select(l.logical_or(infinite, origin), one, l.mul(large, l.number(0.25)))


def _angle(l: Lanes, small: str, large: str, place: _Place) -> str:
    zero, one = l.number(0.0), l.number(1.0)
    middle = l.lt(l.mul(large, l.number(math.tan(math.pi / 8))), small)
    above = l.select(middle, l.sub(small, large), small)
    below = l.select(middle, l.add(small, large), large)
    count = l.select(middle, one, zero)
    negative = l.compare_bits("slt", l.to_bits(place.x), l.integer(0))
    for mirrored, whole in ((place.swapped, 2.0), (negative, 4.0)):
        above = l.select(mirrored, l.neg(above), above)
        count = l.select(mirrored, l.sub(l.number(whole), count), count)
    return l.copysign(_eighths(l, count, *_small_atan(l, l.div(above, below))), place.y)


def _small_asin(l: Lanes, x: str) -> tuple[str, str, str]:
    """(whether |x| > 1/2, r, asin(r) - r), where r is sqrt((1 - |x|) / 2) there and |x| elsewhere."""
    a, half = l.abs(x), l.number(0.5)
    large = l.lt(half, a)
    halved = l.fma(a, l.number(-0.5), half)
    z = l.select(large, halved, l.mul(a, a))
    r = l.select(large, l.sqrt(halved), a)
    return large, r, l.mul(l.mul(r, z), l.two_chains(z, _ASIN[l.precision]))


def asin(l: Lanes, x: str) -> str:
    """The inverse sine; NaN beyond 1."""
    large, r, rest = _small_asin(l, x)
    minus = l.number(-2.0)
    from_top = _eighths(l, l.number(2.0), l.mul(r, minus), l.mul(rest, minus))
    return l.copysign(l.select(large, from_top, l.add(r, rest)), x)


def acos(l: Lanes, x: str) -> str:
    """The inverse cosine; NaN beyond 1."""
    large, r, rest = _small_asin(l, x)
    negative = l.lt(x, l.number(0.0))
    count = l.select(large, l.select(negative, l.number(4.0), l.number(0.0)), l.number(2.0))
    near_one = l.select(negative, l.number(-2.0), l.number(2.0))
    factor = l.select(large, near_one, l.select(negative, l.number(1.0), l.number(-1.0)))
    return _eighths(l, count, l.mul(r, factor), l.mul(rest, factor))


def _far(l: Lanes, a: str) -> str:
    """Whether a number is so large that 1 does not matter beside its square, which may overflow."""
    return l.lt(l.number(2.0**500 if l.precision is F64 else 2.0**60), a)


def _log_of_double(l: Lanes, a: str) -> str:
    return l.add(l.call("log", a), l.number(math.log(2.0)))


def asinh(l: Lanes, x: str) -> str:
    """log(1 + a + a² / (1 + sqrt(1 + a²))) with a = |x|, and the sign of x."""
    a, one = l.abs(x), l.number(1.0)
    root = l.sqrt(l.fma(a, a, one))
    u = l.add(a, l.div(l.mul(a, a), l.add(one, root)))
    usual = l.call("log1p", u)
    return l.copysign(l.rarely(_far(l, a), usual, lambda: _log_of_double(l, a)), x)


def acosh(l: Lanes, x: str) -> str:
    """log(1 + t + sqrt(2 t + t²)) with t = x - 1; NaN below 1."""
    one, zero = l.number(1.0), l.number(0.0)
    t = l.sub(x, one)
    square = l.fma(t, t, l.add(t, t))
    root = l.sqrt(square)
    u = l.add(root, t)
    # What the root and the sum lack, and what it adds to the logarithm.
    twice = l.add(root, root)
    lost = l.fma(twice, l.add(l.sub(root, u), t), l.fma(l.neg(root), root, square))
    correction = l.select(l.lt(zero, t), l.div(lost, l.mul(twice, l.add(u, one))), zero)
    usual = l.select(l.lt(t, zero), l.number(math.nan), l.add(l.call("log1p", u), correction))
    return l.rarely(_far(l, x), usual, lambda: _log_of_double(l, x))


def atanh(l: Lanes, x: str) -> str:
    """log(1 + 2 a / (1 - a)) / 2 with a = |x|, and the sign of x; NaN beyond 1."""
    a, one = l.abs(x), l.number(1.0)
    below = l.sub(one, a)
    twice = l.add(a, a)
    u = l.div(twice, below)
    # What the quotient lacks, and what it adds to the logarithm.
    lost = l.fma(u, l.sub(a, l.sub(one, below)), l.fma(l.neg(u), below, twice))
    correction = l.select(l.lt(a, one), l.div(lost, l.add(one, a)), l.number(0.0))
    return l.copysign(l.mul(l.number(0.5), l.add(l.call("log1p", u), correction)), x)


FUNCTIONS: dict[str, Body] = {
    "asin": asin,
    "acos": acos,
    "atan": atan,
    "atan2": atan2,
    "asinh": asinh,
    "acosh": acosh,
    "atanh": atanh,
}
