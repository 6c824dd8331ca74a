"""What an op is: one record holds all that is known of it.

A record can't be built incomplete, and nothing about an op is registered elsewhere. An `Op` is callable: on arrays and numbers it computes, on
expressions (graph nodes, Values) it builds. So a derivative is written once, in terms of other ops, and serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..shapes import broadcast
from ..types import NO_ATTRIBUTES, Array, Attributes, DType, Shape, Type, dtype_of

Infer = Callable[..., Type]
"""(operand types, attributes) -> type of the result; raises ShapeError."""

Derivative = Callable[..., Any]
"""(g, y, *operands, **attributes) -> g times dy/d(operand), summed over what the operand was broadcast along by the driver.

`g` is the cotangent of the result `y`; the rule is linear in it. It returns an expression, or None where the derivative is zero everywhere.
"""

Forward = Callable[..., Array]
"""Elementwise: (*arrays) -> array. Structural: (arrays, leads, attributes) -> array, see `Op.forward`."""

Emit = Callable[..., str]
"""(lanes, *operands, **attributes) -> result: emits the op for some samples side by side; `lanes` is what native/ emits with."""


class Expression:
    """What an op builds on instead of computing: graph nodes and Values."""

    __slots__ = ()

    def build(self, op: Op, operands: Sequence[Any], attributes: Attributes) -> Any:
        """The expression `op(*operands)`; at least one operand is an expression of this kind."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """One op.

    `kinds` has a letter an operand: f float, i integer, b boolean, * any; a trailing "..." allows any number of the last. `derivatives` has a
    rule an operand, None where the operand is not differentiable; an op of any number of operands has one rule,
    which gives the share of each in turn. `domain` bounds what tests sample, per operand.
    """

    name: str
    number: int
    doc: str
    kinds: str
    infer: Infer
    forward: Forward
    """Elementwise ops get broadcastable arrays. Structural ops get (arrays, leads, attributes): leads[k] is 1 if arrays[k] has a leading sample
    axis, else 0; the result has one if any of them has."""
    derivatives: tuple[Derivative | None, ...]
    attributes: tuple[str, ...] = ()
    elementwise: bool = True
    commutative: bool = False
    over_samples: bool = False
    """The result is summed over samples and no longer depends on the sample."""
    spread: Callable[..., Any] | None = None
    """For reductions: (g, *operands, **attributes) -> g repeated to the operand's shape, to tell which elements it masks out."""
    guard: Callable[..., tuple[Any, ...]] | None = None
    """(g, *operands) -> operands with what g masks out replaced by 0, where that can't be told element by element."""
    domain: tuple[tuple[float, float], ...] = ()
    emit: Emit | None = None
    """Native code of an elementwise op; None where it is the vector function of the op's name."""
    accuracy: str = "correctly rounded"
    python: str = field(default="")
    """The symbol that displays use, e.g. "+"."""

    def __post_init__(self) -> None:
        if len(self.derivatives) != len(self.kinds.removesuffix("...")):
            raise TypeError(f"op {self.name}: one derivative (or None) per operand is needed")
        if not self.doc or self.number <= 0:
            raise TypeError(f"op {self.name}: doc and a positive number are needed")

    @cached_property
    def variadic(self) -> bool:
        """Whether it takes any number of operands."""
        return self.kinds.endswith("...")

    @property
    def symbol(self) -> str:
        """What displays show for it."""
        return self.python or self.name

    def letters(self, count: int) -> str:
        """The letters of that many operands."""
        return self.kinds if not self.variadic else self.kinds[0] * count

    def shares(self, g: Any, y: Any, operands: Sequence[Any], attributes: Attributes, wanted: Sequence[bool]) -> Iterator[tuple[int, Any]]:
        """What the cotangent g of y hands on: the position of each wanted operand that gets a share, and its share."""
        if self.variadic:
            (rule,) = self.derivatives
            if rule:
                yield from ((k, share) for k, share in enumerate(rule(g, y, *operands, **attributes)) if wanted[k])
            return
        for position, rule in enumerate(self.derivatives):
            share = rule(g, y, *operands, **attributes) if rule and wanted[position] else None
            if share is not None:
                yield position, share

    def accepts(self, count: int) -> bool:
        """Whether it takes that many operands."""
        return count >= 1 if self.variadic else count == len(self.kinds)

    def __call__(self, *operands: Any, **attributes: tuple[int, ...]) -> Any:
        """The expression, if any operand is one; else the value."""
        for operand in operands:
            if isinstance(operand, Expression):
                return operand.build(self, operands, attributes)
        return self.compute(operands, attributes)

    def compute(self, operands: Sequence[Any], attributes: Attributes = NO_ATTRIBUTES) -> Any:
        """The value for arrays or numbers without samples; nothing is signalled, IEEE results only."""
        with np.errstate(all="ignore"):
            if self.elementwise:
                return self.forward(*operands, **attributes)
            return self.forward([np.asarray(x) for x in operands], (0,) * len(operands), attributes)

    def emitted(self, lanes: Any, operands: Sequence[str], attributes: Attributes = NO_ATTRIBUTES) -> str:
        """Emits native code of an elementwise op for operands in registers, and names the result's register."""
        result: str = self.emit(lanes, *operands, **attributes) if self.emit else lanes.call(self.name, *operands)
        return result

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Rules are functions without names: an op goes to another process by its number.
        return _op_of, (self.number,)


def _op_of(number: int) -> Op:
    from . import BY_NUMBER

    return BY_NUMBER[number]


def shape_of(x: Any) -> Shape:
    """Shape of an expression, an array or a number."""
    return getattr(x, "shape", ())


def type_of(x: Any) -> Type:
    """Type of an array or a number."""
    array = np.asarray(x)
    dtype = dtype_of(array)
    if dtype is None:
        raise ShapeError(f"elements of type {array.dtype} are not supported: use floats, integers or booleans")
    return Type(array.shape, dtype)


def same_shape(dtype: DType) -> Infer:
    """The shape rule of elementwise ops: operands broadcast, elements are of the given kind."""

    def infer(types: Sequence[Type], attributes: Attributes) -> Type:
        first = types[0]
        if first.dtype is dtype and types.count(first) == len(types):
            return first
        return Type(broadcast(*[t.shape for t in types]), dtype)

    return infer


ELEMENTWISE_FLOAT = same_shape(DType.FLOAT)
ELEMENTWISE_BOOL = same_shape(DType.BOOL)
