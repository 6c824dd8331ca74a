"""polygamma(n): the derivatives of digamma, (-1)^(n + 1) n! zeta(n + 1, x), for any order n.

n! / (x + k)^(n + 1) is summed until x + k is so large that Euler and Maclaurin's remainder is accurate (Abramowitz and Stegun, 6.4.11); for negative
arguments the sum over all integers k, which has the period 1, is taken apart. Powers carry what was lost in rounding, and factorials are roots in the base:
so no power overflows unless the result does.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

from ..lanes import F64, Body, Lanes, Precision

_MAX_ORDER = 170


@functools.cache
def bernoulli(n: int) -> Fraction:
    """The n-th Bernoulli number, from the recurrence sum over k <= n of binomial(n + 1, k) B_k = 0."""
    if n < 2:
        return Fraction(-1, 2) if n else Fraction(1)
    return Fraction(0) if n % 2 else -sum((math.comb(n + 1, k) * bernoulli(k) for k in range(n)), Fraction(0)) / (n + 1)


@functools.cache
def remainder_series(order: int, precision: Precision) -> tuple[int, tuple[float, ...]]:
    """(X, c) with zeta's remainder from x >= X on: (n - 1)! / x^n (1 + n / (2 x) + sum of c_j (X / x)^(2 j), j >= 1)."""
    count = (10 if precision is F64 else 4) + order // 10
    terms = [bernoulli(2 * j) * math.comb(order + 2 * j - 1, 2 * j) for j in range(1, count + 2)]
    # The first term that is left out bounds the error: below 2^-57, and 2^-28 of f32.
    bits = precision.mantissa + 5
    start = math.ceil(2 ** ((math.log2(abs(terms[-1])) + bits) / (2 * count + 2)))
    return start, tuple(float(term / Fraction(start) ** (2 * j)) for j, term in enumerate(terms[:-1], 1))


def _two_parts(value: Decimal, precision: Precision) -> tuple[float, float]:
    high = float(value) if precision is F64 else struct.unpack("<f", struct.pack("<f", float(value)))[0]
    return high, float(value - Decimal(high))


@functools.cache
def factorial_root(n: int, exponent: int, precision: Precision) -> tuple[float, float]:
    """n!^(-1 / exponent): a number of the precision, and what is left of it."""
    context = Context(prec=60)
    return _two_parts(context.power(Decimal(math.factorial(n)), context.divide(Decimal(-1), Decimal(exponent))), precision)


Pair = tuple[str, str]
"""A number, and a small one that is to be added to it."""


def _sum(l: Lanes, a: str, low: str, b: str) -> Pair:
    """a + low + b, without loss from a + b."""
    total = l.add(a, b)
    part = l.sub(total, a)
    return total, l.add(low, l.add(l.sub(a, l.sub(total, part)), l.sub(b, part)))


def _times(l: Lanes, a: Pair, b: Pair) -> Pair:
    high = l.mul(a[0], b[0])
    lost = l.fma(a[0], b[0], l.neg(high))
    return high, l.fma(a[1], b[0], l.fma(a[0], b[1], lost))


def _inverse_power(l: Lanes, x: Pair, n: int, exponent: int) -> str:
    """n! / x^exponent."""
    root = factorial_root(n, exponent, l.precision)
    base = x if root == (1.0, 0.0) else _times(l, x, (l.number(root[0]), l.number(root[1])))
    power = base
    for digit in f"{exponent:b}"[1:]:
        power = _times(l, power, power)
        if digit == "1":
            power = _times(l, power, base)
    inverse = l.div(l.number(1.0), power[0])
    # Where the power over- or underflows, what it lost is NaN.
    lost = l.mul(power[1], inverse)
    return l.select(l.lt(l.abs(lost), l.number(1.0)), l.fma(l.neg(lost), inverse, inverse), inverse)


def _remainder(l: Lanes, order: int, x: Pair) -> str:
    """n! times the sum of 1 / (x + k)^(n + 1) over all k >= 0, for large x."""
    start, coefficients = remainder_series(order, l.precision)
    w = l.div(l.number(float(start)), x[0])
    square = l.mul(w, w)
    series = l.fma(square, l.polynomial(square, coefficients), l.mul(w, l.number(0.5 * order / start)))
    first = _inverse_power(l, x, order - 1, order)
    return l.fma(first, series, first)


class _Variables:
    """Floats that change in a loop; LLVM keeps them in registers."""

    def __init__(self, l: Lanes, count: int) -> None:
        self._lanes = l
        self._names = [l.function.emit(f"alloca {l.float}") for _ in range(count)]

    def put(self, *values: str) -> None:
        for name, value in zip(self._names, values, strict=True):
            self._lanes.function.put(self._lanes.float, value, name)

    def get(self) -> list[str]:
        return [self._lanes.function.get(self._lanes.float, name) for name in self._names]


def _zeta(l: Lanes, order: int, x: Pair, variables: _Variables) -> str:
    """n! zeta(n + 1, x) for positive x."""
    start, _ = remainder_series(order, l.precision)

    def summed() -> str:
        zero = l.number(0.0)
        variables.put(zero, zero, zero)
        with l.function.loop(str(start)):
            total, lost, k = variables.get()
            term = _inverse_power(l, _sum(l, *x, k), order, order + 1)
            following = l.add(total, term)
            # Terms decrease: the sum so far is larger than each.
            lost = l.add(lost, l.sub(term, l.sub(following, total)))
            variables.put(following, lost, l.add(k, l.number(1.0)))
        total, lost, k = variables.get()
        rest = l.add(lost, _remainder(l, order, _sum(l, *x, k)))
        return l.select(l.lt(total, l.number(math.inf)), l.add(total, rest), total)

    return l.rarely(l.lt(x[0], l.number(float(start))), _remainder(l, order, x), summed)


def _reflected(l: Lanes, order: int, x: str, zeta: Callable[[Pair], str]) -> str:
    """n! zeta(n + 1, x) for x <= 0: with r = x - rint(x), n! / r^s + Z(1 + r) + (-1)^s (Z(1 - r) - Z(1 - x)) with s = n + 1, Z = n! zeta(s, .)."""
    zero, one = l.number(0.0), l.number(1.0)
    r = l.sub(x, l.rint(x))
    pole = _inverse_power(l, (l.abs(r), zero), order, order + 1)
    right = zeta(_sum(l, one, zero, r))
    left = l.sub(zeta(_sum(l, one, zero, l.neg(r))), zeta(_sum(l, one, zero, l.neg(x))))
    if order % 2 == 0:
        pole, left = l.copysign(pole, r), l.neg(left)
    infinity = l.number(math.inf)
    # Where the nearest pole's term overflows, others may too, and their difference be NaN.
    found = l.select(l.eq(l.abs(pole), infinity), pole, l.add(pole, l.add(right, left)))
    at_pole = l.logical_or(l.eq(r, zero), l.eq(x, l.number(-math.inf)))
    return l.select(at_pole, infinity, found)


def polygamma(order: int, l: Lanes, x: str) -> str:
    """The order-th derivative of digamma; subnormal results may be 0."""
    variables = _Variables(l, 3)
    zero = l.number(0.0)

    def zeta(pair: Pair) -> str:
        return _zeta(l, order, pair, variables)

    found = zeta((l.abs(x), zero))
    found = l.rarely(l.le(x, zero), found, lambda: _reflected(l, order, x, zeta))
    return found if order % 2 else l.neg(found)


FUNCTIONS: dict[str, Body] = {f"polygamma{order}": functools.partial(polygamma, order) for order in range(1, _MAX_ORDER + 1)}
