"""Elementwise exponentials, trigonometry, and the functions of the field. Rules read: g is the cotangent of y = op(a)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import MissingDependencyError, ShapeError
from ..types import Array, Attributes, Type
from .arithmetic import equal, hypot, less, sqrt, square, where
from .record import ELEMENTWISE_FLOAT, Derivative, Emit, Forward, Op

# Beyond this order! is beyond the largest float.
_MAX_ORDER = 170
_TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)


def _special(name: str) -> Forward:
    """A function of scipy.special, imported when it is first needed: expressions without it need no SciPy."""

    def forward(*arrays: Array) -> Array:
        try:
            module = importlib.import_module("scipy.special")
        except ImportError as error:
            raise MissingDependencyError(f'{name} needs SciPy here: pip install "sumgrad[server]"') from error
        return np.asarray(getattr(module, name)(*arrays))

    return forward


def _sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), with full relative accuracy on both sides."""
    small = np.exp(-np.abs(a))
    return np.where(np.less(a, 0.0), small, 1.0) / (1.0 + small)


def _softplus(a: Array) -> Array:
    """log(1 + exp(a)) without overflow."""
    return np.maximum(a, 0.0) + np.log1p(np.exp(-np.abs(a)))


def _unary(
    number: int,
    name: str,
    doc: str,
    forward: Forward,
    rule: Derivative,
    domain: tuple[float, float],
    accuracy: str = "1 ulp",
    emit: Emit | None = None,
) -> Op:
    """An elementwise op of one float."""
    return Op(
        name=name,
        number=number,
        doc=doc,
        kinds="f",
        infer=ELEMENTWISE_FLOAT,
        forward=forward,
        derivatives=(rule,),
        domain=(domain,),
        accuracy=accuracy,
        emit=emit,
    )


def _sqrt_power(a: Array) -> Array:
    """a ** 0.5, which is not the square root of -0.0 and of minus infinity."""
    return np.where(np.equal(a, -np.inf), np.inf, np.sqrt(a + 0.0))


# NumPy takes such short cuts too, but only where the exponent is a scalar, and not in all versions. Here the bits do not depend on how it is written.
_SHORT_CUTS: dict[float, Forward] = {2.0: np.square, -1.0: lambda a: np.divide(1.0, a), 0.5: _sqrt_power}


def _pow_forward(a: Array, b: Array) -> Array:
    if np.ndim(b) == 0:
        short_cut = _SHORT_CUTS.get(float(b))
        return short_cut(a) if short_cut else np.power(a, b)
    result = np.power(a, b)
    for exponent, short_cut in _SHORT_CUTS.items():
        chosen = np.equal(b, exponent)
        if chosen.any():
            result = np.where(chosen, short_cut(a), result)
    return result


def _pow_base(g: Any, y: Any, a: Any, b: Any) -> Any:
    """d(a**b)/da = b a**(b-1), and 0 for b = 0 even at a = 0."""
    return where(equal(b, 0.0), 0.0, g * (b * power(a, b - 1.0)))


def _pow_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
    """d(a**b)/db = a**b ln a: NaN for negative a; 0 at a = 0, the limit for b > 0."""
    return g * (y * log(where(equal(a, 0.0), 1.0, a)))


power: Op = Op(
    name="pow",
    number=15,
    doc="a ** b; NaN for a negative a with a fractional b",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=_pow_forward,
    derivatives=(_pow_base, _pow_exponent),
    domain=((0.2, 4), (-3, 3)),
    accuracy="1 ulp",
    python="**",
)

exp: Op = _unary(30, "exp", "e ** a", np.exp, lambda g, y, a: g * y, (-4, 4))
expm1: Op = _unary(31, "expm1", "exp(a) - 1, accurate near 0", np.expm1, lambda g, y, a: g * exp(a), (-4, 4))
log: Op = _unary(32, "log", "natural logarithm", np.log, lambda g, y, a: g / a, (0.05, 20))
log1p: Op = _unary(33, "log1p", "log(1 + a), accurate near 0", np.log1p, lambda g, y, a: g / (1.0 + a), (-0.9, 20))

sin: Op = _unary(40, "sin", "sine of radians", np.sin, lambda g, y, a: g * cos(a), (-6, 6))
cos: Op = _unary(41, "cos", "cosine of radians", np.cos, lambda g, y, a: -(g * sin(a)), (-6, 6))
tan: Op = _unary(42, "tan", "tangent of radians", np.tan, lambda g, y, a: g * (1.0 + square(y)), (-1.3, 1.3))
asin: Op = _unary(43, "asin", "inverse sine", np.arcsin, lambda g, y, a: g / sqrt((1.0 - a) * (1.0 + a)), (-0.95, 0.95))
acos: Op = _unary(44, "acos", "inverse cosine", np.arccos, lambda g, y, a: -(g / sqrt((1.0 - a) * (1.0 + a))), (-0.95, 0.95))
atan: Op = _unary(45, "atan", "inverse tangent", np.arctan, lambda g, y, a: g / (1.0 + square(a)), (-5, 5))
atan2: Op = Op(
    name="atan2",
    number=46,
    doc="the angle of the point (b, a), in radians",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.arctan2,
    derivatives=(
        lambda g, y, a, b: g * (b / (square(a) + square(b))),
        lambda g, y, a, b: -(g * (a / (square(a) + square(b)))),
    ),
    domain=((-5, 5), (0.2, 5)),
    accuracy="1 ulp",
)
sinh: Op = _unary(47, "sinh", "hyperbolic sine", np.sinh, lambda g, y, a: g * cosh(a), (-4, 4), "2 ulp")
cosh: Op = _unary(48, "cosh", "hyperbolic cosine", np.cosh, lambda g, y, a: g * sinh(a), (-4, 4), "2 ulp")
tanh: Op = _unary(49, "tanh", "hyperbolic tangent", np.tanh, lambda g, y, a: g * (1.0 - square(y)), (-4, 4), "2 ulp")
asinh: Op = _unary(50, "asinh", "inverse hyperbolic sine", np.arcsinh, lambda g, y, a: g / hypot(a, 1.0), (-5, 5), "2 ulp")
acosh: Op = _unary(
    51, "acosh", "inverse hyperbolic cosine", np.arccosh, lambda g, y, a: g / (sqrt(a - 1.0) * sqrt(a + 1.0)), (1.1, 9), "2 ulp"
)
atanh: Op = _unary(52, "atanh", "inverse hyperbolic tangent", np.arctanh, lambda g, y, a: g / ((1.0 - a) * (1.0 + a)), (-0.9, 0.9), "2 ulp")

relu: Op = _unary(
    60,
    "relu",
    "0 where a < 0, else a; its derivative at 0 is 0",
    lambda a: np.where(np.less(a, 0.0), 0.0, a),
    lambda g, y, a: where(less(0.0, a), g, 0.0),
    (-5, 5),
    "exact",
    lambda l, a: l.select(l.lt(a, l.number(0.0)), l.number(0.0), a),
)
sigmoid: Op = _unary(61, "sigmoid", "1 / (1 + exp(-a))", _sigmoid, lambda g, y, a: g * (y * (1.0 - y)), (-5, 5), "3 ulp")
softplus: Op = _unary(62, "softplus", "log(1 + exp(a))", _softplus, lambda g, y, a: g * sigmoid(a), (-5, 5), "3 ulp")
erf: Op = _unary(
    63, "erf", "error function", _special("erf"), lambda g, y, a: g * (_TWO_OVER_SQRT_PI * exp(-square(a))), (-2.5, 2.5), "3 ulp"
)
erfc: Op = _unary(
    64,
    "erfc",
    "1 - erf(a)",
    _special("erfc"),
    lambda g, y, a: -(g * (_TWO_OVER_SQRT_PI * exp(-square(a)))),
    (-2.5, 2.5),
    "12 ulp up to a = 2.5, a * a ulp beyond",
)
lgamma: Op = _unary(
    65, "lgamma", "log |Gamma(a)|", _special("gammaln"), lambda g, y, a: g * digamma(a), (0.3, 9), "4 ulp away from its zeros"
)
digamma: Op = _unary(
    66,
    "digamma",
    "derivative of lgamma",
    _special("psi"),
    lambda g, y, a: g * polygamma(a, order=(1,)),
    (0.3, 9),
    "8 ulp away from its zeros",
)


def _polygamma_type(types: Sequence[Type], attributes: Attributes) -> Type:
    (order,) = attributes["order"]
    if not 1 <= order <= _MAX_ORDER:
        raise ShapeError(f"polygamma: order {order} must lie in 1..{_MAX_ORDER}")
    return ELEMENTWISE_FLOAT(types, attributes)


def _polygamma(a: Array, order: tuple[int, ...]) -> Array:
    return _special("polygamma")(np.int64(order[0]), a)


def _polygamma_rule(g: Any, y: Any, a: Any, order: tuple[int, ...]) -> Any:
    return g * polygamma(a, order=(order[0] + 1,))


polygamma: Op = Op(
    name="polygamma",
    number=67,
    doc="the order-th derivative of digamma, order >= 1",
    kinds="f",
    infer=_polygamma_type,
    forward=_polygamma,
    derivatives=(_polygamma_rule,),
    attributes=("order",),
    domain=((0.5, 9),),
    accuracy="8 ulp",
    emit=lambda l, a, order: l.call(f"polygamma{order[0]}", a),
)

OPS = (
    power,
    exp,
    expm1,
    log,
    log1p,
    sin,
    cos,
    tan,
    asin,
    acos,
    atan,
    atan2,
    sinh,
    cosh,
    tanh,
    asinh,
    acosh,
    atanh,
    relu,
    sigmoid,
    softplus,
    erf,
    erfc,
    lgamma,
    digamma,
    polygamma,
)
