"""Expressions as people see them: text by levels as go-micrograd prints it, Graphviz's DOT, and SVG without Graphviz.

What is drawn is any node with the attributes of `Node`, so this package needs nothing of Values. A `Look` says what to show as the op of a node
and its operands; `sumgrad.micrograd` brings its own.
"""

from .dot import to_dot
from .nodes import Look, Node, engine_look
from .svg import to_svg
from .text import to_text

__all__ = ["Look", "Node", "engine_look", "to_dot", "to_svg", "to_text"]
