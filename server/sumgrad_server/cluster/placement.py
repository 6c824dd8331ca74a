"""What the cluster's workers hold for later: pieces of datasets, graphs, the parameters of one request. Each is sent once, and again if it was lost."""

from __future__ import annotations

import asyncio
import mmap
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client, Future
from sumgrad_engine.blocks import BLOCK
from sumgrad_engine.types import Array

from ..resident import ResidentColumn
from ..threads import in_thread

PIECE_BLOCKS = 256
"""Blocks in a piece of a dataset: a power of two, and no shard has more."""
PIECE_ROWS = PIECE_BLOCKS * BLOCK
LOST = ("lost", "cancelled", "error")


@dataclass(eq=False)
class Placed:
    """Something that is on its way to the cluster, or there."""

    client: Client
    nbytes: int
    future: asyncio.Task[Future]

    def is_lost(self, client: Client) -> bool:
        """Whether it has to be sent again."""
        if self.client is not client:
            return True
        if not self.future.done():
            return False
        return self.future.cancelled() or self.future.exception() is not None or self.future.result().status in LOST


class Placement:
    """At most so many bytes; what was used least recently goes first. A key is what it stands for, or lives as long as what it stands for."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._placed: OrderedDict[Hashable, Placed] = OrderedDict()
        self.nbytes = 0

    async def get(self, client: Client, key: Hashable, nbytes: int, make: Callable[[], Any], *, everywhere: bool = False) -> Future:
        """Where something is held that `make` (which may block) makes: on one worker, or everywhere. `nbytes` are those of all workers together."""
        found = self._placed.get(key)
        if found is None or found.is_lost(client):
            self.forget(key)
            sending = asyncio.create_task(_sent(client, make, everywhere=everywhere))
            found = self._placed[key] = Placed(client, nbytes, sending)
            self.nbytes += nbytes
            self._make_room(key)
        self._placed.move_to_end(key)
        return await asyncio.shield(found.future)

    def forget(self, key: Hashable) -> None:
        """Lets go of something: workers drop it, and it is sent again if it is wanted again."""
        found = self._placed.pop(key, None)
        if found is not None:
            self.nbytes -= found.nbytes

    def _make_room(self, newest: Hashable) -> None:
        while self.nbytes > self._max_bytes and next(iter(self._placed)) != newest:
            self.forget(next(iter(self._placed)))


async def _sent(client: Client, make: Callable[[], Any], *, everywhere: bool) -> Future:
    value = await in_thread(make)
    (future,) = await client.scatter([value], hash=False, broadcast=everywhere)
    found: Future = future
    return found


def pieces_of(first: int, count: int) -> Iterator[int]:
    """The numbers of the pieces that hold these rows."""
    return iter(range(first // PIECE_ROWS, (first + count - 1) // PIECE_ROWS + 1))


def read_piece(columns: Mapping[str, ResidentColumn], number: int) -> dict[str, Array]:
    """A piece of a dataset's columns."""
    return {name: mapped(column)[number * PIECE_ROWS : (number + 1) * PIECE_ROWS].copy() for name, column in columns.items()}


def mapped(column: ResidentColumn) -> Array:
    """A column, read from its file where it is used."""
    memory = mmap.mmap(column.file.fd, column.file.nbytes, access=mmap.ACCESS_READ)
    return np.frombuffer(memory, column.dtype).reshape(-1, *column.shape)
