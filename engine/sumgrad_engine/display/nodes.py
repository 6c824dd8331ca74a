"""What displays need to know of a node, and the walk over all nodes of an expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..errors import LimitError
from ..ops import Op
from ..types import Shape


class Node(Protocol):
    """A node of an expression: a Value, say."""

    @property
    def op(self) -> Op:
        """The op; any leaf op if there are no operands."""

    @property
    def operands(self) -> Sequence[Any]:
        """What it is computed from, in order."""

    @property
    def name(self) -> str:
        """Its name, or ""."""

    @property
    def shape(self) -> Shape:
        """Shape of its data."""

    @property
    def symbolic(self) -> bool:
        """Whether it has no data to show."""

    @property
    def data(self) -> Any:
        """Its data: a number for shape (), else an array."""

    @property
    def grad(self) -> Any:
        """The gradient found for it: a number for shape (), else an array."""


Look = Callable[[Any], tuple[str, Sequence[Any]]]
"""node -> (the symbol of its op, "" for a leaf; the operands to show)"""


def engine_look(node: Node) -> tuple[str, Sequence[Any]]:
    """What the engine's own nodes show."""
    return (node.op.symbol if node.operands else ""), node.operands


def gather(root: Node, look: Look, limit: int | None = None) -> list[Node]:
    """All nodes below a root and the root itself, each once: operands before their users, in the order of a depth-first walk.

    Raises LimitError as soon as there are more than `limit`.
    """
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[Node | None] = [root]
    while stack:
        node = stack.pop()
        if node is None:
            order.append(_taken(stack.pop()))
        elif id(node) not in seen:
            seen.add(id(node))
            _check(len(seen), limit)
            # None stands for: what is below has been dealt with.
            stack += (node, None, *reversed(look(node)[1]))
    return order


def _taken(node: Node | None) -> Node:
    assert node is not None
    return node


def _check(count: int, limit: int | None) -> None:
    if limit is not None and count > limit:
        raise LimitError(
            f"a drawing holds at most {limit:,} nodes and this expression has more: "
            "display(levels=10) shows the top of it as text, and to_dot() writes all of it for other programs",
            limit="drawn_nodes",
            allowed=limit,
        )


def edges(nodes: Sequence[Node], look: Look) -> list[tuple[int, int]]:
    """The pairs (operand, user) by position in `nodes`, each once, by user."""
    index = {id(node): position for position, node in enumerate(nodes)}
    pairs = ((index[id(operand)], user) for user, node in enumerate(nodes) for operand in look(node)[1])
    return list(dict.fromkeys(pairs))
