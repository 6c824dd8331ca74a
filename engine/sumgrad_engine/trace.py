"""From Values to a Graph, and new graph nodes back to Values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .collector import paused_collector
from .errors import GraphError
from .ir import Builder, Graph
from .ops.leaves import constant, input_
from .sources import describe
from .types import Leaf
from .value import Literal, Value, as_value, literal, topological


@paused_collector()
def trace(outputs: Mapping[str, Value], nodes: Sequence[Value] | None = None) -> Graph:
    """The graph of some expressions. Equal nodes are shared; Values with data are constants.

    `nodes` are those of the expressions in topological order, if they are known already. Raises GraphError if two inputs or parameters share a name.
    """
    builder = Builder()
    ids = record(builder, topological(list(outputs.values())) if nodes is None else nodes)
    return builder.graph({name: ids[id(value)] for name, value in outputs.items()})


def named_expressions(outputs: Any) -> dict[str, Value]:
    """Expressions by name; numbers and arrays among them become constants. Raises GraphError for anything else."""
    if not isinstance(outputs, Mapping) or not all(isinstance(name, str) and name for name in outputs):
        raise GraphError(f"expressions are given by name, as {{'name': expression}}, not as {outputs!r:.80}")
    if not outputs:
        raise GraphError("there is no expression: give at least one, as {'name': expression}")
    return {name: as_value(value) for name, value in outputs.items()}


def trace_nodes(root: Value) -> tuple[Graph, list[Value]]:
    """The graph of an expression with a node for every Value, none shared, and the Values in the order of their nodes."""
    builder = Builder(share=False)
    nodes = topological([root])
    record(builder, nodes)
    return builder.graph({"value": len(nodes) - 1}), nodes


def record(builder: Builder, nodes: Sequence[Value], variables: bool = False) -> dict[int, int]:
    """Makes nodes for Values in topological order in a builder: id(Value) -> node.

    Values with data become constants; with `variables` those that the user made become variables, so that what is derived still depends on them.
    """
    names: dict[str, Value] = {}
    ids: dict[int, int] = {}
    for value in nodes:
        builder.place = value.place
        if value.operands:
            ids[id(value)] = builder.add(value.op, [ids[id(operand)] for operand in value.operands], value.attributes)
        elif variables and value.op is constant and not isinstance(value, Literal):
            ids[id(value)] = builder.variable(value.type)
        else:
            ids[id(value)] = _record_leaf(builder, value, names)
    builder.place = None
    return ids


def _record_leaf(builder: Builder, value: Value, names: dict[str, Value]) -> int:
    if value.op is constant:
        return builder.constant(value._data)
    leaf = Leaf(value.name, value.shape, value.dtype)
    other = names.setdefault(value.name, value)
    # Two inputs of one name and type are one input; two parameters of one name would be tied without anybody saying so.
    if other is not value and (other.op is not input_ or (other.op, other.type) != (value.op, value.type)):
        raise GraphError(f"two leaves are named {value.name!r}: {other!r} and {value!r}", source=describe(value.place))
    return builder.input(leaf) if value.op is input_ else builder.parameter(leaf)


def lift(builder: Builder, known: Mapping[int, Value], wanted: Sequence[int]) -> list[Value]:
    """Values for nodes of a builder; `known` has those that were there before."""
    values: dict[int, Value] = dict(known)
    for node in _missing(builder, values, wanted):
        if node in builder.constants:
            values[node] = _constant(builder, node)
        else:
            operands = [values[k] for k in builder.operands[node]]
            values[node] = operands[0].build(builder.ops[node], operands, builder.attributes.get(node, {}))
    return [values[node] for node in wanted]


def _missing(builder: Builder, values: Mapping[int, Value], wanted: Sequence[int]) -> list[int]:
    """The nodes to make for the wanted ones, operands first."""
    needed: set[int] = set()
    stack = [node for node in wanted if node not in values]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(k for k in builder.operands[node] if k not in values)
    return sorted(needed)


def _constant(builder: Builder, node: int) -> Value:
    return literal(builder.constants[node])
