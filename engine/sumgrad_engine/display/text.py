"""The text form of an expression, level by level from the root, as go-micrograd's DisplayGraph prints it.

An expression whose nodes are unnamed scalars, each used once, gives go-micrograd's very lines. Beyond that: a name comes first (`w | data ...`),
arrays show their shape, symbolic nodes show nothing but it, and a node that is used more than once is printed where it first appears with a number
(`#1 | data ...`) and is `see #1` from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .nodes import Look, Node, engine_look
from .numbers import compact, go_fixed, go_float

RULE = "-" * 59
MORE = "... (more levels below)"
_WIDTH = 40
_GO_NAMES = {"**": "Pow"}


def to_text(root: Node, levels: int | None = None, look: Look = engine_look) -> str:
    """The lines of the first `levels` levels, or of all; a shared node's operands follow below its first line only.

    Takes time for what it prints, not for the rest of the expression. Raises ValueError for less than one level.
    """
    if levels is not None and levels < 1:
        raise ValueError(f"levels must be at least 1, not {levels}")
    shown, complete = _levels(root, levels, look)
    lines = list(_lines(shown, look))
    return "\n".join(lines if complete else [*lines, MORE])


def _levels(root: Node, levels: int | None, look: Look) -> tuple[list[list[Node]], bool]:
    """What stands on each level, and whether that is all."""
    shown: list[list[Node]] = []
    level, seen = [root], set[int]()
    while level and (levels is None or len(shown) < levels):
        shown.append(level)
        below: list[Node] = []
        for node in level:
            if id(node) not in seen:
                seen.add(id(node))
                below.extend(look(node)[1])
        level = below
    return shown, not level


def _lines(shown: list[list[Node]], look: Look) -> Iterator[str]:
    uses = Counter(id(node) for level in shown for node in level)
    marks: dict[int, str] = {}
    for level in shown:
        for node in level:
            if id(node) in marks:
                yield f"see {marks[id(node)]}"
                continue
            if uses[id(node)] > 1:
                marks[id(node)] = f"#{len(marks) + 1}"
            yield _line(node, marks.get(id(node), ""), look)
        yield RULE


def _line(node: Node, mark: str, look: Look) -> str:
    symbol, operands = look(node)
    title = f"{mark} {node.name}".strip()
    parts = [title] if title else []
    parts += _figures(node)
    if symbol or operands:
        parts.append(f"prev {{ {_GO_NAMES.get(symbol, symbol)} [{' '.join(map(_brief, operands))}] }}")
    return " | ".join(parts)


def _figures(node: Node) -> list[str]:
    shape = [f"shape {node.shape}"] if node.symbolic or node.shape else []
    return shape if node.symbolic else [*shape, f"data {_figure(node.data)}", f"grad {_figure(node.grad)}"]


def _figure(data: Any) -> str:
    if isinstance(data, bool):
        return str(data)
    return go_fixed(data) if getattr(data, "shape", ()) == () else compact(data, _WIDTH)


def _brief(node: Node) -> str:
    """An operand, inside its user's line."""
    if node.symbolic:
        return node.name or str(node.shape)
    if node.shape:
        return compact(node.data, _WIDTH)
    return str(node.data) if isinstance(node.data, bool) else go_float(node.data)
