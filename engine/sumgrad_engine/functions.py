"""The functions of expressions, under the names of NumPy and the array API.

Each takes Values, numbers and arrays, broadcasts as NumPy does over the per-sample shape, and returns a Value. Integers and booleans become floats
where floats are needed. Shapes that do not fit raise ShapeError with the line of the caller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import arrays
from .arrays import Axis, located
from .errors import ShapeError
from .ops import Op, arithmetic, contraction, indexing, transcendental
from .types import DType
from .value import Value, as_value, literal

Operand = Any
"""A Value, a number, or anything that numpy.asarray takes."""


def _call(op: Op, *operands: Operand) -> Value:
    return op(as_value(operands[0]), *operands[1:])  # type: ignore[no-any-return]


def abs(x: Operand) -> Value:  # noqa: A001
    """|x|; the derivative at 0 is 0."""
    return _call(arithmetic.absolute, x)


def sign(x: Operand) -> Value:
    """-1, 0 or 1; the derivative is 0."""
    return _call(arithmetic.sign, x)


def sqrt(x: Operand) -> Value:
    """The square root."""
    return _call(arithmetic.sqrt, x)


def square(x: Operand) -> Value:
    """x * x."""
    return _call(arithmetic.square, x)


def reciprocal(x: Operand) -> Value:
    """1 / x."""
    return _call(arithmetic.reciprocal, x)


def negative(x: Operand) -> Value:
    """-x."""
    return _call(arithmetic.negative, x)


def exp(x: Operand) -> Value:
    """e ** x."""
    return _call(transcendental.exp, x)


def expm1(x: Operand) -> Value:
    """exp(x) - 1, accurate near 0."""
    return _call(transcendental.expm1, x)


def log(x: Operand) -> Value:
    """The natural logarithm."""
    return _call(transcendental.log, x)


def log1p(x: Operand) -> Value:
    """log(1 + x), accurate near 0."""
    return _call(transcendental.log1p, x)


def sin(x: Operand) -> Value:
    """The sine of x radians."""
    return _call(transcendental.sin, x)


def cos(x: Operand) -> Value:
    """The cosine of x radians."""
    return _call(transcendental.cos, x)


def tan(x: Operand) -> Value:
    """The tangent of x radians."""
    return _call(transcendental.tan, x)


def asin(x: Operand) -> Value:
    """The inverse sine, in radians."""
    return _call(transcendental.asin, x)


def acos(x: Operand) -> Value:
    """The inverse cosine, in radians."""
    return _call(transcendental.acos, x)


def atan(x: Operand) -> Value:
    """The inverse tangent, in radians."""
    return _call(transcendental.atan, x)


def sinh(x: Operand) -> Value:
    """The hyperbolic sine."""
    return _call(transcendental.sinh, x)


def cosh(x: Operand) -> Value:
    """The hyperbolic cosine."""
    return _call(transcendental.cosh, x)


def tanh(x: Operand) -> Value:
    """The hyperbolic tangent."""
    return _call(transcendental.tanh, x)


def asinh(x: Operand) -> Value:
    """The inverse hyperbolic sine."""
    return _call(transcendental.asinh, x)


def acosh(x: Operand) -> Value:
    """The inverse hyperbolic cosine."""
    return _call(transcendental.acosh, x)


def atanh(x: Operand) -> Value:
    """The inverse hyperbolic tangent."""
    return _call(transcendental.atanh, x)


def relu(x: Operand) -> Value:
    """0 where x < 0, else x; the derivative at 0 is 0."""
    return _call(transcendental.relu, x)


def sigmoid(x: Operand) -> Value:
    """1 / (1 + exp(-x)), without overflow."""
    return _call(transcendental.sigmoid, x)


def softplus(x: Operand) -> Value:
    """log(1 + exp(x)), without overflow."""
    return _call(transcendental.softplus, x)


def erf(x: Operand) -> Value:
    """The error function."""
    return _call(transcendental.erf, x)


def erfc(x: Operand) -> Value:
    """1 - erf(x), accurate for large x."""
    return _call(transcendental.erfc, x)


def lgamma(x: Operand) -> Value:
    """log |Gamma(x)|."""
    return _call(transcendental.lgamma, x)


def digamma(x: Operand) -> Value:
    """The derivative of lgamma."""
    return _call(transcendental.digamma, x)


def add(x: Operand, y: Operand) -> Value:
    """x + y."""
    return _call(arithmetic.add, x, y)


def subtract(x: Operand, y: Operand) -> Value:
    """x - y."""
    return _call(arithmetic.subtract, x, y)


def multiply(x: Operand, y: Operand) -> Value:
    """x * y."""
    return _call(arithmetic.multiply, x, y)


def divide(x: Operand, y: Operand) -> Value:
    """x / y."""
    return _call(arithmetic.divide, x, y)


def atan2(x: Operand, y: Operand) -> Value:
    """The angle of the point (y, x), in radians."""
    return _call(transcendental.atan2, x, y)


def hypot(x: Operand, y: Operand) -> Value:
    """sqrt(x*x + y*y), without overflow."""
    return _call(arithmetic.hypot, x, y)


def maximum(x: Operand, y: Operand) -> Value:
    """The larger; the derivative is shared at a tie."""
    return _call(arithmetic.maximum, x, y)


def minimum(x: Operand, y: Operand) -> Value:
    """The smaller; the derivative is shared at a tie."""
    return _call(arithmetic.minimum, x, y)


def less(x: Operand, y: Operand) -> Value:
    """x < y."""
    return _call(arithmetic.less, x, y)


def less_equal(x: Operand, y: Operand) -> Value:
    """x <= y."""
    return _call(arithmetic.less_equal, x, y)


def equal(x: Operand, y: Operand) -> Value:
    """x == y, elementwise (the operator == compares identity)."""
    return _call(arithmetic.equal, x, y)


def not_equal(x: Operand, y: Operand) -> Value:
    """x != y, elementwise."""
    return _call(arithmetic.not_equal, x, y)


def logical_and(x: Operand, y: Operand) -> Value:
    """x and y, of booleans."""
    return _call(arithmetic.logical_and, x, y)


def logical_or(x: Operand, y: Operand) -> Value:
    """x or y, of booleans."""
    return _call(arithmetic.logical_or, x, y)


def greater(x: Operand, y: Operand) -> Value:
    """x > y."""
    return _call(arithmetic.less, y, x)


def greater_equal(x: Operand, y: Operand) -> Value:
    """x >= y."""
    return _call(arithmetic.less_equal, y, x)


def logical_not(x: Operand) -> Value:
    """not x, of booleans."""
    return _call(arithmetic.logical_not, x)


def pow(x: Operand, y: Operand) -> Value:  # noqa: A001
    """x ** y. The derivative with respect to y is x ** y * log(x): NaN for negative x."""
    return _call(transcendental.power, x, y)


def where(condition: Operand, x: Operand, y: Operand) -> Value:
    """x where the condition holds, y elsewhere. A NaN or infinity in what is not chosen, or in its derivative, stays there."""
    return _call(arithmetic.where, condition, x, y)


def gelu(x: Operand) -> Value:
    """x times the standard normal distribution function at x: x/2 (1 + erf(x / sqrt 2)) (Hendrycks and Gimpel, arXiv:1606.08415)."""
    value = as_value(x)
    return 0.5 * value * (1.0 + erf(value * math.sqrt(0.5)))


def sum(x: Operand, axis: Axis = None, keepdims: bool = False) -> Value:  # noqa: A001
    """The sum over axes of the per-sample shape; over all of them if `axis` is None. (Sums over samples are the Objective's.)"""
    return arrays.reduction(contraction.sum_, as_value(x), axis, keepdims)  # type: ignore[no-any-return]


def mean(x: Operand, axis: Axis = None, keepdims: bool = False) -> Value:
    """The mean over axes."""
    return arrays.mean(as_value(x), axis, keepdims)  # type: ignore[no-any-return]


def max(x: Operand, axis: Axis = None, keepdims: bool = False) -> Value:  # noqa: A001
    """The largest over axes; the derivative is shared at a tie."""
    return arrays.reduction(contraction.max_, as_value(x), axis, keepdims)  # type: ignore[no-any-return]


def logsumexp(x: Operand, axis: Axis = None, keepdims: bool = False) -> Value:
    """The log of the sum of exponentials over axes, without overflow."""
    return arrays.reduction(contraction.logsumexp, as_value(x), axis, keepdims)  # type: ignore[no-any-return]


def softmax(x: Operand, axis: int = -1) -> Value:
    """exp(x) / sum(exp(x)) along an axis, without overflow."""
    return exp(log_softmax(x, axis))


def log_softmax(x: Operand, axis: int = -1) -> Value:
    """x - logsumexp(x) along an axis."""
    value = as_value(x)
    return value - logsumexp(value, axis, keepdims=True)


def matmul(x: Operand, y: Operand) -> Value:
    """x @ y of vectors, matrices, or stacks of matrices, as numpy.matmul."""
    return arrays.matmul(as_value(x), as_value(y))  # type: ignore[no-any-return]


def reshape(x: Operand, shape: int | Sequence[int]) -> Value:
    """The same elements in another shape; one extent may be -1."""
    return arrays.reshape(as_value(x), shape)  # type: ignore[no-any-return]


def transpose(x: Operand, axes: Sequence[int] | None = None) -> Value:
    """Axes reversed, or in the order given."""
    return arrays.transpose(as_value(x), axes)  # type: ignore[no-any-return]


def broadcast_to(x: Operand, shape: Sequence[int]) -> Value:
    """x repeated to a shape."""
    return arrays.broadcast_to(as_value(x), shape)  # type: ignore[no-any-return]


def concat(parts: Sequence[Operand], axis: int = 0) -> Value:
    """Parts one after another along an axis."""
    return arrays.concat([as_value(part) for part in parts], axis)  # type: ignore[no-any-return]


def stack(parts: Sequence[Operand], axis: int = 0) -> Value:
    """Parts of one shape along a new axis."""
    return arrays.stack([as_value(part) for part in parts], axis)  # type: ignore[no-any-return]


@located("take")
def take(x: Operand, indices: Operand, axis: int | None = None) -> Value:
    """Entries of x along an axis (of the flattened x if None), chosen by integers 0 <= i < extent: an input of dtype=int, or data.

    An index that is out of range is an InputError when the expression is evaluated.
    """
    return arrays.take(as_value(x), _integers(indices), axis)  # type: ignore[no-any-return]


@located("one_hot")
def one_hot(indices: Operand, extent: int) -> Value:
    """A new last axis of that extent: 1.0 at the integer 0 <= i < extent, and 0.0 elsewhere."""
    return indexing.one_hot(_integers(indices), extent=(extent,))  # type: ignore[no-any-return]


def _integers(indices: Operand) -> Value:
    value = literal([indices])[0] if isinstance(indices, int) else as_value(indices)
    if value.dtype is not DType.INT:
        raise ShapeError(f"indices must be integers (input(..., dtype=int)), not {value.dtype.name.lower()}s")
    return value
