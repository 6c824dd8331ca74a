"""The one table of ops. Each op is one record in one of these files; nothing about it is registered elsewhere."""

from __future__ import annotations

from . import arithmetic, contraction, indexing, leaves, movement, transcendental
from .record import Expression, Op, shape_of, type_of

OPS: dict[str, Op] = {op.name: op for module in (leaves, arithmetic, transcendental, movement, contraction, indexing) for op in module.OPS}
BY_NUMBER: dict[int, Op] = {op.number: op for op in OPS.values()}

__all__ = ["BY_NUMBER", "OPS", "Expression", "Op", "shape_of", "type_of"]
