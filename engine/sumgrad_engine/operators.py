"""Python's operators for expressions: what `a + b`, `x @ w` and `-x` mean, for graph nodes and Values alike.

`==` is not among them: expressions are compared by identity, as in micrograd, so that they can be dictionary keys. Write `equal(a, b)`.
"""

from __future__ import annotations

from typing import Any, Self

from .ops.arithmetic import (
    absolute,
    add,
    divide,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    multiply,
    negative,
    subtract,
)
from .ops.record import Expression
from .ops.transcendental import power


class Operators(Expression):
    """Arithmetic and comparison operators with their reflected forms."""

    __slots__ = ()

    # An array on the left must leave the operation to us instead of taking the expression for one of its elements.
    __array_ufunc__ = None

    def __add__(self, other: Any) -> Self:
        return add(self, other)  # type: ignore[no-any-return]

    def __radd__(self, other: Any) -> Self:
        return add(other, self)  # type: ignore[no-any-return]

    def __sub__(self, other: Any) -> Self:
        return subtract(self, other)  # type: ignore[no-any-return]

    def __rsub__(self, other: Any) -> Self:
        return subtract(other, self)  # type: ignore[no-any-return]

    def __mul__(self, other: Any) -> Self:
        return multiply(self, other)  # type: ignore[no-any-return]

    def __rmul__(self, other: Any) -> Self:
        return multiply(other, self)  # type: ignore[no-any-return]

    def __truediv__(self, other: Any) -> Self:
        return divide(self, other)  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> Self:
        return divide(other, self)  # type: ignore[no-any-return]

    def __pow__(self, other: Any) -> Self:
        return power(self, other)  # type: ignore[no-any-return]

    def __rpow__(self, other: Any) -> Self:
        return power(other, self)  # type: ignore[no-any-return]

    def __neg__(self) -> Self:
        return negative(self)  # type: ignore[no-any-return]

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return absolute(self)  # type: ignore[no-any-return]

    def __lt__(self, other: Any) -> Self:
        return less(self, other)  # type: ignore[no-any-return]

    def __gt__(self, other: Any) -> Self:
        return less(other, self)  # type: ignore[no-any-return]

    def __le__(self, other: Any) -> Self:
        return less_equal(self, other)  # type: ignore[no-any-return]

    def __ge__(self, other: Any) -> Self:
        return less_equal(other, self)  # type: ignore[no-any-return]

    def __and__(self, other: Any) -> Self:
        return logical_and(self, other)  # type: ignore[no-any-return]

    def __rand__(self, other: Any) -> Self:
        return logical_and(other, self)  # type: ignore[no-any-return]

    def __or__(self, other: Any) -> Self:
        return logical_or(self, other)  # type: ignore[no-any-return]

    def __ror__(self, other: Any) -> Self:
        return logical_or(other, self)  # type: ignore[no-any-return]

    def __invert__(self) -> Self:
        return logical_not(self)  # type: ignore[no-any-return]
