"""exp, log and their relatives: expm1, log1p, tanh, sigmoid, softplus.

The argument of exp is reduced to r = x - n ln 2 with |r| <= ln(2) / 2; that of log is taken apart into 2^e m with m in [sqrt(1/2), sqrt(2)), and log(m)
is found from s = (m - 1) / (m + 1), as in Tang, "Table-driven implementation of the logarithm function" (1990). Polynomials interpolate at Chebyshev
nodes; with each stands its largest relative error in what it is used for.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from ..lanes import F64, Body, Lanes, Precision


@dataclass(frozen=True)
class Numbers:
    """What depends on the precision."""

    ln2: tuple[float, float]
    """ln 2 and what is left of it."""
    ln2_short: tuple[float, float]
    """The same, the first part so short that its product with an exponent is exact."""
    exponential: tuple[float, ...]
    """Q in exp(r) = 1 + r + r² Q(r), |r| <= ln(2) / 2."""
    shifted: tuple[float, ...]
    """The same Q for -0.1475 <= r <= 0.5475: with 0.2 taken off before n is rounded, results near 0 need no subtraction of 2^n - 1."""
    logarithm: tuple[float, ...]
    """P in log((1 + s) / (1 - s)) = 2 s + s z P(z), z = s², 0 <= s <= 0.1716."""
    wide_logarithm: tuple[float, ...]
    """The same for 0 <= s <= 1/3."""
    usual: float
    """exp(x) and its reciprocal are normal numbers for |x| below this."""
    extreme: float
    """exp(x) is infinite from here on, and 0 from minus this."""
    saturated: float
    """tanh(x) rounds to 1 from here on."""
    lost: float
    """The last bit of e^x is as large as 1, or nearly so."""


DOUBLE = Numbers(
    ln2=(0.6931471805599453, 2.3190468138462996e-17),
    ln2_short=(0.6931471806019545, -4.2009150726810846e-11),
    exponential=(  # 2^-60.1 of exp(r) - 1
        0.5,
        0.1666666666666667,
        0.04166666666666667,
        0.008333333333326129,
        0.0013888888888883744,
        0.00019841269874840768,
        2.4801587325562125e-05,
        2.7557255374658744e-06,
        2.755727362486648e-07,
        2.510522763655176e-08,
        2.0914694560351592e-09,
    ),
    shifted=(  # 2^-54.1 of exp(r) - 1
        0.5000000000000001,
        0.16666666666666602,
        0.04166666666659252,
        0.008333333333643124,
        0.0013888888952759979,
        0.00019841265906265642,
        2.4801511653670446e-05,
        2.7568897942412005e-06,
        2.7200656809072004e-07,
        2.965946359976036e-08,
    ),
    logarithm=(  # 2^-57.7
        0.666666666666667,
        0.3999999999989889,
        0.2857142862625408,
        0.2222221108935117,
        0.1818289243414016,
        0.1533161167849993,
        0.14617807608455186,
    ),
    wide_logarithm=(  # 2^-56.9
        0.6666666666666666,
        0.40000000000014585,
        0.2857142856710875,
        0.2222222271742873,
        0.18181789436098983,
        0.15385570065736542,
        0.13314144198861472,
        0.12001072898566527,
        0.0880073808511193,
        0.16164046372878887,
    ),
    usual=708.0,
    extreme=760.0,
    saturated=20.0,
    lost=36.0,
)
SINGLE = Numbers(
    ln2=(0.6931471824645996, -1.9046542121259336e-09),
    ln2_short=(0.693359375, -0.00021219444170128554),
    exponential=(0.5, 0.16666576266288757, 0.041666556149721146, 0.008363185450434685, 0.0013926191022619605),  # 2^-25.3
    shifted=(0.5, 0.1666666567325592, 0.04166698455810547, 0.008333796635270119, 0.0013770395889878273, 0.0002312047581654042),  # 2^-28.6
    logarithm=(0.6666668653488159, 0.3998875916004181, 0.29580986499786377),  # 2^-28.6
    wide_logarithm=(0.6666666865348816, 0.3999970555305481, 0.285923570394516, 0.2170657515525818, 0.23224329948425293),  # 2^-29.9
    usual=87.0,
    extreme=110.0,
    saturated=10.0,
    lost=16.0,
)


def numbers(l: Lanes) -> Numbers:
    """The constants of a precision."""
    return DOUBLE if l.precision is F64 else SINGLE


def magic(precision: Precision) -> float:
    """Added to a number of moderate size, it rounds it to an integer, which then stands in the last bits of the sum."""
    return 1.5 * 2.0**precision.mantissa


def rounded(l: Lanes, x: str, factor: float) -> tuple[str, str]:
    """The integer nearest to x times a factor: as a float, and in the last bits of an integer."""
    shifted = l.fma(x, l.number(factor), l.number(magic(l.precision)))
    return l.sub(shifted, l.number(magic(l.precision))), l.to_bits(shifted)


def power_of_two(l: Lanes, n: str) -> str:
    """2^n for an integer in the last bits of n; 2^n must be a normal number."""
    bias = 2 ** (l.precision.bits - l.precision.mantissa - 2) - 1
    return l.from_bits(l.integral("shl", l.integral("add", n, l.integer(bias)), l.integer(l.precision.mantissa)))


def _reduced(l: Lanes, x: str) -> tuple[str, str, str]:
    """(n, its bits, p) with exp(x) = 2^n (1 + p)."""
    n, bits = rounded(l, x, 1 / math.log(2))
    high, low = numbers(l).ln2
    r = l.fma(n, l.number(-low), l.fma(n, l.number(-high), x))
    return n, bits, l.fma(l.mul(r, r), l.polynomial(r, numbers(l).exponential), r)


def exp(l: Lanes, x: str) -> str:
    """e^x."""
    _, bits, p = _reduced(l, x)
    usual = l.mul(l.add(p, l.number(1.0)), power_of_two(l, bits))
    extreme = l.lt(l.number(numbers(l).usual), l.abs(x))
    return l.rarely(extreme, usual, lambda: _extreme_exp(l, x))


def _extreme_exp(l: Lanes, x: str) -> str:
    """Results that overflow, or are subnormal: 2^n is applied in two steps."""
    bound = l.number(numbers(l).extreme)
    x = l.copysign(l.select(l.lt(bound, l.abs(x)), bound, l.abs(x)), x)
    n, _, p = _reduced(l, x)
    half, first = rounded(l, n, 0.5)
    _, second = rounded(l, l.sub(n, half), 1.0)
    return l.mul(l.mul(l.add(p, l.number(1.0)), power_of_two(l, first)), power_of_two(l, second))


def expm1(l: Lanes, x: str) -> str:
    """e^x - 1, accurate near 0."""
    # Below -60 the result is -1, above `usual` it is that of exp.
    bounded = l.select(l.lt(x, l.number(-60.0)), l.number(-60.0), x)
    _, bits, p = _reduced(l, bounded)
    scale = power_of_two(l, bits)
    usual = l.fma(scale, p, l.sub(scale, l.number(1.0)))
    # The sum loses the sign of -0.0.
    signed = l.select(l.eq(x, l.number(0.0)), x, usual)
    return l.rarely(l.lt(l.number(numbers(l).usual), x), signed, lambda: _extreme_exp(l, x))


def tanh(l: Lanes, x: str) -> str:
    """h / (h + 1) with h = (e^(2 |x|) - 1) / 2, and the sign of x."""
    found, a = numbers(l), l.abs(x)
    a = l.select(l.lt(l.number(found.saturated), a), l.number(found.saturated), a)
    n, bits = rounded(l, l.sub(a, l.number(0.1)), 2 / math.log(2))
    # r is half of what is left, so that the polynomial gives (e^2r - 1) / 2 without a multiplication more.
    # What ln 2 has beyond a float is left out: it is at most 0.2 ulp for n = 1, and counts for less and less beyond.
    r = l.fma(n, l.number(-found.ln2[0] / 2), a)
    halved = [c * 2.0 ** (k + 1) for k, c in enumerate(found.shifted)]
    rest = l.mul(l.mul(r, r), l.polynomial(r, halved))
    scale = power_of_two(l, bits)
    h = l.fma(scale, l.add(r, rest), l.fma(scale, l.number(0.5), l.number(-0.5)))
    # Where n = 0, h is r + rest, and h / (h + 1) = r + (rest - r h) / (h + 1) rounds what is large once only.
    near, zero = l.eq(n, l.number(0.0)), l.number(0.0)
    main, numerator = l.select(near, r, zero), l.select(near, l.fma(l.neg(r), h, rest), h)
    return l.copysign(l.add(main, l.div(numerator, l.add(h, l.number(1.0)))), x)


def taken_apart(l: Lanes, x: str) -> tuple[str, str, str]:
    """(e, the bits of 2^e without bias, m) with x = 2^e m and m in [sqrt(1/2), sqrt(2)); x must be a positive normal number."""
    precision = l.precision
    width = precision.bits - precision.mantissa - 1
    root = int.from_bytes(_bytes(math.sqrt(0.5), precision), "little")
    bits = l.to_bits(x)
    shifted = l.integral("sub", bits, l.integer(root))
    exponent = l.integral("and", shifted, l.integer(-(2**precision.mantissa)))
    # An offset keeps the exponent positive: AVX2 can't shift signed integers of 64 bits.
    offset = 2 ** (width - 1)
    positive = l.integral("lshr", l.integral("add", exponent, l.integer(offset << precision.mantissa)), l.integer(precision.mantissa))
    anchor = 2.0**precision.mantissa
    as_float = l.from_bits(l.integral("or", positive, l.integer(int.from_bytes(_bytes(anchor, precision), "little"))))
    return l.sub(as_float, l.number(anchor + offset)), exponent, l.from_bits(l.integral("sub", bits, exponent))


def _bytes(value: float, precision: Precision) -> bytes:
    return struct.pack("<d" if precision is F64 else "<f", value)


def _log_from(l: Lanes, e: str, f: str) -> str:
    """log(2^e (1 + f)): f - (f²/2 - (s (f²/2 + R) + e ln2_low)) + e ln2_high."""
    found = numbers(l)
    s = l.div(f, l.add(f, l.number(2.0)))
    z = l.mul(s, s)
    half_square = l.mul(l.mul(f, f), l.number(0.5))
    tail = l.fma(s, l.fma(z, l.polynomial(z, found.logarithm), half_square), l.mul(e, l.number(found.ln2_short[1])))
    return l.fma(e, l.number(found.ln2_short[0]), l.sub(f, l.sub(half_square, tail)))


def log(l: Lanes, x: str) -> str:
    """The natural logarithm."""
    e, _, m = taken_apart(l, x)
    usual = _log_from(l, e, l.sub(m, l.number(1.0)))
    # One comparison of integers finds zeros, subnormal and negative numbers, infinities and NaN.
    smallest = 1 << l.precision.mantissa
    normal = (2 ** (l.precision.bits - l.precision.mantissa - 1) - 2) << l.precision.mantissa
    unusual = l.compare_bits("uge", l.integral("sub", l.to_bits(x), l.integer(smallest)), l.integer(normal))
    return l.rarely(unusual, usual, lambda: _unusual_log(l, x))


def _unusual_log(l: Lanes, x: str) -> str:
    shift = l.precision.mantissa + 2
    e, _, m = taken_apart(l, l.mul(x, l.number(2.0**shift)))
    subnormal = _log_from(l, l.sub(e, l.number(float(shift))), l.sub(m, l.number(1.0)))
    zero, infinity = l.number(0.0), l.number(math.inf)
    # Infinity stays, NaN stays, what is negative becomes NaN.
    rest = l.select(l.lt(x, zero), l.number(math.nan), l.select(l.lt(x, infinity), subnormal, x))
    return l.select(l.eq(x, zero), l.number(-math.inf), rest)


def log1p(l: Lanes, x: str) -> str:
    """log(1 + x): the logarithm of the rounded sum, corrected by what was lost in rounding."""
    one = l.number(1.0)
    u = l.add(one, x)
    b = l.sub(u, one)
    lost = l.add(l.sub(one, l.sub(u, b)), l.sub(x, b))
    e, exponent, m = taken_apart(l, u)
    reciprocal = l.from_bits(l.integral("sub", l.to_bits(one), exponent))
    f = l.fma(lost, reciprocal, l.sub(m, one))
    usual = l.copysign(_log_from(l, e, f), x)
    top = l.number(2.0 ** (2 ** (l.precision.bits - l.precision.mantissa - 2) - 2))
    fine = l.logical_and(l.lt(l.number(-1.0), x), l.lt(x, top))
    return l.rarely(l.logical_not(fine), usual, lambda: l.call("log", u))


def sigmoid(l: Lanes, x: str) -> str:
    """1 / (1 + e^-x), whose denominator is rounded once; e^x (1 - e^x) where the sum would lose the 1."""
    y, one = l.neg(x), l.number(1.0)
    _, bits, p = _reduced(l, l.select(l.lt(y, l.number(-60.0)), l.number(-60.0), y))
    scale = power_of_two(l, bits)
    usual = l.div(one, l.fma(scale, p, l.add(scale, one)))

    def small() -> str:
        e = _extreme_exp(l, x)
        return l.fma(l.neg(e), e, e)

    return l.rarely(l.lt(l.number(numbers(l).lost), y), usual, small)


def softplus(l: Lanes, x: str) -> str:
    """max(x, 0) + log(1 + t) with t = e^-|x|, where log(1 + t) = t - s (t - z P(z)) with s = t / (2 + t)."""
    t = l.call("exp", l.neg(l.abs(x)))
    s = l.div(t, l.add(t, l.number(2.0)))
    z = l.mul(s, s)
    logarithm = l.fma(l.neg(s), l.fma(l.neg(z), l.polynomial(z, numbers(l).wide_logarithm), t), t)
    zero = l.number(0.0)
    return l.add(l.select(l.lt(x, zero), zero, x), logarithm)


FUNCTIONS: dict[str, Body] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
}
