"""lgamma and its derivative, digamma.

From 3.5 and 2 on, Stirling's series with a polynomial instead of its divergent tail; below, a polynomial around the zeros at 1, 2 and 1.4616, after one or
two steps of the recurrences Gamma(x + 1) = x Gamma(x) and psi(x + 1) = psi(x) + 1 / x; for negative arguments the reflection formulas (Abramowitz and
Stegun, 6.1.40, 6.1.17, 6.3.18, 6.3.5, 6.3.7). The polynomials are minimax ones, found by Remez' algorithm; with each stands its largest error.
"""

from __future__ import annotations

import math

from ..lanes import F32, F64, Body, Lanes, Precision

_LGAMMA_NEAR: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-56.4
        0.42278433509846713,
        0.3224670334241133,
        -0.06735230105319577,
        0.020580808427765943,
        -0.007385551028924752,
        0.0028905103318428173,
        -0.0011927539013407728,
        0.0005096694950854068,
        -0.00022315497210694676,
        9.945794451985729e-05,
        -4.492377314416166e-05,
        2.0503541694810027e-05,
        -9.45607336956108e-06,
        4.393529580250484e-06,
        -1.9748398878014186e-06,
        8.998841292228414e-07,
        -5.805987103054527e-07,
        2.9772041000582367e-07,
    ),
    F32: (  # 2^-28.7
        0.42278432846069336,
        0.32246702909469604,
        -0.06735222041606903,
        0.020581601187586784,
        -0.0073874336667358875,
        0.0028790603391826153,
        -0.0011778105981647968,
        0.0005698137683793902,
        -0.0002699012984521687,
    ),
}
"""R in lgamma(2 + u) = u R(u), |u| <= 1/2: the largest relative error."""

_LGAMMA_FAR: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-58.1
        0.08333333333332472,
        -0.00277777777415716,
        0.0007936502359942644,
        -0.0005951941015864303,
        0.0008397060096898006,
        -0.001857263291834418,
        0.0052326736047931584,
        -0.013667668259637195,
        0.02060667609345634,
    ),
    F32: (0.08333326131105423, -0.0027733847964555025, 0.0007065025274641812),  # 2^-31.7
}
"""P in lgamma(x) = (x - 1/2) log(x) - x + log(2 pi) / 2 + P(1 / x²) / x, x >= 3.5: the largest relative error in lgamma(x)."""

_DIGAMMA_NEAR: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-56.0
        0.951055876031833,
        -0.4236274212814606,
        0.24054248424077398,
        -0.1484049230538904,
        0.09498872445497207,
        -0.061922133274669396,
        0.04076083381082945,
        -0.026975796692226536,
        0.0179072524811012,
        -0.01190821939957907,
        0.00792694402068773,
        -0.005279946502021538,
        0.0035190121206344353,
        -0.0023454188745471822,
        0.0015565994129007191,
        -0.001036851524865717,
        0.0007234370450970098,
        -0.00048470192422038797,
        0.00022702451014113492,
        -0.00014702590327035357,
        0.00025985232902793796,
        -0.00017652785039113208,
    ),
    F32: (  # 2^-28.0
        0.9510558843612671,
        -0.42362749576568604,
        0.24054260551929474,
        -0.14839878678321838,
        0.09498217701911926,
        -0.06205713376402855,
        0.04087839275598526,
        -0.02578071691095829,
        0.016984272748231888,
        -0.016384582966566086,
        0.011113022454082966,
    ),
}
"""R in digamma(x) = (x - zero) R(x - 3/2), 1 <= x <= 2: the largest relative error."""

_DIGAMMA_FAR: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-54.1
        0.08333333333316696,
        -0.008333333277297206,
        0.003968247017211107,
        -0.004166213224437815,
        0.007557504954764782,
        -0.020593931153205073,
        0.07340719406794574,
        -0.2901107126795699,
        1.086567368235073,
        -3.422783803879126,
        8.282316924517586,
        -14.087820609477822,
        14.817416268676052,
        -7.203003848050845,
    ),
    F32: (0.08333320915699005, -0.008326783776283264, 0.0038480558432638645, -0.003081853501498699, 0.0019258797401562333),  # 2^-31.2
}
"""P in digamma(x) = log(x) - 1 / (2 x) - P(1 / x²) / x², x >= 2: the largest relative error in digamma(x)."""

_SINE: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-61.8
        3.141592653589793,
        -5.167712780049969,
        2.550164039877294,
        -0.5992645293187394,
        0.08214588656991492,
        -0.0073704304789723295,
        0.00046629968984392893,
        -2.190318822631793e-05,
        7.694756885710363e-07,
    ),
    F32: (3.1415927410125732, -5.167709827423096, 2.550069570541382, -0.598241925239563, 0.07756005972623825),  # 2^-27.5
}
"""S in sin(pi r) = r S(r²), |r| <= 1/2: the largest relative error."""

_COSINE: dict[Precision, tuple[float, ...]] = {
    F64: (  # 2^-57.8
        1.0,
        -4.934802200544676,
        4.058712126416498,
        -1.3352627688434644,
        0.23533063012980307,
        -0.025806888739302872,
        0.0019295562833441802,
        -0.00010456658011143239,
        4.149591075549881e-06,
    ),
    F32: (1.0, -4.934802055358887, 4.058709144592285, -1.335211992263794, 0.23493753373622894, -0.024396665394306183),  # 2^-32.1
}
"""C in cos(pi r) = C(r²), |r| <= 1/2: the largest error."""

_ZERO = {F64: (1.4616321449683622, 9.549995429965697e-17), F32: (1.4616321325302124, 1.243815006546356e-08)}
"""The positive zero of digamma, and what is left of it."""

_ZERO_BELOW = {F64: (0.46163214496836236, -1.5522348162858677e-17), F32: (0.4616321325302124, 1.243815006546356e-08)}
"""The same, minus 1."""

_TINY = {F64: 2.0**-60, F32: 2.0**-30}
"""Below, the first term of a series at 0 is all."""


def lgamma(l: Lanes, x: str) -> str:
    """The logarithm of |Gamma(x)|."""
    a = l.abs(x)
    found = _positive_lgamma(l, a)
    return l.rarely(l.lt(x, l.number(-_TINY[l.precision])), found, lambda: _reflected_lgamma(l, a, found))


def _positive_lgamma(l: Lanes, a: str) -> str:
    near, one = l.lt(a, l.number(3.5)), l.number(1.0)
    above, below, far_below = l.le(l.number(2.5), a), l.lt(a, l.number(1.5)), l.lt(a, l.number(0.5))

    def factor() -> str:
        """What Gamma(a) and Gamma(2 + u), with |u| <= 1/2, differ by."""
        return l.select(far_below, l.mul(a, l.add(a, one)), l.select(below, a, l.select(above, l.sub(a, one), one)))

    # One logarithm serves both kinds of arguments.
    logarithm = l.call("log", l.rarely(near, a, factor))
    t = l.div(one, a)
    rest = l.fma(t, l.polynomial(l.mul(t, t), _LGAMMA_FAR[l.precision]), l.number(0.5 * math.log(2 * math.pi) - 0.5))
    far = l.fma(l.sub(a, l.number(0.5)), l.sub(logarithm, one), rest)

    def around_two() -> str:
        center = l.select(below, one, l.select(above, l.number(3.0), l.number(2.0)))
        u = l.select(far_below, a, l.sub(a, center))
        return l.fma(u, l.two_chains(u, _LGAMMA_NEAR[l.precision]), l.select(above, logarithm, l.neg(logarithm)))

    return l.rarely(near, far, around_two)


def _reflected_lgamma(l: Lanes, a: str, found: str) -> str:
    """log(pi / |a sin(pi a)|) - lgamma(a); infinite at integers, but minus infinity at minus infinity, as SciPy says."""
    r = l.abs(l.sub(a, l.rint(a)))
    sine = l.mul(r, l.polynomial(l.mul(r, r), [c / math.pi for c in _SINE[l.precision]]))
    reflected = l.sub(l.neg(l.call("log", l.mul(a, sine))), found)
    infinity = l.number(math.inf)
    return l.select(l.eq(r, l.number(0.0)), infinity, l.select(l.lt(a, infinity), reflected, l.neg(found)))


def digamma(l: Lanes, x: str) -> str:
    """The derivative of lgamma."""
    a, zero = l.abs(x), l.number(0.0)
    t = l.div(l.number(1.0), a)
    rest = l.fma(t, l.two_chains(l.mul(t, t), _DIGAMMA_FAR[l.precision]), l.number(0.5))
    far = l.fma(l.neg(t), rest, l.call("log", a))
    found = l.rarely(l.lt(a, l.number(2.0)), far, lambda: _digamma_near(l, a, t))
    return l.rarely(l.le(x, zero), found, lambda: _reflected_digamma(l, x, t, found))


def _digamma_near(l: Lanes, a: str, t: str) -> str:
    below = l.lt(a, l.number(1.0))
    high, low = (l.select(below, l.number(p), l.number(q)) for p, q in zip(_ZERO_BELOW[l.precision], _ZERO[l.precision], strict=True))
    u = l.sub(a, l.select(below, l.number(0.5), l.number(1.5)))
    found = l.mul(l.sub(l.sub(a, high), low), l.two_chains(u, _DIGAMMA_NEAR[l.precision]))
    return l.select(below, l.sub(found, t), found)


def _reflected_digamma(l: Lanes, x: str, t: str, found: str) -> str:
    """digamma(a) + 1 / a + pi cot(pi a) for x = -a; NaN at integers but 0."""
    r = l.sub(l.rint(x), x)
    z = l.mul(r, r)
    cosine = l.polynomial(z, [c * math.pi for c in _COSINE[l.precision]])
    cotangent = l.div(cosine, l.mul(r, l.polynomial(z, _SINE[l.precision])))
    reflected = l.add(l.add(found, t), cotangent)
    reflected = l.select(l.eq(r, l.number(0.0)), l.number(math.nan), reflected)
    return l.select(l.lt(l.number(-_TINY[l.precision]), x), l.div(l.number(-1.0), x), reflected)


FUNCTIONS: dict[str, Body] = {"lgamma": lgamma, "digamma": digamma}
