"""micrograd's pictures: `trace` and `draw_dot`, without Graphviz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sumgrad_engine.display import to_dot, to_svg
from sumgrad_engine.display.dot import checked

from .engine import Value, look

__all__ = ["Drawing", "draw_dot", "trace"]


def trace(root: Value) -> tuple[set[Value], set[tuple[Value, Value]]]:
    """All nodes that a Value was made from, itself included, and the pairs (operand, user)."""
    nodes: set[Value] = set()
    edges: set[tuple[Value, Value]] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            edges.update((child, node) for child in node._prev)
            waiting.extend(node._prev)
    return nodes, edges


@dataclass(frozen=True)
class Drawing:
    """What draw_dot returns: `source` in the DOT language and `svg`, both of the moment when it was drawn. A notebook shows it."""

    source: str
    svg: str
    format: str = "svg"

    def _repr_svg_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        return self.source

    def save(self, filename: str = "Digraph.gv") -> str:
        """Writes the DOT text to a file, whose name it returns."""
        Path(filename).write_text(self.source, encoding="utf-8")
        return filename

    def render(self, filename: str = "Digraph.gv") -> str:
        """Writes the DOT text to `filename` and the picture beside it, as `filename`.svg, whose name it returns."""
        if self.format != "svg":
            raise ValueError(f"pictures are drawn here as svg only: for {self.format}, save() the text and have Graphviz's dot draw it")
        self.save(filename)
        Path(f"{filename}.svg").write_text(self.svg, encoding="utf-8")
        return f"{filename}.svg"


def draw_dot(root: Value, format: str = "svg", rankdir: str = "LR") -> Drawing:  # noqa: A002 - micrograd's name
    """The picture of an expression, from left to right ("LR") or from top to bottom ("TB").

    Raises ValueError for another rankdir, and LimitError for more than 2,000 nodes.
    """
    direction = checked(rankdir)
    return Drawing(to_dot(root, direction, look), to_svg(root, direction, look), format)
