"""sinh and cosh.

With |x| = n ln 2 + r they are sums of products of (2^n ± 2^-n) / 2, which are exact or nearly so, with sinh(r) and cosh(r): without a division, and
without the rounding of an exponential that another is subtracted from. The polynomials are minimax ones, found by Remez' algorithm; with each stands
its largest error.
"""

from __future__ import annotations

import math

from ..lanes import F32, F64, Body, Lanes, Precision
from .exponential import numbers, power_of_two, rounded

_SINH: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-60.9
        0.16666666666666677,
        0.008333333333321554,
        0.00019841269886336241,
        2.755724398375403e-06,
        2.5109120043858134e-08,
    ),
    F32: (0.1666666716337204, 0.008333289064466953, 0.00019905040971934795),  # 2^-30.9
}
"""S in sinh(r) = r + r z S(z), z = r², |r| <= ln(2) / 2: the largest relative error in sinh(r)."""

_COSH: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-64.9
        0.5,
        0.04166666666666671,
        0.0013888888888863794,
        2.4801587363661664e-05,
        2.7557242601652044e-07,
        2.0924493789789364e-09,
    ),
    F32: (0.5, 0.041666265577077866, 0.0013946302933618426),  # 2^-29.9
}
"""C in cosh(r) = 1 + z C(z), z = r², |r| <= ln(2) / 2: the largest error in cosh(r)."""


def _parts(l: Lanes, a: str) -> tuple[str, str, str, str]:
    """(n, its bits, sinh(r), cosh(r) - 1) with a = n ln 2 + r."""
    n, bits = rounded(l, a, 1 / math.log(2))
    high, low = numbers(l).ln2
    r = l.fma(n, l.number(-low), l.fma(n, l.number(-high), a))
    z = l.mul(r, r)
    sinh_r = l.fma(l.mul(r, z), l.polynomial(z, _SINH[l.precision]), r)
    return n, bits, sinh_r, l.mul(z, l.polynomial(z, _COSH[l.precision]))


def _halves(l: Lanes, bits: str) -> tuple[str, str]:
    """2^n / 2 and 2^-n / 2."""
    up = power_of_two(l, l.integral("sub", bits, l.integer(1)))
    return up, power_of_two(l, l.integral("sub", l.integer(-1), bits))


def _large(l: Lanes, a: str) -> str:
    """e^a / 2, in two steps: sinh(a) and cosh(a) where e^-a vanishes beside e^a."""
    bound = l.number(numbers(l).extreme)
    n, _, sinh_r, rest = _parts(l, l.select(l.lt(bound, a), bound, a))
    half, first = rounded(l, n, 0.5)
    _, second = rounded(l, l.sub(n, half), 1.0)
    halved = l.fma(l.add(sinh_r, rest), l.number(0.5), l.number(0.5))
    return l.mul(l.mul(halved, power_of_two(l, first)), power_of_two(l, second))


def sinh(l: Lanes, x: str) -> str:
    """The hyperbolic sine."""
    a = l.abs(x)
    _, bits, sinh_r, rest = _parts(l, a)
    up, down = _halves(l, bits)
    difference = l.sub(up, down)
    usual = l.add(difference, l.fma(l.add(up, down), sinh_r, l.mul(difference, rest)))
    found = l.rarely(l.lt(l.number(numbers(l).usual), a), usual, lambda: _large(l, a))
    return l.copysign(found, x)


def cosh(l: Lanes, x: str) -> str:
    """The hyperbolic cosine."""
    a = l.abs(x)
    _, bits, sinh_r, rest = _parts(l, a)
    up, down = _halves(l, bits)
    total = l.add(up, down)
    usual = l.add(total, l.fma(l.sub(up, down), sinh_r, l.mul(total, rest)))
    return l.rarely(l.lt(l.number(numbers(l).usual), a), usual, lambda: _large(l, a))


FUNCTIONS: dict[str, Body] = {"sinh": sinh, "cosh": cosh}
