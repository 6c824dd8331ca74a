"""Work for the pool: orders, the graphs that they are about, and what becomes of them."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from sumgrad_engine.types import Array

from .arena import Arena, Letter
from .resident import ColumnFile
from .tasks import HEADER, Cost, GraphRef, Slot

LETTER_BYTES = 1 << 16
"""Graphs of up to so many bytes are sent to each worker that needs them, and take no descriptor."""

Segment: TypeAlias = Arena | ColumnFile | Letter


@dataclass(frozen=True, eq=False)
class SharedGraph:
    """A graph's bytes and its source map's in shared memory, where workers read them. Freed when it is forgotten."""

    ref: GraphRef
    arena: Arena | Letter

    @classmethod
    def of(cls, graph_id: str, graph: bytes, sources: bytes) -> SharedGraph:
        """Copies them there."""
        data = graph + sources
        if len(data) <= LETTER_BYTES:
            letter = Letter(data)
            return cls(GraphRef(graph_id, letter.id, len(graph), len(sources)), letter)
        arena = Arena(len(data))
        arena.bytes[: len(data)] = np.frombuffer(data, np.uint8)
        return cls(GraphRef(graph_id, arena.id, len(graph), len(sources)), arena)


@dataclass(frozen=True, eq=False)
class Order:
    """Work for the pool: a task, and where in an arena of `nbytes` its arrays lie. `write` gets views of them, and writes what goes in.

    `first_row` is that of a dataset's rows; `most` is how many jobs the client may have; a `light` job is known to take next to no
    time with the program for its `work`.
    """

    graph: SharedGraph
    task: bytes  # pickled; the same object for the same task
    shards: int = 1
    nbytes: int = HEADER
    slots: tuple[Slot, ...] = ()
    write: Callable[[list[Array]], None] = lambda views: None
    first_row: int = 0
    columns: tuple[ColumnFile, ...] = ()
    client: str = ""
    most: int | None = None
    light: bool = False
    work: Hashable = None


@dataclass(eq=False)
class Job:
    """A task on its way. `values` has what each shard answered beside what it wrote to the arena."""

    number: int
    graph: SharedGraph
    arena: Arena
    columns: tuple[ColumnFile, ...]
    task_offset: int
    task_bytes: int
    finished: asyncio.Future[None]
    values: dict[int, Any] = field(default_factory=dict)
    costs: list[Cost] = field(default_factory=list)  # of the shards that are done
    handed: dict[int, list[int]] = field(default_factory=dict)  # descriptors that came with the values

    @property
    def views(self) -> list[Array]:
        """The arrays in the task's slots."""
        return self.arena.views

    def close_handed(self) -> None:
        """Closes descriptors that nobody took."""
        for fd in itertools.chain.from_iterable(self.handed.values()):
            os.close(fd)
        self.handed.clear()
