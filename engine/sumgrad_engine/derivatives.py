"""Derivatives of expressions, as expressions: for one sample, of any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from .collector import paused_collector
from .errors import DifferentiationError, GraphError
from .functions import concat, multiply, reshape
from .functions import sum as sum_
from .grad import differentiate
from .simplify import Simplifier
from .sources import describe
from .trace import lift, record
from .value import Value, topological


@overload
def grad(expression: Value, wrt: Value) -> Value: ...
@overload
def grad(expression: Value, wrt: Sequence[Value]) -> list[Value]: ...
def grad(expression: Value, wrt: Value | Sequence[Value]) -> Value | list[Value]:
    """The derivative of a scalar expression with respect to any of its nodes, each of that node's shape.

    For expressions of inputs it is the derivative for one sample. Raises DifferentiationError if the expression is not a float of shape ().
    """
    if isinstance(wrt, Value):
        return grad(expression, [wrt])[0]
    nodes = list(wrt)
    _check_wrt(expression, nodes)
    return _grad(expression, nodes)


@paused_collector()
def _grad(expression: Value, wrt: list[Value]) -> list[Value]:
    # Nodes are not shared while the expression is recorded: two equal Values are still two to differentiate with respect to.
    builder = Simplifier(share=False, rewrite=False)
    ids = record(builder, topological([expression, *wrt]), variables=True)
    known = {ids[id(value)]: value for value in expression.nodes()} | {ids[id(value)]: value for value in wrt}
    builder.share = builder.rewrite = True
    try:
        found = differentiate(builder, ids[id(expression)], [ids[id(value)] for value in wrt], over_samples=False)
    except DifferentiationError as error:
        raise error.located(op=expression.op.name, source=describe(expression.place)) from None
    return lift(builder, known, found)


def _check_wrt(expression: Value, wrt: list[Value]) -> None:
    """Refuses what has no derivative, and nodes that look like a part of the expression but are not."""
    parts = {id(node) for node in expression.nodes()}
    for value in wrt:
        if not isinstance(value, Value):
            raise DifferentiationError(f"derivatives are taken with respect to Values, not {value!r}")
        if value.operands and id(value) not in parts:
            raise DifferentiationError(
                f"{value!r} is not a part of the expression: keep the node that the expression was made from, an equal one is another node",
                op=value.op.name,
                source=describe(value.place),
            )


def hvp(expression: Value, wrt: Value | Sequence[Value], vectors: Any) -> Value | list[Value]:
    """The Hessian of a scalar expression times a vector, without the Hessian: the derivative of <gradient, vectors>.

    `vectors` has one array or Value for each of `wrt`, of its shape.
    """
    nodes = [wrt] if isinstance(wrt, Value) else list(wrt)
    directions = [vectors] if isinstance(wrt, Value) else list(vectors)
    if len(nodes) != len(directions):
        raise GraphError(f"hvp needs one vector for each of {len(nodes)} nodes, not {len(directions)}")
    products = [sum_(multiply(slope, v)) for slope, v in zip(grad(expression, nodes), directions, strict=True)]
    total = products[0]
    for product in products[1:]:
        total = total + product
    found = _grad(total, nodes)
    return found[0] if isinstance(wrt, Value) else found


def hessian(expression: Value, wrt: Value | Sequence[Value]) -> Any:
    """Second derivatives of a scalar expression.

    For one node of shape s, a Value of shape s + s; for several, a list of lists: [i][j] is of shape s_i + s_j.
    """
    nodes = [wrt] if isinstance(wrt, Value) else list(wrt)
    rows = [_hessian_row(slope, node, nodes) for slope, node in zip(grad(expression, nodes), nodes, strict=True)]
    return rows[0][0] if isinstance(wrt, Value) else rows


def _hessian_row(slope: Value, node: Value, nodes: list[Value]) -> list[Value]:
    """Derivatives of each element of one gradient with respect to all nodes."""
    flat = reshape(slope, (slope.size,))
    seconds = [_grad(flat[k], nodes) for k in range(slope.size)]
    return [
        reshape(concat([reshape(second[j], (1, other.size)) for second in seconds]), node.shape + other.shape)
        for j, other in enumerate(nodes)
    ]
