"""Graphs as plain columns and back: what goes over the wire."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from .collector import paused_collector
from .errors import GraphError, LimitError
from .ir import Graph
from .ops import BY_NUMBER, Op
from .ops.leaves import constant, input_, parameter, scalar
from .shapes import size
from .sources import Sources
from .types import Array, Attributes, DType, Leaf, Type, dtype_of
from .verify import GraphTable, Limits, check_columns

__all__ = ["GraphTable", "Limits", "from_table", "to_table", "verify"]

_NO_LIMITS = Limits(sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize, sys.maxsize, derived=True)


def to_table(graph: Graph) -> GraphTable:
    """The columns of a graph."""
    scalars = [graph.constants[int(node)] for node in np.flatnonzero(graph.opcodes == scalar.number)]
    return GraphTable(
        opcodes=graph.opcodes.astype(np.uint32),
        operand_counts=np.diff(graph.starts).astype(np.uint32),
        operands=graph.operands.astype(np.uint32),
        attributes=[(node, name, list(values)) for node, of in sorted(graph.attributes.items()) for name, values in of.items()],
        inputs=list(graph.inputs),
        parameters=list(graph.parameters),
        scalars=np.array(scalars, np.float64),
        constants=[graph.constants[int(node)] for node in np.flatnonzero(graph.opcodes == constant.number)],
        outputs=list(graph.outputs.items()),
    )


@paused_collector()
def from_table(table: GraphTable, limits: Limits | None = None, sources: Sources | None = None) -> Graph:
    """The graph of these columns, with the same node numbers. The table may be hostile.

    Raises GraphError or LimitError that names the node, and its source line if `sources` knows it.
    """
    limits = limits or Limits()
    try:
        check_columns(table, limits)
        return _infer(table, limits, sources)
    except GraphError as error:
        known = sources.describe(error.node) if sources and error.node is not None else None
        raise error.located(source=known) from None


def verify(graph: Graph) -> None:
    """Raises GraphError unless a graph of any origin is legal and says the types that follow from its leaves. What tests ask after every pass."""
    again = from_table(to_table(graph), _NO_LIMITS, graph.sources)
    for node, (said, follows) in enumerate(zip(graph.types, again.types, strict=True)):
        if said != follows or graph.per_sample[node] != again.per_sample[node]:
            raise GraphError(f"node {node} is said to be a {said}, but is a {follows}", node=node, op=graph.op(node).name)


def _infer(table: GraphTable, limits: Limits, sources: Sources | None) -> Graph:
    """The graph with the types that follow from the leaves."""
    given, constants, leaves = _leaf_types(table)
    attributes = _attributes(table)
    starts = np.concatenate(([0], np.cumsum(table.operand_counts, dtype=np.int64)))
    graph = Graph(
        opcodes=table.opcodes.astype(np.uint16),
        starts=starts,
        operands=table.operands.astype(np.int32),
        attributes=attributes,
        constants=constants,
        leaves=leaves,
        types=[],
        per_sample=np.zeros(len(table.opcodes), np.bool_),
        outputs=dict(table.outputs),
        sources=sources,
    )
    types: list[Type] = []
    per_sample: list[bool] = []
    for node, op, operands, of in graph.rows():
        found = given[node] if node in given else _node_type(op, node, [types[k] for k in operands], of)
        if size(tuple(max(extent, 1) for extent in found.shape)) > limits.max_elements or len(found.shape) > limits.max_rank:
            raise LimitError(
                f"node {node} ({op.name}) has shape {found.shape}: more than max_elements = {limits.max_elements:,} or max_rank = {limits.max_rank}",
                limit="max_elements",
                value=size(found.shape),
                allowed=limits.max_elements,
                node=node,
            )
        types.append(found)
        per_sample.append(op is input_ or (not op.over_samples and any(per_sample[k] for k in operands)))
    return dataclasses.replace(graph, types=types, per_sample=np.array(per_sample, np.bool_))


def _node_type(op: Op, node: int, types: Sequence[Type], attributes: Attributes) -> Type:
    for position, (of, wanted) in enumerate(zip(types, op.letters(len(types)), strict=True)):
        if wanted not in ("*", of.dtype.letter):
            raise GraphError(f"{op.name}: operand {position} is of kind {of.dtype.name}", node=node, op=op.name)
    try:
        return op.infer(types, attributes)
    except GraphError as error:
        raise error.located(node=node, op=op.name) from None


def _attributes(table: GraphTable) -> dict[int, Attributes]:
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for node, name, values in table.attributes:
        found.setdefault(node, {})[name] = tuple(values)
    order = {node: BY_NUMBER[int(table.opcodes[node])].attributes for node in found}
    return {node: {name: found[node][name] for name in order[node]} for node in found}


def _leaf_types(table: GraphTable) -> tuple[dict[int, Type], dict[int, Array], dict[int, Leaf]]:
    """Types of the leaf nodes, values of the constant ones, and the leaves that are given from outside."""
    leaves: dict[int, Leaf] = {}
    for op, entries in ((input_, table.inputs), (parameter, table.parameters)):
        leaves.update(zip(np.flatnonzero(table.opcodes == op.number).tolist(), entries, strict=True))
    constants: dict[int, Array] = {}
    for node, value in zip(np.flatnonzero(table.opcodes == scalar.number).tolist(), table.scalars, strict=True):
        constants[node] = np.asarray(value, np.float64)
    for node, value in zip(np.flatnonzero(table.opcodes == constant.number).tolist(), table.constants, strict=True):
        kind = dtype_of(value) or DType.FLOAT
        constants[node] = np.ascontiguousarray(value, kind.numpy).reshape(value.shape)
    types = {node: Type(leaf.shape, leaf.dtype) for node, leaf in leaves.items()}
    types |= {node: Type(value.shape, dtype_of(value) or DType.FLOAT) for node, value in constants.items()}
    return types, constants, dict(sorted(leaves.items()))
