"""erf and erfc.

erf(x) = 1 - p(x)^8, where p is the eighth root of erfc: 1 - p goes through a polynomial, and is raised by 1 - (1 - e)² = 2e - e², three times. It
needs no division and no exponential, and a relative error of the polynomial becomes smaller in each step. erfc(x) = e^(-x²) erfcx(x), where erfcx is
a polynomial in 1 / (|x| + k), as in Schonfelder, "Chebyshev expansions for the error and related functions" (1978). The polynomials are minimax ones,
found by Remez' algorithm; with each stands its largest error.
"""

from __future__ import annotations

import math

from ..lanes import F32, F64, Body, Lanes, Precision
from .exponential import numbers, power_of_two, rounded

_ROOT: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-53.5
        1.1283791670955126,
        -7.481967907562117e-17,
        0.5570423008216664,
        0.016720440615011267,
        -0.052753905584783205,
        -0.0013885006067428825,
        0.003933326346744566,
        -0.0005192015724266603,
        -0.00011500957247497024,
        8.257915371861571e-05,
        -2.5058987587174684e-05,
        -1.3426697909666006e-07,
        4.134861454047602e-06,
        -2.123017495774013e-06,
        5.230364573341654e-07,
        -2.424966593362533e-09,
        -5.5889154000214916e-08,
        2.680701665091154e-08,
        -7.72747964916647e-09,
        1.5710709451261508e-09,
        -2.3225317971119178e-10,
        2.4628763778178284e-11,
        -1.7833847554471365e-12,
        7.914540906142477e-14,
        -1.6254434916294486e-15,
    ),
    F32: (  # 2^-30.5
        1.128379225730896,
        -5.9371338068103796e-08,
        0.5570424199104309,
        0.016718605533242226,
        -0.05273983255028725,
        -0.0014428889844566584,
        0.004054499324411154,
        -0.0006864350871182978,
        3.263886901549995e-05,
        2.9735784323747794e-07,
        5.855946128008327e-08,
    ),
}
"""h, l, c1, ... in 8 (1 - erfc(x)^(1/8)) = x h + x (l + c1 x + ...), 0 <= x <= `_SATURATED`: the largest relative error in erf(x)."""

_SATURATED = {F64: 6.0, F32: 4.0}
"""erf(x) rounds to 1 from here on, also as it is computed."""

_SCALED: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-55.5
        1.095995661000491,
        -0.9765487290808825,
        0.7732087022652406,
        -0.5408538313131815,
        0.33085158787779817,
        -0.17401093724167385,
        0.07638151491404206,
        -0.026370053313876894,
        0.006112055604470288,
        -0.00028095909155618647,
        -0.00045505237784319673,
        0.00017681400640883718,
        -3.6362275045631277e-06,
        -1.8864879525441617e-05,
        4.696460718869679e-06,
        1.432808681346834e-06,
        -8.480185486757155e-07,
        -8.706263213994144e-08,
        1.238565569719721e-07,
        9.5737449922544e-09,
        -1.3641124642336607e-08,
        -2.6912094299323937e-09,
    ),
    F32: (  # 2^-28.3
        1.0740069150924683,
        -0.8833944797515869,
        0.590228259563446,
        -0.3104657232761383,
        0.11952997744083405,
        -0.026841597631573677,
        -0.001231481204740703,
        0.003081947099417448,
        -0.0004740196745842695,
        -0.0003205070097465068,
    ),
}
"""P in (x + k) erfcx(x) = P(u), u = (x - k) / (x + k), 0 <= x <= `_VANISHED`: the largest relative error."""

_POLE = {F64: 4.0, F32: 3.0}
"""k in what stands before."""

_TAIL = {F64: 26.0, F32: 9.0}
"""e^(-x²) and erfc(x) are normal numbers up to here."""

_VANISHED = {F64: 28.0, F32: 11.0}
"""erfc(x) rounds to 0 from here on."""

_SHIFT = {F64: 128, F32: 64}
"""2^shift e^(-x²) is a normal number up to `_VANISHED`."""


def at_most(l: Lanes, x: str, bound: float) -> str:
    """The smaller of x and a bound; NaN stays NaN."""
    return l.select(l.lt(l.number(bound), x), l.number(bound), x)


def erf(l: Lanes, x: str) -> str:
    """The error function."""
    a = at_most(l, l.abs(x), _SATURATED[l.precision])
    first, *rest = _ROOT[l.precision]
    e = l.fma(a, l.number(first), l.mul(a, l.two_chains(a, rest)))
    # e stands for 8, 4, 2 times 1 - p, so that it does not lose bits where x is subnormal.
    for scale in (16.0, 8.0, 4.0):
        e = l.fma(l.mul(e, l.number(-1.0 / scale)), e, e)
    return l.copysign(e, x)


def _exponential(l: Lanes, x: str, rest: str) -> tuple[str, str]:
    """(n, p) with e^(rest - x) = 2^n (1 + p), n in the last bits of an integer: as exp does it, without its last rounding."""
    n, bits = rounded(l, x, -1 / math.log(2))
    high, low = numbers(l).ln2
    r = l.add(l.fma(n, l.number(-low), l.fma(n, l.number(-high), l.neg(x))), rest)
    return bits, l.fma(l.mul(r, r), l.polynomial(r, numbers(l).exponential), r)


def erfc(l: Lanes, x: str) -> str:
    """1 - erf(x), accurate where it is small."""
    a = at_most(l, l.abs(x), _VANISHED[l.precision])
    square = l.mul(a, a)
    lost = l.fma(a, a, l.neg(square))
    pole = l.number(_POLE[l.precision])
    s = l.add(a, pole)
    t = l.div(l.number(1.0), s)
    # What the sum and the quotient lost: 1 / (a + k) is t + t missing.
    missing = l.fma(l.neg(l.sub(a, l.sub(s, pole))), t, l.fma(l.neg(s), t, l.number(1.0)))
    twice = l.number(-2.0 * _POLE[l.precision])
    u = l.fma(l.mul(t, missing), twice, l.fma(t, twice, l.number(1.0)))
    # The last steps one by one: even and odd powers cancel for large x.
    found = l.two_chains(u, _SCALED[l.precision][3:])
    for coefficient in reversed(_SCALED[l.precision][:3]):
        found = l.fma(u, found, l.number(coefficient))
    scaled = l.mul(t, found)
    n, p = _exponential(l, square, l.sub(missing, lost))
    scaled = l.fma(scaled, p, scaled)

    def tail() -> str:
        """Two steps to where a power of two is subnormal; only the second one rounds."""
        shift = _SHIFT[l.precision]
        return l.mul(l.mul(scaled, power_of_two(l, l.integral("add", n, l.integer(shift)))), l.number(2.0**-shift))

    usual = l.mul(scaled, power_of_two(l, n))
    found = l.rarely(l.lt(l.number(_TAIL[l.precision]), a), usual, tail)
    return l.select(l.lt(x, l.number(0.0)), l.sub(l.number(2.0), found), found)


FUNCTIONS: dict[str, Body] = {"erf": erf, "erfc": erfc}
