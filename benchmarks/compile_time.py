"""(h): what it takes from a loss to its first gradient, against the number of nodes. Each case runs in a process of its own, with a limit of time."""

from __future__ import annotations

from .children import SLOW, ask
from .contender import Missing
from .duel import Effort
from .report import Report, figure

NODES = (200, 2_000, 50_000, 1_000_000)
SHAPES = {"line": "one straight line of scalar operations", "dense": "three dense tanh layers written out in scalars"}
LIBRARIES = ("sumgrad", "JAX", "CasADi, map", "CasADi, generated C")
LIMIT = 120.0
"""Seconds for a library to build, differentiate, compile and run."""
QUICK_LIMIT = 10.0
OURS_WITHIN = {2_000: 0.5, 50_000: 6.0}
"""Seconds in which we are to compile so many nodes."""


def show(report: Report, effort: Effort) -> None:
    """A table for each shape."""
    limit, sizes = (LIMIT, NODES) if effort.compile else (QUICK_LIMIT, NODES[:1])
    for shape, title in SHAPES.items():
        report.heading(f"(h) Seconds to the first gradient: {title}")
        gone: dict[str, str] = {}
        rows = [_row(library, shape, nodes, limit, gone) for nodes in sizes for library in LIBRARIES]
        report.table(["", "nodes", "writing the loss", "differentiating and compiling", "a later call", "remark"], rows)


def _row(library: str, shape: str, nodes: int, limit: float, gone: dict[str, str]) -> list[str]:
    """A case; a library that did not come back from a smaller one is in `gone`, and is not asked again."""
    none = [library, f"{nodes:,}", "", "", ""]
    if library in gone:
        return [*none, gone[library]]
    try:
        found = ask("compile_one", library, shape, nodes, seconds=limit)
    except Missing as reason:
        gone[library] = f"not tried: {nodes:,} nodes took {reason}" if str(reason).startswith(SLOW) else str(reason)
        return [*none, str(reason)]
    return [*none[:2], figure(found["write"]), figure(found["compile"]), f"{found['call']:.2g}", _verdict(library, nodes, found)]


def _verdict(library: str, nodes: int, found: dict[str, float]) -> str:
    if library != "sumgrad":
        return ""
    within = OURS_WITHIN.get(nodes)
    target = "" if within is None else f", target {within} s: {'met' if found['compile'] <= within else 'not met'}"
    return f"{found['evaluator']}, {found['nodes']:,} nodes in the graph{target}"
