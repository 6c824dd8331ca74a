"""The compiler: graphs to machine code. The only part of the engine that knows LLVM.

`Lowering` turns a graph into steps (straight-line pieces, loops over arrays, matrix products), each step emits LLVM IR, `machine` makes code of it and
`Kernel` calls that. Results have the same bits on every machine with fused multiply-add, however many workers there are.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..ir import Graph

if TYPE_CHECKING:
    from .compilation import Compiler

__all__ = ["IndexRangeError", "Job", "compiler", "configure", "unavailable"]


class IndexRangeError(Exception):
    """An integer that chooses was out of range: the reference evaluator can say which."""


@dataclass(frozen=True, eq=False)
class Job:
    """What to compile: nodes of a graph, which are sums over samples (or follow from them), or results for each sample if `rows`."""

    graph: Graph
    wanted: Sequence[int]
    rows: bool = False


@functools.cache
def unavailable() -> str:
    """Why nothing can be compiled here; empty if it can."""
    if importlib.util.find_spec("llvmlite") is None:
        return 'llvmlite is not installed: pip install "sumgrad[server]"'
    from .machine import host

    return "" if host().has_fma else "this processor has no fused multiply-add (x86-64-v3 or AArch64 is needed)"


@dataclass
class _Configuration:
    directory: Path | None = None
    max_seconds: float | None = None


_configuration = _Configuration()


def configure(directory: Path | None = None, max_seconds: float | None = None) -> None:
    """Where this process keeps compiled code (None: where everybody does), and how long it may compile one graph. Before it compiles any."""
    _configuration.directory, _configuration.max_seconds = directory, max_seconds
    compiler.cache_clear()


@functools.cache
def compiler() -> Compiler:
    """The compiler of this process, with its caches."""
    from .cache import default_directory
    from .compilation import Compiler

    found = Compiler(_configuration.directory or default_directory())
    found.max_seconds = _configuration.max_seconds
    return found
