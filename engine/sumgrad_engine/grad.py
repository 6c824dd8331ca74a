"""Differentiation: from a graph to a graph, so that a gradient can be differentiated, shown, sent and compiled like any other.

Reverse mode. The driver does what all ops have in common: it walks the nodes backwards, undoes broadcasting (over axes and over samples), adds
contributions up in a fixed order, and keeps branches of `where` that were not taken from leaking NaN. What is special stands in the table of ops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .errors import DifferentiationError
from .ir import Builder, Node
from .ops import Op
from .ops.arithmetic import add, equal, negative, subtract, where
from .ops.contraction import sum_, sum_samples
from .ops.movement import broadcast_to, reshape
from .ops.record import shape_of
from .shapes import broadcast_axes
from .types import NO_ATTRIBUTES, Attributes, DType, Shape


def differentiate(builder: Builder, target: int, wrt: Sequence[int], *, over_samples: bool) -> list[int]:
    """Nodes for the derivatives of a scalar node with respect to others, each of the other's shape.

    With `over_samples` the samples are one more axis: the derivative with respect to a node that all samples share is summed over them. Without,
    it is the derivative for one sample. A node that the target does not depend on has derivative 0. Raises DifferentiationError.
    """
    if builder.types[target] != ((), DType.FLOAT):
        raise DifferentiationError(f"only a float of shape () can be differentiated, not {builder.types[target]}", node=target)
    return _Reverse(builder, target, wrt, over_samples).run()


class _Reverse:
    """One backward sweep."""

    def __init__(self, builder: Builder, target: int, wrt: Sequence[int], over_samples: bool) -> None:
        self.builder, self.target, self.wrt, self.over_samples = builder, target, wrt, over_samples
        self.active = _between(builder, target, wrt)
        self.cotangents: dict[int, Node] = {}
        # Cotangents that went through `where`: their zeros mean "not taken", and must stay zeros whatever they are multiplied by.
        self.masked: set[int] = set()

    def run(self) -> list[int]:
        wanted = set(self.wrt)
        if self.active[self.target] or self.target in wanted:
            self.cotangents[self.target] = self.builder.node(self.builder.constant(1.0))
        place = self.builder.place
        for node in range(self.target, -1, -1):
            if self.active[node] and node in self.cotangents:
                self._visit(node, self.cotangents[node])
                if node not in wanted:
                    del self.cotangents[node]
        self.builder.place = place
        return [self._result(node) for node in self.wrt]

    def _visit(self, node: int, g: Node) -> None:
        builder, op = self.builder, self.builder.ops[node]
        operands = builder.operands[node]
        attributes = builder.attributes.get(node, NO_ATTRIBUTES)
        builder.place = builder.places[node]
        masked = node in self.masked
        handles = tuple(builder.node(k) for k in operands)
        seen = self._guarded(op, g, handles) if masked else handles
        wanted = [self.active[k] for k in operands]
        for position, share in op.shares(g, builder.node(node), seen, attributes, wanted):
            self._contribute(node, operands[position], mask(op, g, share, handles, attributes) if masked else share)
            if masked or op is where:
                self.masked.add(operands[position])

    def _guarded(self, op: Op, g: Node, operands: tuple[Node, ...]) -> tuple[Node, ...]:
        """Operands as a rule may see them where parts of g mean "not taken"; what all samples share is never masked sample by sample."""
        guarded = op.guard(g, *operands) if op.guard else operands
        per_sample = self.builder.per_sample
        return tuple(new if per_sample[old.id] or not per_sample[g.id] else old for new, old in zip(guarded, operands, strict=True))

    def _contribute(self, node: int, operand: int, share: Any) -> None:
        """Adds a share to the operand's cotangent, summed over whatever the operand was broadcast along."""
        builder = self.builder
        share = share if isinstance(share, Node) else builder.node(builder.constant(share))
        share = _full(share, builder.types[node].shape) if builder.ops[node].elementwise else share
        if self.over_samples and self._shared_by_samples(node, operand):
            share = sum_samples(share)
        share = unbroadcast(share, builder.types[operand].shape)
        known = self.cotangents.get(operand)
        self.cotangents[operand] = share if known is None else add(known, share)

    def _result(self, node: int) -> int:
        found = self.cotangents.get(node)
        if found is None:
            found = broadcast_to(self.builder.node(self.builder.constant(0.0)), shape=self.builder.types[node].shape)
        return found.id

    def _shared_by_samples(self, node: int, operand: int) -> bool:
        """Whether the operand was used once a sample: it is the same for all samples, and the node is not, or is a sum over them."""
        builder = self.builder
        return not builder.per_sample[operand] and (builder.per_sample[node] or builder.ops[node].over_samples)


def _between(builder: Builder, target: int, wrt: Iterable[int]) -> list[bool]:
    """Marks the float nodes up to the target that depend on one of `wrt`."""
    active = [False] * (target + 1)
    for node in wrt:
        if node <= target:
            active[node] = True
    for node in range(target + 1):
        if not active[node] and builder.types[node].dtype is DType.FLOAT:
            active[node] = any(active[k] for k in builder.operands[node])
    return active


def _full(share: Node, shape: Shape) -> Node:
    """A share that came out narrower than its node (a constant, say), at full shape."""
    return share if share.shape == shape else broadcast_to(share, shape=shape)


# Their shares are g itself, its negative, or g where it is not masked: nothing is multiplied that could turn a zero into NaN.
_PLAIN = {add, subtract, negative, where}


def mask(op: Op, g: Any, share: Any, operands: tuple[Any, ...], attributes: Attributes) -> Any:
    """Zeros of g are zeros of the share, even where the derivative is infinite or NaN."""
    if op in _PLAIN:
        return share
    if op.elementwise:
        return where(equal(g, 0.0), 0.0, share)
    return where(equal(op.spread(g, *operands, **attributes), 0.0), 0.0, share) if op.spread else share


def unbroadcast(share: Any, shape: Shape) -> Any:
    """A cotangent of a broadcast result as one of the narrower operand: the sum over the repeats. For graph nodes and arrays."""
    wide = shape_of(share)
    if wide == shape:
        return share
    axes = broadcast_axes(shape, wide)
    summed = sum_(share, axes=axes)
    return summed if shape_of(summed) == shape else reshape(summed, shape=shape)
