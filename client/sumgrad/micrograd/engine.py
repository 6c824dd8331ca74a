"""micrograd's engine: a scalar Value with its gradient, and the operators on it.

Data and gradients are plain Python numbers, computed by the same operations as micrograd's, so results agree to the bit (see `_users_first` for
the one thing that micrograd leaves open). A node keeps a function of itself as its rule instead of a closure, so nodes are free of reference
cycles and expressions build faster than micrograd's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from sumgrad_engine import value as engine
from sumgrad_engine.display import to_dot, to_svg, to_text
from sumgrad_engine.errors import GraphError
from sumgrad_engine.ops import OPS, Op
from sumgrad_engine.ops.leaves import constant
from sumgrad_engine.types import NO_ATTRIBUTES, Attributes, DType, Type

__all__ = ["Value", "look"]

Number: TypeAlias = float
"""An int or a float; NumPy's scalars count."""


class Value(engine.Value):
    """A scalar and its gradient.

    `data` is kept as given, `grad` starts at 0. `_prev` is the set of Values that it was made from and `_op` the label of the op. A node of a new
    op is made as in micrograd: `out = Value(number, (self,), "sin")`, and a function put into `out._backward` that adds to the operands' `grad`.
    """

    __slots__ = ("__dict__", "_children", "_number", "_op", "_rule")

    type: Type = Type((), DType.FLOAT)
    attributes: Attributes = NO_ATTRIBUTES
    symbolic: bool = False
    name: str = ""
    place = None
    _children: tuple[Value, ...]
    _exponent: Number | None = None

    def __init__(self, data: Number, _children: Iterable[Value] = (), _op: str = "") -> None:
        self._number = data
        self.grad = 0
        self._children = tuple(_children)
        self._op = _op
        self._rule: Callable[[Value], None] | None = None

    @property
    def data(self) -> Any:
        """The number."""
        return self._number

    @data.setter
    def data(self, data: Any) -> None:
        self._number = data.item() if isinstance(data, np.ndarray) and data.ndim == 0 else data

    @property
    def _prev(self) -> set[Value]:
        return set(self._children)

    # Operators. With one of the engine's own Values, symbolic ones included, the result is one of those.

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, Value):
            if isinstance(other, engine.Value):
                return super().__add__(other)
            other = Value(other)
        out = Value(self._number + other._number, (self, other), "+")
        out._rule = _add
        return out

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, Value):
            if isinstance(other, engine.Value):
                return super().__mul__(other)
            other = Value(other)
        out = Value(self._number * other._number, (self, other), "*")
        out._rule = _multiply
        return out

    def __pow__(self, other: Any) -> Any:
        if not isinstance(other, int | float):
            return self._unusual_power(other)
        out = Value(self._number**other, (self,), f"**{other}")
        out._exponent, out._rule = other, _power
        return out

    def _unusual_power(self, exponent: Any) -> Any:
        if isinstance(exponent, engine.Value) and not isinstance(exponent, Value):
            return super().__pow__(exponent)
        raise GraphError(
            f"** takes an int or a float as exponent, as in micrograd, not {exponent!r}: sumgrad.pow(a, b) takes Values and differentiates both",
            op="pow",
        )

    def relu(self) -> Value:
        """0 where negative, else the number itself."""
        out = Value(0 if self._number < 0 else self._number, (self,), "ReLU")
        out._rule = _relu
        return out

    def tanh(self) -> Value:
        """The hyperbolic tangent."""
        out = Value(math.tanh(self._number), (self,), "tanh")
        out._rule = _tanh
        return out

    def exp(self) -> Value:
        """e ** self."""
        out = Value(math.exp(self._number), (self,), "exp")
        out._rule = _exp
        return out

    def __neg__(self) -> Any:
        return self * -1

    def __radd__(self, other: Any) -> Any:
        return self + other

    def __sub__(self, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self, other: Any) -> Any:
        return other + (-self)

    def __rmul__(self, other: Any) -> Any:
        return self * other

    def __truediv__(self, other: Any) -> Any:
        return self * other**-1

    def __rtruediv__(self, other: Any) -> Any:
        return other * self**-1

    def __bool__(self) -> bool:
        # In micrograd a Value is true like any object, whatever its number.
        return True

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Any:  # type: ignore[override]
        # As in micrograd an array takes a Value for a scalar: array * value is an array of Values.
        objects = [np.array(operand, object) if isinstance(operand, Value) else operand for operand in operands]
        return getattr(ufunc, method)(*objects, **options)

    def backward(self) -> None:
        """Sets `grad` to 1 here and adds to that of all nodes below by the chain rule, the nearest first.

        What nodes below hold from an earlier call counts too, as in micrograd: set gradients to 0 before the next call.
        """
        self.grad = 1
        for node in _users_first(self):
            node._backward()

    def _backward(self) -> None:
        """Hands this node's gradient on to its operands."""
        if self._rule is not None:
            self._rule(self)

    def __repr__(self) -> str:
        return f"Value(data={self._number}, grad={self.grad})"

    def display(self, levels: int | None = None) -> str:
        """The expression as text, level by level from here down; `levels` limits how many."""
        return to_text(self, levels, look)

    def to_dot(self) -> str:
        """The expression in Graphviz's DOT language."""
        return to_dot(self, look=look)

    def to_svg(self) -> str:
        """The expression as an SVG picture. Raises LimitError for more than 2,000 nodes."""
        return to_svg(self, look=look)

    def __getstate__(self) -> tuple[dict[str, Any], dict[str, Any]]:
        # The engine's slots are properties here, so copying and pickling must leave them alone.
        return self.__dict__.copy(), {slot: getattr(self, slot) for slot in ("_number", "grad", "_children", "_op", "_rule")}

    # What makes it one of the engine's Values.

    @property
    def _data(self) -> Any:
        return np.float64(self._number)

    @property
    def operands(self) -> tuple[engine.Value, ...]:  # type: ignore[override]
        """The operands in order; for a power its exponent too."""
        return self._children if self._exponent is None else (*self._children, self._exponent_value)

    @cached_property
    def _exponent_value(self) -> engine.Value:
        assert self._exponent is not None
        return engine.Value(float(self._exponent))

    @property
    def op(self) -> Op:  # type: ignore[override]
        """The engine's op of this label. Raises GraphError if it has none."""
        if not self._children:
            return constant
        if self._exponent is not None:
            return OPS["pow"]
        op = OPS.get(_NAMES.get(self._op, self._op))
        if op is None or op.attributes or not op.accepts(len(self._children)):
            raise GraphError(
                f"sumgrad has no op {self._op!r} of {len(self._children)} operands: only micrograd's own backward() knows this node"
            )
        return op


_NAMES = {"+": "add", "*": "multiply", "ReLU": "relu"}


def look(node: Value) -> tuple[str, tuple[Value, ...]]:
    """What displays show of a node: micrograd's label, and operands without exponents."""
    return node._op, node._children


def _users_first(root: Value) -> list[Value]:
    """All nodes that a Value was made from, itself first, none before all of its users.

    In which of the possible orders a node's users come decides the last digit of its gradient. micrograd's order follows the addresses of nodes
    in sets, so that its last digits differ from run to run; this one is always the same: first come, first served, right operands first.
    """
    waiting = {root: 0}
    found = [root]
    for node in found:
        for operand in node._children:
            if operand in waiting:
                waiting[operand] += 1
            else:
                waiting[operand] = 1
                found.append(operand)
    order = [root]
    for node in order:
        for operand in reversed(node._children):
            waiting[operand] -= 1
            if not waiting[operand]:
                order.append(operand)
    return order


# Rules: each adds to the gradients of the operands, as micrograd's closures do.


def _add(out: Value) -> None:
    a, b = out._children
    a.grad += out.grad
    b.grad += out.grad


def _multiply(out: Value) -> None:
    a, b = out._children
    a.grad += b._number * out.grad
    b.grad += a._number * out.grad


def _power(out: Value) -> None:
    (a,), n = out._children, out._exponent
    assert n is not None
    a.grad += (n * a._number ** (n - 1)) * out.grad


def _relu(out: Value) -> None:
    (a,) = out._children
    a.grad += (out._number > 0) * out.grad


def _tanh(out: Value) -> None:
    (a,) = out._children
    a.grad += (1 - out._number**2) * out.grad


def _exp(out: Value) -> None:
    (a,) = out._children
    a.grad += out._number * out.grad
