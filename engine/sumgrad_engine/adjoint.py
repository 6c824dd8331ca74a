"""Reverse mode on data instead of graphs: what `backward()` on Values does. The same rules of the op table, applied to arrays and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .grad import mask, unbroadcast
from .ops import Op
from .ops.arithmetic import where
from .ops.record import shape_of
from .types import Attributes


@dataclass(frozen=True)
class Tape:
    """Nodes in topological order: node i is ops[i] of the earlier nodes operands[i]."""

    ops: Sequence[Op]
    operands: Sequence[tuple[int, ...]]
    attributes: Sequence[Attributes]

    def forward(self, given: Mapping[int, Any]) -> list[Any]:
        """The data of every node from that of the leaves."""
        data: list[Any] = []
        for node, (op, operands) in enumerate(zip(self.ops, self.operands, strict=True)):
            data.append(op.compute([data[k] for k in operands], self.attributes[node]) if op.kinds else given[node])
        return data

    def backward(self, data: Sequence[Any], target: int) -> list[Any]:
        """The derivative of a scalar node with respect to every node, None where it does not depend on it."""
        found: list[Any] = [None] * len(self.ops)
        found[target] = np.float64(1.0)
        masked: set[int] = set()
        with np.errstate(all="ignore"):
            for node in range(target, -1, -1):
                if found[node] is not None and self.operands[node]:
                    self._visit(node, data, found, masked)
        return found

    def _visit(self, node: int, data: Sequence[Any], found: list[Any], masked: set[int]) -> None:
        op, operands, attributes = self.ops[node], self.operands[node], self.attributes[node]
        g, values = found[node], tuple(data[k] for k in self.operands[node])
        seen = op.guard(g, *values) if node in masked and op.guard else values
        wanted = [_is_float(value) for value in values]
        for position, share in op.shares(g, data[node], seen, attributes, wanted):
            operand = operands[position]
            full = mask(op, g, share, values, attributes) if node in masked else share
            if node in masked or op is where:
                masked.add(operand)
            full = unbroadcast(_full(full, data[node]) if op.elementwise else full, shape_of(data[operand]))
            found[operand] = full if found[operand] is None else found[operand] + full


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or np.asarray(value).dtype.kind == "f"


def _full(share: Any, value: Any) -> Any:
    """A share that came out narrower than its node (a constant, say), at full shape."""
    return share if shape_of(share) == shape_of(value) else np.broadcast_to(share, shape_of(value))
