"""Elementwise arithmetic, comparisons and choice. Rules read: g is the cotangent of y = op(a, b)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .record import ELEMENTWISE_BOOL, ELEMENTWISE_FLOAT, Op


def _zero(g: Any, y: Any, *operands: Any) -> None:
    """The rule of a function that is constant almost everywhere."""


def _larger(g: Any, y: Any, a: Any, b: Any) -> Any:
    """The share of g that goes to a in max(a, b): half at a tie, as in JAX."""
    return where(less(b, a), g, where(equal(a, b), 0.5 * g, 0.0))


def _hypot_share(g: Any, y: Any, a: Any) -> Any:
    return g * (a / where(equal(y, 0.0), 1.0, y))


def _emit_sign(l: Any, a: str) -> str:
    """The sign bit put on 1; zeros and NaN are left, and -0.0 becomes 0.0 as in NumPy."""
    zero = l.number(0.0)
    result: str = l.select(l.eq(a, zero), zero, l.select(l.isnan(a), a, l.copysign(l.number(1.0), a)))
    return result


negative: Op = Op(
    name="negative",
    number=10,
    doc="-a",
    kinds="f",
    infer=ELEMENTWISE_FLOAT,
    forward=np.negative,
    derivatives=(lambda g, y, a: -g,),
    domain=((-5, 5),),
    python="-",
    emit=lambda l, a: l.neg(a),
)
add: Op = Op(
    name="add",
    number=11,
    doc="a + b",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.add,
    derivatives=(lambda g, y, a, b: g, lambda g, y, a, b: g),
    commutative=True,
    domain=((-5, 5), (-5, 5)),
    python="+",
    emit=lambda l, a, b: l.add(a, b),
)
subtract: Op = Op(
    name="subtract",
    number=12,
    doc="a - b",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.subtract,
    derivatives=(lambda g, y, a, b: g, lambda g, y, a, b: -g),
    domain=((-5, 5), (-5, 5)),
    python="-",
    emit=lambda l, a, b: l.sub(a, b),
)
multiply: Op = Op(
    name="multiply",
    number=13,
    doc="a * b",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.multiply,
    derivatives=(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    commutative=True,
    domain=((-5, 5), (-5, 5)),
    python="*",
    emit=lambda l, a, b: l.mul(a, b),
)
divide: Op = Op(
    name="divide",
    number=14,
    doc="a / b",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.divide,
    derivatives=(lambda g, y, a, b: g / b, lambda g, y, a, b: -(g * (y / b))),
    domain=((-5, 5), (0.5, 5)),
    python="/",
    emit=lambda l, a, b: l.div(a, b),
)
absolute: Op = Op(
    name="abs",
    number=16,
    doc="|a|; its derivative at 0 is 0",
    kinds="f",
    infer=ELEMENTWISE_FLOAT,
    forward=np.abs,
    derivatives=(lambda g, y, a: g * sign(a),),
    domain=((-5, 5),),
    emit=lambda l, a: l.abs(a),
)
sign: Op = Op(
    name="sign",
    number=17,
    doc="-1, 0 or 1 by the sign of a; NaN stays NaN",
    kinds="f",
    infer=ELEMENTWISE_FLOAT,
    forward=np.sign,
    derivatives=(_zero,),
    domain=((-5, 5),),
    emit=_emit_sign,
)
sqrt: Op = Op(
    name="sqrt",
    number=18,
    doc="square root",
    kinds="f",
    infer=ELEMENTWISE_FLOAT,
    forward=np.sqrt,
    derivatives=(lambda g, y, a: g * (0.5 / y),),
    domain=((0.05, 9),),
    emit=lambda l, a: l.sqrt(a),
)
square: Op = Op(
    name="square",
    number=19,
    doc="a * a",
    kinds="f",
    infer=ELEMENTWISE_FLOAT,
    forward=np.square,
    derivatives=(lambda g, y, a: g * (2.0 * a),),
    domain=((-5, 5),),
    emit=lambda l, a: l.mul(a, a),
)
reciprocal: Op = Op(
    name="reciprocal",
    number=20,
    doc="1 / a",
    kinds="f",
    infer=ELEMENTWISE_FLOAT,
    forward=lambda a: np.divide(1.0, a),
    derivatives=(lambda g, y, a: -(g * square(y)),),
    domain=((0.3, 5),),
    emit=lambda l, a: l.div(l.number(1.0), a),
)
maximum: Op = Op(
    name="maximum",
    number=21,
    doc="the larger of a and b; NaN if either is NaN; the derivative is shared at a tie",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.maximum,
    derivatives=(_larger, lambda g, y, a, b: _larger(g, y, b, a)),
    domain=((-5, 5), (-5, 5)),
    emit=lambda l, a, b: l.select(l.logical_or(l.lt(b, a), l.isnan(a)), a, b),
)
minimum: Op = Op(
    name="minimum",
    number=22,
    doc="the smaller of a and b; NaN if either is NaN; the derivative is shared at a tie",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.minimum,
    derivatives=(lambda g, y, a, b: _larger(g, y, b, a), _larger),
    domain=((-5, 5), (-5, 5)),
    emit=lambda l, a, b: l.select(l.logical_or(l.lt(a, b), l.isnan(a)), a, b),
)
hypot: Op = Op(
    name="hypot",
    number=23,
    doc="sqrt(a*a + b*b) without overflow; its derivative at the origin is 0",
    kinds="ff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.hypot,
    derivatives=(lambda g, y, a, b: _hypot_share(g, y, a), lambda g, y, a, b: _hypot_share(g, y, b)),
    domain=((0.1, 5), (-5, 5)),
    accuracy="1 ulp",
)

less: Op = Op(
    name="less",
    number=80,
    doc="a < b",
    kinds="ff",
    infer=ELEMENTWISE_BOOL,
    forward=np.less,
    derivatives=(_zero, _zero),
    domain=((-5, 5), (-5, 5)),
    python="<",
    emit=lambda l, a, b: l.lt(a, b),
)
less_equal: Op = Op(
    name="less_equal",
    number=81,
    doc="a <= b",
    kinds="ff",
    infer=ELEMENTWISE_BOOL,
    forward=np.less_equal,
    derivatives=(_zero, _zero),
    domain=((-5, 5), (-5, 5)),
    python="<=",
    emit=lambda l, a, b: l.le(a, b),
)
equal: Op = Op(
    name="equal",
    number=82,
    doc="a == b",
    kinds="ff",
    infer=ELEMENTWISE_BOOL,
    forward=np.equal,
    derivatives=(_zero, _zero),
    commutative=True,
    domain=((-5, 5), (-5, 5)),
    python="==",
    emit=lambda l, a, b: l.eq(a, b),
)
not_equal: Op = Op(
    name="not_equal",
    number=83,
    doc="a != b",
    kinds="ff",
    infer=ELEMENTWISE_BOOL,
    forward=np.not_equal,
    derivatives=(_zero, _zero),
    commutative=True,
    domain=((-5, 5), (-5, 5)),
    python="!=",
    emit=lambda l, a, b: l.ne(a, b),
)
logical_and: Op = Op(
    name="logical_and",
    number=84,
    doc="a and b, of booleans",
    kinds="bb",
    infer=ELEMENTWISE_BOOL,
    forward=np.logical_and,
    derivatives=(None, None),
    commutative=True,
    python="&",
    emit=lambda l, a, b: l.logical_and(a, b),
)
logical_or: Op = Op(
    name="logical_or",
    number=85,
    doc="a or b, of booleans",
    kinds="bb",
    infer=ELEMENTWISE_BOOL,
    forward=np.logical_or,
    derivatives=(None, None),
    commutative=True,
    python="|",
    emit=lambda l, a, b: l.logical_or(a, b),
)
logical_not: Op = Op(
    name="logical_not",
    number=86,
    doc="not a, of a boolean",
    kinds="b",
    infer=ELEMENTWISE_BOOL,
    forward=np.logical_not,
    derivatives=(None,),
    python="~",
    emit=lambda l, a: l.logical_not(a),
)
where: Op = Op(
    name="where",
    number=87,
    doc="b where the boolean a holds, c elsewhere",
    kinds="bff",
    infer=ELEMENTWISE_FLOAT,
    forward=np.where,
    derivatives=(None, lambda g, y, a, b, c: where(a, g, 0.0), lambda g, y, a, b, c: where(a, 0.0, g)),
    emit=lambda l, a, b, c: l.select(a, b, c),
)
cast_float: Op = Op(
    name="cast_float",
    number=88,
    doc="an integer or a boolean as a float",
    kinds="*",
    infer=ELEMENTWISE_FLOAT,
    forward=lambda a: np.asarray(a, np.float64),
    derivatives=(None,),
)

OPS = (
    negative,
    add,
    subtract,
    multiply,
    divide,
    absolute,
    sign,
    sqrt,
    square,
    reciprocal,
    maximum,
    minimum,
    hypot,
    less,
    less_equal,
    equal,
    not_equal,
    logical_and,
    logical_or,
    logical_not,
    where,
    cast_float,
)
