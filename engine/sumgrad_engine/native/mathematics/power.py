"""pow and hypot.

a^b = 2^(b log2(a)), where log2(a) is the sum of two floats: its error is multiplied by as much as 1075. It is found from s = (m - 1) / (m + 1), as the
logarithm in exponential.py is, with those steps in two floats that matter. Polynomials are minimax ones, found by Remez' algorithm; with each stands
its largest error relative to the function.
"""

from __future__ import annotations

import math

from ..lanes import F32, F64, Body, Lanes, Precision
from .exponential import power_of_two, rounded, taken_apart
from .trigonometric import two_product

_LOG: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-66.3
        0.1999999999999999,
        0.14285714285722553,
        0.1111111110876864,
        0.09090909435114092,
        0.0769227843812486,
        0.0666815861727005,
        0.058374109978814266,
        0.05994492840861491,
    ),
    F32: (0.20000076293945312, 0.14273564517498016, 0.11709347367286682),  # 2^-36.5
}
"""P in artanh(s) = s + s z (1/3 + z P(z)), z = s² <= 0.02944."""
_EXP2: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-56.0
        0.6931471805599453,
        0.24022650695910072,
        0.0555041086648217,
        0.009618129107628479,
        0.0013333558146389711,
        0.0001540353039337419,
        1.5252733856948145e-05,
        1.321548680426988e-06,
        1.017805090367793e-07,
        7.054899584144413e-09,
        4.4567213899209903e-10,
        2.5725279749647736e-11,
    ),
    F32: (  # 2^-26.0
        0.6931471824645996,
        0.24022650718688965,
        0.055503252893686295,
        0.009618096984922886,
        0.0013401252217590809,
        0.00015445608005393296,
    ),
}
"""P in 2^r = 1 + r P(r), |r| <= 1/2."""
_THIRD = {F64: (0.3333333333333333, 1.850371707708594e-17), F32: (0.3333333432674408, -9.934107758624577e-09)}
"""1/3 and what is left of it."""
_TWO_OVER_LN2 = {F64: (2.8853900817779268, 4.0710547481862066e-17), F32: (2.885390043258667, 3.851926067000022e-08)}
"""2 / ln 2 and what is left of it."""
_USUAL = {F64: 1021.0, F32: 125.0}
"""2^p is a normal number for |p| up to this."""
_EXTREME = {F64: 1200.0, F32: 200.0}
"""2^p is infinite from here on, and 0 from minus this."""


def _sum(l: Lanes, a: str, b: str) -> tuple[str, str]:
    """a + b rounded, and exactly what was lost, where |a| >= |b| or a is 0 (Dekker)."""
    s = l.add(a, b)
    return s, l.add(l.sub(a, s), b)


def _product(l: Lanes, a: tuple[str, str], b: tuple[str, str]) -> tuple[str, str]:
    """The product of two sums of two floats; both parts of the result together are its value."""
    p, lost = two_product(l, a[0], b[0])
    return p, l.fma(a[0], b[1], l.fma(a[1], b[0], lost))


def _constant(l: Lanes, of: dict[Precision, tuple[float, float]]) -> tuple[str, str]:
    high, low = of[l.precision]
    return l.number(high), l.number(low)


def _artanh(l: Lanes, m: str) -> tuple[str, str]:
    """artanh(s) with s = (m - 1) / (m + 1), as a sum of two floats."""
    one = l.number(1.0)
    above, below = l.sub(m, one), l.add(m, one)
    inverse = l.div(one, below)
    s = l.mul(above, inverse)
    lost = l.sub(m, l.sub(below, one))
    s_low = l.mul(l.fma(l.neg(s), lost, l.fma(l.neg(s), below, above)), inverse)
    z, z_low = two_product(l, s, s)
    z_low = l.fma(l.add(s, s), s_low, z_low)
    third, third_low = _product(l, (z, z_low), _constant(l, _THIRD))
    # What follows the first two terms is so small that one float is enough.
    rest = l.fma(l.mul(z, z), l.two_chains(z, _LOG[l.precision]), third_low)
    p, p_low = _product(l, (s, s_low), _sum(l, third, rest))
    high, low = _sum(l, s, p)
    return high, l.add(low, l.add(p_low, s_low))


def _log2(l: Lanes, a: str, shift: str | None = None) -> tuple[str, str]:
    """log2(a 2^shift) as a sum of two floats, for a positive normal a."""
    exponent, _, m = taken_apart(l, a)
    exponent = l.add(exponent, shift) if shift else exponent
    high, low = _product(l, _artanh(l, m), _constant(l, _TWO_OVER_LN2))
    total, lost = _sum(l, exponent, high)
    return total, l.add(lost, low)


def _exp2(l: Lanes, p: str, low: str) -> tuple[str, str]:
    """(n, m) with 2^(p + low) = 2^n m."""
    n, _ = rounded(l, p, 1.0)
    r = l.add(l.sub(p, n), low)
    return n, l.fma(r, l.two_chains(r, _EXP2[l.precision]), l.number(1.0))


def power(l: Lanes, a: str, b: str) -> str:
    """a ** b; NaN for a negative a with a fractional b."""
    log, log_low = _log2(l, a)
    p, low = _product(l, (log, log_low), (b, l.number(0.0)))
    n, m = _exp2(l, p, low)
    usual = l.mul(m, power_of_two(l, rounded(l, n, 1.0)[1]))
    smallest = l.number(2.0 ** (2 - 2 ** (l.precision.bits - l.precision.mantissa - 2)))
    normal = l.logical_and(l.le(smallest, a), l.lt(a, l.number(math.inf)))
    fine = l.logical_and(normal, l.lt(l.abs(p), l.number(_USUAL[l.precision])))
    found = l.rarely(l.logical_not(fine), usual, lambda: _unusual_power(l, a, b))
    short = [l.eq(b, l.number(exponent)) for exponent in (2.0, -1.0, 0.5)]
    return l.rarely(l.logical_or(short[0], l.logical_or(short[1], short[2])), found, lambda: _short_cut(l, a, short))


def _short_cut(l: Lanes, a: str, short: list[str]) -> str:
    """a², 1 / a, and the square root as in `ops.transcendental`: the same bits as there."""
    infinity = l.number(math.inf)
    root = l.select(l.eq(a, l.number(-math.inf)), infinity, l.sqrt(l.add(a, l.number(0.0))))
    return l.select(short[0], l.mul(a, a), l.select(short[1], l.div(l.number(1.0), a), root))


def _unusual_power(l: Lanes, a: str, b: str) -> str:
    """Where the base is not a positive normal number, or the result is not a normal one."""
    zero, one = l.number(0.0), l.number(1.0)
    magnitude = _scaled_power(l, l.abs(a), b)
    integral, odd = _parity(l, b)
    negative = l.compare_bits("slt", l.to_bits(a), l.integer(0))
    signed = l.select(l.logical_and(negative, odd), l.neg(magnitude), magnitude)
    domain = l.logical_and(l.lt(a, zero), l.logical_and(l.lt(l.number(-math.inf), a), l.logical_not(integral)))
    # 1 raised to an infinity came out as NaN.
    result = l.select(l.eq(a, l.number(-1.0)), l.select(odd, l.number(-1.0), one), signed)
    result = l.select(domain, l.number(math.nan), result)
    result = l.select(l.logical_or(l.isnan(a), l.isnan(b)), l.add(a, b), result)
    return l.select(l.logical_or(l.eq(a, one), l.eq(b, zero)), one, result)


def _parity(l: Lanes, b: str) -> tuple[str, str]:
    """Whether a number is an integer (infinities are), and whether it is an odd one."""
    integral = l.eq(l.floor(b), b)
    half = l.mul(b, l.number(0.5))
    return integral, l.logical_and(integral, l.ne(l.floor(half), half))


def _scaled_power(l: Lanes, a: str, b: str) -> str:
    """a ** b for a >= 0, subnormal numbers and infinity included; any number for NaN."""
    shift = float(l.precision.mantissa + 1)
    tiny = l.lt(a, l.number(2.0 ** (2 - 2 ** (l.precision.bits - l.precision.mantissa - 2))))
    zero, infinity, extreme = l.number(0.0), l.number(math.inf), l.number(_EXTREME[l.precision])
    log, log_low = _log2(l, l.select(tiny, l.mul(a, l.number(2.0**shift)), a), l.select(tiny, l.number(-shift), zero))
    log = l.select(l.eq(a, zero), l.number(-math.inf), l.select(l.eq(a, infinity), infinity, log))
    p, low = _product(l, (log, log_low), (b, zero))
    far = l.le(extreme, l.abs(p))
    p, low = l.select(far, l.copysign(extreme, p), p), l.select(far, zero, low)
    n, m = _exp2(l, p, low)
    half, first = rounded(l, n, 0.5)
    _, second = rounded(l, l.sub(n, half), 1.0)
    return l.mul(l.mul(m, power_of_two(l, first)), power_of_two(l, second))


def hypot(l: Lanes, a: str, b: str) -> str:
    """sqrt(a² + b²) without overflow."""
    square = l.fma(a, a, l.mul(b, b))
    most = 2 ** (l.precision.bits - l.precision.mantissa - 2) - 2
    least = 2 * l.precision.mantissa - most
    fine = l.logical_and(l.lt(l.number(2.0**least), square), l.lt(square, l.number(2.0**most)))
    return l.rarely(l.logical_not(fine), l.sqrt(square), lambda: _scaled_hypot(l, a, b))


def _scaled_hypot(l: Lanes, a: str, b: str) -> str:
    """Where the squares overflow or lose bits; infinity if any side is infinite."""
    infinity = l.number(math.inf)
    a, b = l.abs(a), l.abs(b)
    scale = 2.0 ** (2 ** (l.precision.bits - l.precision.mantissa - 2) * 5 // 8)
    one = l.number(1.0)
    large = l.logical_or(l.lt(one, a), l.lt(one, b))
    down, up = (l.select(large, l.number(x), l.number(1.0 / x)) for x in (1.0 / scale, scale))
    x, y = l.mul(a, down), l.mul(b, down)
    result = l.mul(l.sqrt(l.fma(x, x, l.mul(y, y))), up)
    return l.select(l.logical_or(l.eq(a, infinity), l.eq(b, infinity)), infinity, result)


FUNCTIONS: dict[str, Body] = {"pow": power, "hypot": hypot}
