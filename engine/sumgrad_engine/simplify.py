"""Smaller graphs with the same results: a builder that rewrites nodes as they are made.

Constants are folded, equal nodes shared (by the builder itself), and identities applied that keep every IEEE result: x * 0 is not 0 (x may be
NaN or infinite) and x + 0.0 is not x (x may be -0.0). Nodes that nothing needs are dropped when the graph is finished.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .errors import SumgradError
from .ir import Builder, Graph, replay
from .ops import Op
from .ops.arithmetic import add, divide, logical_not, multiply, negative, reciprocal, square, subtract, where
from .ops.contraction import matmul, matmul_samples, sum_, sum_samples
from .ops.indexing import scatter_add, scatter_add_samples
from .ops.movement import broadcast_to, reshape, transpose
from .ops.transcendental import power
from .shapes import size
from .types import NO_ATTRIBUTES, Attributes

# A folded constant is stored and sent: larger results are cheaper to compute than to keep.
_MAX_FOLDED_ELEMENTS = 1024

Rewrite = Callable[["Simplifier", tuple[int, ...], Attributes], int | None]
"""(builder, operands, attributes) -> the node to use instead, or None."""


class Simplifier(Builder):
    """A builder that makes the simplest equivalent node, as long as `rewrite` is set."""

    def __init__(self, share: bool = True, rewrite: bool = True) -> None:
        super().__init__(share)
        self.rewrite = rewrite

    def _add(self, op: Op, operands: tuple[int, ...], attributes: Attributes) -> int:
        if not self.rewrite:
            return super()._add(op, operands, attributes)
        folded = self._fold(op, operands, attributes)
        if folded is not None:
            return folded
        if op.elementwise:
            operands = self._without_broadcasts(op, operands)
        rewrite = REWRITES.get(op.name)
        instead = rewrite(self, operands, attributes) if rewrite else None
        return super()._add(op, operands, attributes) if instead is None else instead

    def _fold(self, op: Op, operands: tuple[int, ...], attributes: Attributes) -> int | None:
        """The constant that an op of constants is."""
        for operand in operands:
            if operand not in self.constants:
                return None
        if op.over_samples:
            return None
        of = op.infer([self.types[k] for k in operands], attributes)
        if size(of.shape) > _MAX_FOLDED_ELEMENTS:
            return None
        try:
            return self.constant(np.asarray(op.compute([self.constants[k] for k in operands], attributes)))
        except SumgradError:
            # An index out of range, or a function that needs a package that only the server has: it is said when the node is evaluated.
            return None

    def _without_broadcasts(self, op: Op, operands: tuple[int, ...]) -> tuple[int, ...]:
        """Elementwise ops broadcast by themselves: an explicit broadcast is dropped where another operand keeps the shape."""
        ops = self.ops
        for operand in operands:
            if ops[operand] is broadcast_to:
                break
        else:
            return operands
        shapes = {self.types[k].shape for k in operands if self.ops[k] is not broadcast_to}
        return tuple(self.operands[k][0] if self.ops[k] is broadcast_to and self.types[k].shape in shapes else k for k in operands)

    def is_constant(self, node: int, value: float) -> bool:
        """Whether a node is a constant all of whose elements have the bits of `value`."""
        array = self.constants.get(node)
        if array is None or array.dtype != np.float64 or array.size == 0:
            return False
        first = array.flat[0]
        if first != value or math.copysign(1.0, first) != math.copysign(1.0, value):
            return False
        return array.size == 1 or bool(np.all(array.view(np.int64) == first.view(np.int64)))

    def same_type(self, node: int, other: int) -> bool:
        """Whether one may stand for an elementwise result of both."""
        shape, wide = self.types[node].shape, self.types[other].shape
        return len(wide) <= len(shape) and all(w in (1, s) for w, s in zip(reversed(wide), reversed(shape), strict=False))


def _neutral(position: int, value: float) -> Rewrite:
    """op(x, neutral) is x, with the neutral element at a position."""

    def rewrite(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
        x = operands[1 - position]
        return x if b.is_constant(operands[position], value) and b.same_type(x, operands[position]) else None

    return rewrite


def _any_of(*rewrites: Rewrite) -> Rewrite:
    def rewrite(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
        return next((found for r in rewrites if (found := r(b, operands, attributes)) is not None), None)

    return rewrite


def _involution(op: Op) -> Rewrite:
    """op(op(x)) is x."""

    def rewrite(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
        (x,) = operands
        return b.operands[x][0] if b.ops[x] is op else None

    return rewrite


def _power(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    """The exponents that the forward function computes as products."""
    x, exponent = operands
    if b.types[exponent].shape != ():
        return None
    if b.is_constant(exponent, 1.0):
        return x
    if b.is_constant(exponent, 2.0):
        return b.add(square, [x])
    return b.add(reciprocal, [x]) if b.is_constant(exponent, -1.0) else None


def _where(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    condition, x, y = operands
    known = b.constants.get(condition)
    if x == y and b.same_type(x, condition):
        return x
    if known is None or not (known.all() or not known.any()):
        return None
    chosen, other = (x, y) if known.all() else (y, x)
    return chosen if b.same_type(chosen, other) and b.same_type(chosen, condition) else None


def _reshape(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    (x,), shape = operands, attributes["shape"]
    if b.types[x].shape == shape:
        return x
    return b.add(reshape, b.operands[x], {"shape": shape}) if b.ops[x] is reshape else None


def _transpose(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    (x,), axes = operands, attributes["axes"]
    if axes == tuple(range(len(axes))):
        return x
    if b.ops[x] is not transpose:
        return None
    inner = b.attributes[x]["axes"]
    return b.add(transpose, b.operands[x], {"axes": tuple(inner[axis] for axis in axes)})


def _broadcast(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    return operands[0] if b.types[operands[0]].shape == attributes["shape"] else None


def _sum(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    return operands[0] if not attributes["axes"] else None


def _sum_samples(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    """Sums over samples of products and scatters are done without the array of one result a sample."""
    (x,) = operands
    if b.ops[x] is matmul and all(len(b.types[k].shape) == 2 for k in b.operands[x]):
        return b.add(matmul_samples, b.operands[x], NO_ATTRIBUTES)
    return b.add(scatter_add_samples, b.operands[x], b.attributes[x]) if b.ops[x] is scatter_add else None


def _negate(b: Simplifier, operands: tuple[int, ...], attributes: Attributes) -> int | None:
    """x * -1 is -x."""
    for x, factor in (operands, operands[::-1]):
        if b.is_constant(factor, -1.0) and b.same_type(x, factor):
            return b.add(negative, [x])
    return None


REWRITES: dict[str, Rewrite] = {
    add.name: _any_of(_neutral(0, -0.0), _neutral(1, -0.0)),
    subtract.name: _neutral(1, 0.0),
    multiply.name: _any_of(_neutral(0, 1.0), _neutral(1, 1.0), _negate),
    divide.name: _neutral(1, 1.0),
    power.name: _power,
    negative.name: _involution(negative),
    logical_not.name: _involution(logical_not),
    where.name: _where,
    reshape.name: _reshape,
    transpose.name: _transpose,
    broadcast_to.name: _broadcast,
    sum_.name: _sum,
    sum_samples.name: _sum_samples,
}


def simplify(graph: Graph) -> Graph:
    """An equivalent graph: the same outputs to the bit, usually fewer nodes. All inputs and parameters stay."""
    builder = Simplifier()
    ids = replay(graph, builder)
    return builder.graph({name: ids[node] for name, node in graph.outputs.items()})
