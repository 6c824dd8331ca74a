"""A graph as an SVG picture, drawn by a process of its own: `python -m sumgrad_server.observe.drawing SECONDS < graph > picture`.

Finding places for boxes can take very long for graphs made to that end, and holds Python's lock meanwhile. A process can be limited, and killed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sumgrad_engine.display import to_svg
from sumgrad_engine.errors import SumgradError
from sumgrad_engine.ir import Graph
from sumgrad_engine.ops import Op
from sumgrad_engine.types import Shape

from .. import landlock
from ..codec import parse_graph
from ..settings import Settings

MEMORY_BYTES = 1 << 30
MOST_ELEMENTS = 1 << 62
NAME_LENGTH = 40
EXIT_NOT_DRAWN = 3


@dataclass(eq=False)
class Drawn:
    """A node, as `display` asks for it."""

    op: Op
    symbol: str
    operands: Sequence[Drawn]
    shape: Shape
    name: str
    symbolic: bool = True
    data: Any = None
    grad: Any = None


def drawn(graph: Graph) -> Drawn:
    """The graph's output or, of several, a node that takes them all."""
    nodes: list[Drawn] = []
    for node, op, operands, _ in graph.rows():
        below = [nodes[operand] for operand in operands]
        nodes.append(Drawn(op, op.symbol if below else "", below, graph.shape(node), _name(graph, node)))
    for name, node in graph.outputs.items():
        nodes[node].name = shown(", ".join(filter(None, (nodes[node].name, name))))
    roots = [nodes[node] for node in dict.fromkeys(graph.outputs.values())]
    return roots[0] if len(roots) == 1 else Drawn(roots[0].op, "outputs", roots, (), "")


def _name(graph: Graph, node: int) -> str:
    if node in graph.leaves:
        return shown(graph.leaves[node].name)
    constant = graph.constants.get(node)
    if constant is None:
        return ""
    return f"{constant[()]:g}" if not constant.shape else "constant"


def shown(name: str) -> str:
    """A name that a client chose, in a form that fits into a box."""
    clean = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name[: NAME_LENGTH + 1])
    return clean if len(clean) <= NAME_LENGTH else f"{clean[:NAME_LENGTH]}\N{HORIZONTAL ELLIPSIS}"


def picture(graph: bytes) -> str:
    """The SVG of a serialised graph. Raises SumgradError, LimitError if it has too many nodes."""
    settings = Settings(max_elements=MOST_ELEMENTS)  # the server has taken this graph, whatever its limits are
    return to_svg(drawn(parse_graph(graph, b"", settings)), look=lambda node: (node.symbol, node.operands))


def main(seconds: int) -> int:
    """Draws within so much processor time, which others get first, and within MEMORY_BYTES; on Linux with Landlock in reach of nothing else."""
    os.nice(10)
    if landlock.no_new_privileges():
        with contextlib.suppress(OSError):  # a container's rules may forbid it
            landlock.restrict([])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        made = picture(sys.stdin.buffer.read())
    except (SumgradError, MemoryError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return EXIT_NOT_DRAWN
    sys.stdout.buffer.write(made.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
