"""sinh and cosh, from expm1 and exp."""

from __future__ import annotations

from ..lanes import F32, F64, Body, Lanes

_USUAL = {F64: 708.0, F32: 87.0}
"""e^x is far from overflow up to here."""
_SHIFT = {F64: (44.0, 6.425800057179654e18), F32: (36.0, 2155615765921792.0)}
"""An integer c and e^c / 2: an integer for which this is very nearly a float."""


def _large(l: Lanes, a: str) -> str:
    """e^a / 2, also where e^a overflows."""
    shift, factor = _SHIFT[l.precision]
    return l.mul(l.call("exp", l.sub(a, l.number(shift))), l.number(factor))


def sinh(l: Lanes, x: str) -> str:
    """(e + e / (e + 1)) / 2 with e = exp(|x|) - 1, and the sign of x."""
    a = l.abs(x)
    e = l.call("expm1", a)
    usual = l.mul(l.number(0.5), l.add(e, l.div(e, l.add(e, l.number(1.0)))))
    far = l.lt(l.number(_USUAL[l.precision]), a)
    return l.copysign(l.rarely(far, usual, lambda: _large(l, a)), x)


def cosh(l: Lanes, x: str) -> str:
    """(e + 1 / e) / 2 with e = exp(|x|)."""
    a, half = l.abs(x), l.number(0.5)
    e = l.call("exp", a)
    usual = l.fma(half, e, l.div(half, e))
    return l.rarely(l.lt(l.number(_USUAL[l.precision]), a), usual, lambda: _large(l, a))


FUNCTIONS: dict[str, Body] = {"sinh": sinh, "cosh": cosh}
