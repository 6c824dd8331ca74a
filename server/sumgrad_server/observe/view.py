"""How the server stands: the one place that asks the pool and the stores. Nothing here waits or takes long."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Protocol

from ..census import Census
from ..datasets import Entry
from ..graphs import HeldGraph, StoredGraph
from ..runs.runs import Runs
from ..settings import Settings


class Pool(Protocol):
    """What is asked of the pool of workers."""

    @property
    def serving(self) -> bool:
        """Whether a worker is ready."""

    def census(self) -> Census:
        """What the workers do now."""


@dataclass(frozen=True)
class Stores:
    """What the server holds: asked for when somebody looks."""

    graphs: Callable[[], Sequence[HeldGraph]]
    """The last used first."""
    datasets: Callable[[], Sequence[Entry]]
    """Of all namespaces, the newest first."""
    runs: Runs
    """Of all namespaces."""
    find_graph: Callable[[str], Awaitable[StoredGraph]]
    """The graph of an id, from the disk if need be. Raises UnknownGraphError and what else keeps a server from finding it."""


@dataclass
class View:
    """The state of a server."""

    settings: Settings
    pool: Pool
    stores: Stores
    draining: bool = False
    version: str = field(default_factory=lambda: version("sumgrad"))
    started: float = field(default_factory=time.monotonic)

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def census(self) -> Census:
        """What the workers do now."""
        return self.pool.census()

    def serving(self) -> bool:
        """Whether requests can be answered: a worker is ready, and the server doesn't drain."""
        return self.pool.serving and not self.draining


def together(datasets: Iterable[Entry]) -> int:
    """Bytes of some datasets; contents that go by several names count once."""
    return sum({dataset.id: dataset.nbytes for dataset in datasets}.values())
