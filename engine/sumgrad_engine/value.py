"""Value: a node of an expression, scalar or array.

A Value made from data computes eagerly, as in micrograd; one made by `input` or `param` is symbolic, and so is all that depends on it. Values are
plain objects that point to their operands; a `Graph` is made from them when one is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from . import arrays, display
from .adjoint import Tape
from .errors import GraphError, LimitError, ShapeError
from .operators import Operators
from .ops import Op, contraction, transcendental
from .ops.arithmetic import cast_float
from .ops.leaves import constant, input_, parameter
from .ops.record import type_of
from .shapes import size
from .sources import Place, caller, describe
from .types import NO_ATTRIBUTES, Array, Attributes, DType, Shape, Type

_WANTED = {"i": "integers", "b": "booleans (a comparison, say)"}


class Value(Operators):
    """A node of an expression.

    `Value(2.0)` or `Value([[1.0, 2.0]])` holds data, in float64; what is computed from such Values has data at once, and `backward()` fills `grad`
    in all of them. Expressions of inputs and parameters have none: see Objective.
    """

    __slots__ = ("__weakref__", "_data", "attributes", "grad", "name", "op", "operands", "place", "symbolic", "type")

    op: Op
    operands: tuple[Value, ...]
    attributes: Attributes
    type: Type
    name: str
    grad: Any
    place: Place | None
    symbolic: bool
    _data: Any

    def __init__(self, data: Any, name: str = "") -> None:
        array = np.asarray(data.data if isinstance(data, Value) else data)
        dtype = type_of(array).dtype
        if dtype is DType.INT:
            array, dtype = array.astype(np.float64), DType.FLOAT
        self._leaf(constant, Type(array.shape, dtype), name)
        self._data = _settled(np.array(array, dtype.numpy))

    def _leaf(self, op: Op, of: Type, name: str) -> None:
        self.op, self.operands, self.attributes = op, (), NO_ATTRIBUTES
        self.type = of
        self.name, self.grad, self.place = name, 0.0, caller()
        self.symbolic = op is not constant
        self._data = None

    @property
    def data(self) -> Any:
        """The value: a float (or bool) for shape (), else an array. For parameters the initial value; None where symbolic."""
        data = self._data
        return data.item() if data is not None and self.shape == () else data

    @data.setter
    def data(self, data: Any) -> None:
        array = np.array(data, self.dtype.numpy)
        if array.shape != self.shape:
            raise ShapeError(f"data of shape {array.shape} for a Value of shape {self.shape}")
        self._data = _settled(array)

    @property
    def shape(self) -> Shape:
        """Per-sample shape."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """Kind of element."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes of the per-sample shape."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements a sample."""
        return size(self.shape)

    def build(self, op: Op, operands: Sequence[Any], attributes: Attributes) -> Value:
        """The Value op(*operands); numbers and arrays become constants. Raises ShapeError naming the user's line."""
        place = caller()
        try:
            fitted = tuple(map(_fit, repeat(op), op.letters(len(operands)), operands, repeat(place)))
            of = op.infer([value.type for value in fitted], attributes)
        except GraphError as error:
            raise error.located(op=op.name, source=f"{place[0]}:{place[1]}" if place else None) from None
        return _make(op, fitted, attributes, of, place)

    def backward(self) -> None:
        """Adds d(self)/d(node) to `grad` of every node that self is computed from, itself included.

        Gradients add up over calls until they are set to 0 again. Raises GraphError if self is not a scalar or has no data.
        """
        if self.symbolic:
            leaf = next(node for node in reversed(self.nodes()) if node.op in (input_, parameter))
            raise GraphError(
                f"backward() needs data, but this expression depends on {leaf.op.name} {leaf.name!r}: use Objective, or grad for an expression",
                op=self.op.name,
            )
        if self.shape != () or self.dtype is not DType.FLOAT:
            raise GraphError(f"backward() starts from a float of shape (), not from shape {self.shape}: sum it first", op=self.op.name)
        nodes = self.nodes()
        found = tape(nodes).backward([node._data for node in nodes], len(nodes) - 1)
        for node, grad in zip(nodes, found, strict=True):
            if grad is not None:
                node.grad = node.grad + (float(grad) if node.shape == () else grad)

    def nodes(self) -> list[Value]:
        """All nodes that this one is computed from, operands first, itself last."""
        return topological([self])

    def zero_grad(self) -> None:
        """Sets `grad` to 0 in all nodes that this one is computed from."""
        for node in self.nodes():
            node.grad = 0.0

    # Pictures of the expression.

    def display(self, levels: int | None = None) -> str:
        """The expression as text, level by level from here down, as go-micrograd prints it; `levels` limits how many."""
        return display.to_text(self, levels)

    def to_dot(self) -> str:
        """The expression in Graphviz's DOT language, as micrograd draws it."""
        return display.to_dot(self)

    def to_svg(self) -> str:
        """The expression as an SVG picture. Raises LimitError for more than 2,000 nodes."""
        return display.to_svg(self)

    def _repr_svg_(self) -> str | None:
        """What a notebook shows; None, which makes it show the repr, if the expression is too large to draw."""
        try:
            return self.to_svg()
        except LimitError:
            return None

    # Array methods, as NumPy has them.

    def __getitem__(self, key: Any) -> Value:
        return arrays.getitem(self, key)  # type: ignore[no-any-return]

    def __matmul__(self, other: Any) -> Value:
        return arrays.matmul(self, as_value(other))  # type: ignore[no-any-return]

    def __rmatmul__(self, other: Any) -> Value:
        return arrays.matmul(as_value(other), self)  # type: ignore[no-any-return]

    @property
    def T(self) -> Value:  # noqa: N802 - NumPy's name
        """The axes reversed."""
        return arrays.transpose(self)  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Value:
        """The same elements in another shape; one extent may be -1."""
        return arrays.reshape(self, shape[0] if len(shape) == 1 else shape)  # type: ignore[no-any-return]

    def sum(self, axis: arrays.Axis = None, keepdims: bool = False) -> Value:
        """The sum over axes."""
        return arrays.reduction(contraction.sum_, self, axis, keepdims)  # type: ignore[no-any-return]

    def mean(self, axis: arrays.Axis = None, keepdims: bool = False) -> Value:
        """The mean over axes."""
        return arrays.mean(self, axis, keepdims)  # type: ignore[no-any-return]

    def max(self, axis: arrays.Axis = None, keepdims: bool = False) -> Value:
        """The largest over axes."""
        return arrays.reduction(contraction.max_, self, axis, keepdims)  # type: ignore[no-any-return]

    # Functions that micrograd and go-micrograd have as methods.

    def exp(self) -> Value:
        """e ** self."""
        return transcendental.exp(self)  # type: ignore[no-any-return]

    def log(self) -> Value:
        """The natural logarithm."""
        return transcendental.log(self)  # type: ignore[no-any-return]

    def tanh(self) -> Value:
        """The hyperbolic tangent."""
        return transcendental.tanh(self)  # type: ignore[no-any-return]

    def relu(self) -> Value:
        """0 where negative, else the value itself."""
        return transcendental.relu(self)  # type: ignore[no-any-return]

    def sigmoid(self) -> Value:
        """1 / (1 + exp(-self))."""
        return transcendental.sigmoid(self)  # type: ignore[no-any-return]

    # What Python expects of objects.

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a Value of shape () has no len()")
        return self.shape[0]

    def __iter__(self) -> Iterator[Value]:
        for index in range(len(self)):
            yield self[index]

    def __bool__(self) -> bool:
        if self.symbolic:
            raise TypeError("a symbolic Value is neither true nor false: use where(condition, a, b)")
        return bool(self._data)

    def __float__(self) -> float:
        if self.symbolic:
            raise TypeError("a symbolic Value has no number: evaluate it with an Objective or a service")
        return float(self._data)

    def __repr__(self) -> str:
        if self.op in (input_, parameter):
            return f"{self.op.name}({self.name!r}, shape={self.shape})"
        if self.symbolic:
            return f"Value({self.op.name}, shape={self.shape})"
        return f"Value(data={self.data}, grad={self.grad})"


class Literal(Value):
    """A number or array that was written into an expression as it is: nobody holds it to differentiate with respect to it."""

    __slots__ = ()


def _settled(array: Array) -> Any:
    """Eager data: NumPy scalars for shape (), whose arithmetic follows IEEE and is quick."""
    return array[()]


def _make(op: Op, operands: tuple[Value, ...], attributes: Attributes, of: Type, place: Place | None) -> Value:
    value: Value = Value.__new__(Value)
    value.op, value.operands, value.attributes, value.place = op, operands, attributes, place
    value.type = of
    value.name, value.grad = "", 0.0
    value.symbolic, value._data = True, None
    for operand in operands:
        if operand.symbolic:
            return value
    value.symbolic = False
    value._data = _settled(np.asarray(op.compute([operand._data for operand in operands], attributes)))
    return value


def _fit(op: Op, wanted: str, operand: Any, place: Place | None) -> Value:
    """The operand as a Value of the kind of element that the op needs."""
    if type(operand) is float and wanted == "f":
        return _number(operand, place)
    value = as_value(operand)
    if wanted in ("*", value.dtype.letter):
        return value
    if wanted == "f":
        if value.op is constant and not isinstance(operand, Value):
            return Literal(np.asarray(value._data, np.float64))
        return _make(cast_float, (value,), NO_ATTRIBUTES, Type(value.shape, DType.FLOAT), value.place)
    raise ShapeError(f"{op.name} needs {_WANTED[wanted]}, not {value.dtype.name.lower()}s")


_SCALAR = Type((), DType.FLOAT)


def _number(number: float, place: Place | None) -> Value:
    """A constant of a plain number: the quick way, for expressions of very many."""
    value: Value = Literal.__new__(Literal)
    value.op, value.operands, value.attributes, value.place = constant, (), NO_ATTRIBUTES, place
    value.type, value.name, value.grad, value.symbolic = _SCALAR, "", 0.0, False
    value._data = np.float64(number)
    return value


def as_value(operand: Any) -> Value:
    """The operand itself, or a constant of it."""
    return operand if isinstance(operand, Value) else literal(operand)


def literal(data: Any) -> Value:
    """A constant that keeps its kind: integer arrays stay integers (indices), unlike in Value(...). A plain number is a float."""
    array = np.asarray(data)
    of = type_of(array)
    if of.dtype is DType.FLOAT or (isinstance(data, int) and not isinstance(data, bool)):
        return Literal(array)
    value: Value = Literal.__new__(Literal)
    value._leaf(constant, of, "")
    value._data = _settled(np.array(array, of.dtype.numpy))
    return value


_KINDS = {float: DType.FLOAT, int: DType.INT, bool: DType.BOOL}


def input(name: str, shape: int | Sequence[int] = (), dtype: type = float) -> Value:  # noqa: A001 - the field's word, used as sg.input
    """Data that differs from sample to sample, given by name when the expression is evaluated.

    `shape` is that of one sample; `dtype` is float, int (for indices) or bool.
    """
    if dtype not in _KINDS:
        raise GraphError(f"input {name!r}: dtype must be float, int or bool, not {dtype!r}")
    return _named(input_, name, Type(_shape(name, shape), _KINDS[dtype]))


MAX_NAME_BYTES = 256
"""Of inputs and parameters, in UTF-8: what a service takes."""


def param(name: str, data: Any) -> Value:
    """A parameter: the same for all samples, differentiated with respect to. `data` is its initial value, in float64.

    Raises GraphError if that is not made of numbers.
    """
    try:
        given = np.asarray(data)
    except ValueError as error:
        raise GraphError(f"param {name!r}: the initial value is no array: {error}", source=describe(caller())) from None
    if given.dtype.kind not in "fiub":
        raise GraphError(f"param {name!r}: the initial value must be numbers, not {data!r:.80}", source=describe(caller()))
    array = np.array(given, np.float64)
    value = _named(parameter, name, Type(array.shape, DType.FLOAT))
    value._data = _settled(array)
    return value


def _named(op: Op, name: str, of: Type) -> Value:
    if not isinstance(name, str) or not name:
        raise GraphError(f"{op.name} needs a name, not {name!r}")
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES or not name.isprintable():
        raise GraphError(f"{op.name} {name[:40]!r}...: a name is at most {MAX_NAME_BYTES} bytes of printable text")
    value: Value = Value.__new__(Value)
    value._leaf(op, of, name)
    return value


def _shape(name: str, shape: int | Sequence[int]) -> Shape:
    extents = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(not isinstance(extent, int | np.integer) or extent < 0 for extent in extents):
        raise ShapeError(f"input {name!r}: a shape is made of non-negative integers, not {shape!r}")
    return tuple(int(extent) for extent in extents)


def topological(roots: Sequence[Value]) -> list[Value]:
    """All nodes that the roots are computed from, operands before their users, in the order of a depth-first walk."""
    order: list[Value] = []
    done: set[int] = set()
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            height = len(stack)
            stack.extend([operand for operand in reversed(node.operands) if id(operand) not in done])
            if len(stack) == height:
                stack.pop()
                done.add(id(node))
                order.append(node)
    return order


def tape(nodes: Sequence[Value]) -> Tape:
    """The tape of nodes in topological order."""
    index = {id(node): position for position, node in enumerate(nodes)}
    operands = [tuple(index[id(operand)] for operand in node.operands) for node in nodes]
    return Tape([node.op for node in nodes], operands, [node.attributes for node in nodes])
