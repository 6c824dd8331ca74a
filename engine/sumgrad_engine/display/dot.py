"""An expression in Graphviz's DOT language, drawn as micrograd's draw_dot draws it: a record for each value, an ellipse for each op."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from .nodes import Look, Node, edges, engine_look, gather
from .numbers import compact

Direction = Literal["LR", "TB"]
_WIDTH = 28


def to_dot(root: Node, rankdir: Direction = "LR", look: Look = engine_look) -> str:
    """The DOT text, from left to right ("LR") or from top to bottom ("TB"). The same expression gives the same text."""
    nodes = gather(root, look)
    return "\n".join(["digraph {", f"\tgraph [rankdir={checked(rankdir)}]", *_statements(nodes, look), "}", ""])


def checked(rankdir: str) -> Direction:
    """The direction itself; ValueError if it is none."""
    if rankdir == "LR":
        return "LR"
    if rankdir == "TB":
        return "TB"
    raise ValueError(f"rankdir is 'LR' (left to right) or 'TB' (top to bottom), not {rankdir!r}")


def _statements(nodes: list[Node], look: Look) -> Iterator[str]:
    for index, node in enumerate(nodes):
        label = " | ".join(map(_escape_record, cells(node)))
        yield f'\tn{index} [label="{{ {label} }}" shape=record]'
        symbol = look(node)[0]
        if symbol:
            yield f'\tn{index}op [label="{_escape(symbol)}"]'
            yield f"\tn{index}op -> n{index}"
    for operand, user in edges(nodes, look):
        yield f"\tn{operand} -> n{user}{'op' if look(nodes[user])[0] else ''}"


def cells(node: Node) -> list[str]:
    """What a picture says of a node: its name if it has one, the shape of arrays, and the figures where there are any."""
    found = [node.name] if node.name else []
    if node.shape or node.symbolic:
        found.append(str(node.shape))
    if not node.symbolic:
        found += [f"data {_figure(node.data)}", f"grad {_figure(node.grad)}"]
    return found


def _figure(data: Any) -> str:
    if isinstance(data, bool):
        return str(data)
    return f"{data:.4f}" if getattr(data, "shape", ()) == () else compact(data, _WIDTH)


def _escape(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')


def _escape_record(text: str) -> str:
    escaped = _escape(text)
    for character in "{}|<>":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped
