"""sin, cos, tan.

The argument is reduced to r = x - n pi/2 with |r| <= pi/4, where pi/2 comes in three parts (Cody and Waite, "Software Manual for the Elementary
Functions", 1980): with fused multiply-add the first difference is exact. Large arguments are multiplied by those bits of 2/pi that matter, as in Payne
and Hanek, "Radian reduction for trigonometric functions" (1983). Polynomials are minimax ones, found by Remez' algorithm; with each stands its largest
error relative to the function.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from ..lanes import F32, F64, Body, Lanes, Precision
from .exponential import magic

_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484"
    "e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b"
    "3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361d",
    16,
)
"""The first 1280 bits of 2/pi behind the point."""
_BITS = 1280
HALF_PI: dict[Precision, tuple[float, float, float]] = {
    F64: (1.5707963267948966, 6.123233995736765e-17, 1.0828566739219139e-32),
    F32: (1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15),
}
"""pi/2, what is left of it, and what is left then; none is negative, so that -0.0 keeps its sign."""
_FAR = {F64: 2.0**24, F32: 2.0**12}
"""Beyond this the three parts of pi/2 are too few."""
_SPAN = {F64: 16, F32: 8}
"""Exponents that share one row of the table of large arguments."""
_WORDS = 4
"""Numbers in a row of that table: their bits reach down to what the arguments nearest to a multiple of pi/2 need."""

_SIN: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-56.8
        -0.16666666666666632,
        0.008333333333322323,
        -0.0001984126982973066,
        2.7557313663950543e-06,
        -2.5050753568877076e-08,
        1.589652328817807e-10,
    ),
    F32: (-0.16666655242443085, 0.008332174271345139, -0.00019516728934831917),  # 2^-27.3
}
"""P in sin(r) = r + r z P(z), z = r² <= 0.618."""
_COS: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-59.0
        0.0416666666666666,
        -0.0013888888888874005,
        2.480158728940397e-05,
        -2.755731432866893e-07,
        2.087571992280867e-09,
        -1.1359467850997882e-11,
    ),
    F32: (0.04166664555668831, -0.001388736185617745, 2.4437764295726083e-05),  # 2^-30.4
}
"""P in cos(r) = 1 - z/2 + z² P(z), z = r² <= 0.618."""
_TAN: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-55.9
        0.33333333333333387,
        0.1333333333332478,
        0.05396825397318734,
        0.0218694883921033,
        0.008863238030747254,
        0.0035920998290905164,
        0.0014560525093555692,
        0.0005888321189530464,
        0.00024385966183337648,
        8.329746176772383e-05,
        6.767098573928155e-05,
        -2.6170406856863695e-05,
        4.9059692145241246e-05,
        -2.4472694104376777e-05,
        9.840970903550191e-06,
    ),
    F32: (  # 2^-27.2
        0.3333335220813751,
        0.13332600891590118,
        0.05406665429472923,
        0.021249091252684593,
        0.010917925275862217,
        -1.0601840585877653e-05,
        0.004423994105309248,
    ),
}
"""P in tan(r) = r + r z P(z), z = r² <= 0.618."""


def two_sum(l: Lanes, a: str, b: str) -> tuple[str, str]:
    """a + b rounded, and exactly what was lost (Knuth)."""
    s = l.add(a, b)
    t = l.sub(s, a)
    return s, l.add(l.sub(a, l.sub(s, t)), l.sub(b, t))


def two_product(l: Lanes, a: str, b: str) -> tuple[str, str]:
    """a b rounded, and exactly what was lost."""
    p = l.mul(a, b)
    return p, l.fma(a, b, l.neg(p))


def _first_step(l: Lanes, x: str) -> tuple[str, str, str]:
    """(x minus n times the first part of pi/2, exactly; n; n in the last bits of an integer)."""
    anchor = l.number(magic(l.precision))
    shifted = l.fma(x, l.number(2 / math.pi), anchor)
    n = l.sub(shifted, anchor)
    return l.fma(n, l.number(-HALF_PI[l.precision][0]), x), n, l.to_bits(shifted)


def _reduced(l: Lanes, x: str) -> tuple[str, str]:
    """(r, n in the last bits of an integer) with x = n pi/2 + r, for |x| up to `_FAR`."""
    _, second, third = HALF_PI[l.precision]
    exact, n, bits = _first_step(l, x)
    return l.fma(n, l.number(-third), l.fma(n, l.number(-second), exact)), bits


def _reduced_with_rest(l: Lanes, x: str) -> tuple[str, str, str]:
    """(r, n, what r lacks)."""
    _, second, third = HALF_PI[l.precision]
    exact, n, bits = _first_step(l, x)
    product, product_lost = two_product(l, n, l.number(-second))
    r, lost = two_sum(l, exact, product)
    # Where r is tiny, what it has too much may be as large: it is rounded once more. -0.0 less 0.0 is still -0.0.
    excess = l.fma(n, l.number(third), l.neg(l.add(lost, product_lost)))
    total = l.sub(r, excess)
    return total, bits, l.sub(l.sub(r, total), excess)


def _sine(l: Lanes, r: str) -> str:
    """sin(r), |r| <= pi/4; the sum loses the sign of -0.0."""
    z = l.mul(r, r)
    return l.copysign(l.fma(l.mul(r, z), l.two_chains(z, _SIN[l.precision]), r), r)


def _cosine(l: Lanes, r: str) -> str:
    z = l.mul(r, r)
    return l.fma(z, l.fma(z, l.two_chains(z, _COS[l.precision]), l.number(-0.5)), l.number(1.0))


def _odd(l: Lanes, n: str) -> str:
    """Whether an integer is odd: its last bit as the sign."""
    return l.compare_bits("slt", l.integral("shl", n, l.integer(l.precision.bits - 1)), l.integer(0))


def _wave(l: Lanes, r: str, n: str) -> str:
    """sin(r + n pi/2)."""
    value = l.select(_odd(l, n), _cosine(l, r), _sine(l, r))
    top = l.precision.bits - 1
    sign = l.integral("and", l.integral("shl", n, l.integer(top - 1)), l.integer(1 << top))
    return l.from_bits(l.integral("xor", l.to_bits(value), sign))


def _tangent(l: Lanes, r: str, n: str, rest: str) -> str:
    """tan(r + rest + n pi/2): -1 / tan(r) where n is odd."""
    z = l.mul(r, r)
    t = l.fma(l.mul(r, z), l.two_chains(z, _TAN[l.precision]), l.fma(rest, z, rest))
    t = l.copysign(l.add(r, t), r)
    odd = _odd(l, n)
    return l.div(l.select(odd, l.number(-1.0), t), l.select(odd, t, l.number(1.0)))


def sin(l: Lanes, x: str) -> str:
    """The sine of radians."""
    return l.rarely(_far(l, x), _wave(l, *_reduced(l, x)), lambda: _wave(l, *_reduced_far(l, x)[:2]))


def cos(l: Lanes, x: str) -> str:
    """The cosine of radians."""

    def shifted(r: str, n: str) -> str:
        return _wave(l, r, l.integral("add", n, l.integer(1)))

    return l.rarely(_far(l, x), shifted(*_reduced(l, x)), lambda: shifted(*_reduced_far(l, x)[:2]))


def tan(l: Lanes, x: str) -> str:
    """The tangent of radians."""
    return l.rarely(_far(l, x), _tangent(l, *_reduced_with_rest(l, x)), lambda: _tangent(l, *_reduced_far(l, x)))


def _far(l: Lanes, x: str) -> str:
    return l.lt(l.number(_FAR[l.precision]), l.abs(x))


def _row(precision: Precision, exponent: int) -> list[float]:
    """2^exponent 2/pi, without multiples of 4 for arguments of the precision, as the sum of numbers that become smaller."""
    whole = 1 << (precision.mantissa + 2 + _BITS)
    left = Fraction((_TWO_OVER_PI << exponent) % whole, 1 << _BITS)
    words = []
    for _ in range(_WORDS):
        shift = left.numerator.bit_length() - left.denominator.bit_length() - precision.mantissa
        unit = Fraction(2) ** shift
        word = (left // unit) * unit
        words.append(float(word))
        left -= word
    return words


@functools.cache
def _table(precision: Precision) -> tuple[float, ...]:
    """All rows of a precision, one after the other, from `_FAR` to the largest float."""
    first = _FAR[precision].hex().rpartition("p")[2]
    last = 2 ** (precision.bits - precision.mantissa - 2)
    return tuple(word for exponent in range(int(first), last, _SPAN[precision]) for word in _row(precision, exponent))


def _table_name(l: Lanes) -> str:
    """The global that holds the table; defined in the module when it is first needed."""
    name, of, numbers = f"@two_over_pi.{l.precision.name}", l.precision.float, _table(l.precision)
    scalar = Lanes(l.function, l.precision, 1)
    elements = ", ".join(f"{of} {scalar.number(x)}" for x in numbers)
    l.function.module.declarations[name] = f"{name} = private unnamed_addr constant [{len(numbers)} x {of}] [{elements}]"
    return name


def _words(l: Lanes, row: str) -> list[str]:
    """The numbers of each lane's row of the table."""
    name, f, result = _table_name(l), l.function, ["poison"] * _WORDS
    scalar = Lanes(f, l.precision, 1)
    for lane in range(l.width):
        index = row if l.width == 1 else f.emit(f"extractelement {l.bits} {row}, i64 {lane}")
        for k in range(_WORDS):
            place = f.emit(f"getelementptr inbounds [{_WORDS} x {scalar.float}], ptr {name}, {scalar.bits} {index}, i64 {k}")
            word = f.emit(f"load {scalar.float}, ptr {place}")
            result[k] = word if l.width == 1 else f.emit(f"insertelement {l.float} {result[k]}, {scalar.float} {word}, i64 {lane}")
    return result


def _split(l: Lanes, a: str) -> tuple[str, str]:
    """(the row of the table for a number beyond `_FAR`, the number without the power of two that the row holds)."""
    precision, span = l.precision, _SPAN[l.precision]
    bias = 2 ** (precision.bits - precision.mantissa - 2) - 1
    first = bias + _FAR[precision].as_integer_ratio()[0].bit_length() - 1
    exponent = l.integral("sub", l.integral("lshr", l.to_bits(a), l.integer(precision.mantissa)), l.integer(first))
    row = l.integral("lshr", exponent, l.integer(span.bit_length() - 1))
    within = l.integral("and", exponent, l.integer(span - 1))
    fraction = l.integral("and", l.to_bits(a), l.integer((1 << precision.mantissa) - 1))
    biased = l.integral("shl", l.integral("add", within, l.integer(bias)), l.integer(precision.mantissa))
    return row, l.from_bits(l.integral("or", fraction, biased))


def _without_fours(l: Lanes, p: str) -> str:
    """p minus the nearest multiple of 4."""
    return l.fma(l.rint(l.mul(p, l.number(0.25))), l.number(-4.0), p)


def _distilled(l: Lanes, terms: list[str]) -> list[str]:
    """The same sum; the first term is that sum rounded (Ogita, Rump and Oishi, "Accurate sum and dot product", 2005)."""
    result, s = [], terms[0]
    for term in terms[1:]:
        s, lost = two_sum(l, s, term)
        result.append(lost)
    return [s, *result]


def _reduced_far(l: Lanes, x: str) -> tuple[str, str, str]:
    """`_reduced_with_rest` for any number beyond `_FAR`; r is NaN for NaN and infinities."""
    infinity = l.number(math.inf)
    finite = l.logical_and(l.lt(l.abs(x), infinity), l.lt(l.number(_FAR[l.precision]), l.abs(x)))
    row, g = _split(l, l.select(finite, l.abs(x), l.number(2 * _FAR[l.precision])))
    p, lost = zip(*(two_product(l, g, word) for word in _words(l, row)), strict=True)
    terms = _distilled(l, [*(_without_fours(l, q) for q in (p[0], lost[0], p[1])), lost[1], p[2], lost[2], p[3]])
    n = l.rint(terms[0])
    terms = _distilled(l, _distilled(l, [l.sub(terms[0], n), *terms[1:]]))
    low = functools.reduce(l.add, reversed(terms[1:]))
    first, second, _ = HALF_PI[l.precision]
    product, lost_here = two_product(l, terms[0], l.number(first))
    r, rest = two_sum(l, product, l.fma(low, l.number(first), l.fma(terms[0], l.number(second), lost_here)))
    r = l.select(l.lt(l.abs(x), infinity), r, l.number(math.nan))
    r, n, rest = (l.select(l.lt(x, l.number(0.0)), l.neg(a), a) for a in (r, n, rest))
    return r, l.to_bits(l.add(n, l.number(magic(l.precision)))), rest


FUNCTIONS: dict[str, Body] = {"sin": sin, "cos": cos, "tan": tan}
