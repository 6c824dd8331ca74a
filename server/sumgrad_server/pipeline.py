"""Bytes on their way to the disk: a batch is written while the next one comes, and who brings too much waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

WINDOW_BYTES = 1 << 23
"""Bytes that may wait while others are written."""


class Chunk(NamedTuple):
    """Bytes of one column, which come after all that were given before."""

    column: int
    data: bytes | memoryview


class Pipeline:
    """Has all written that has come since the last time, again and again. After an error nothing more is written."""

    def __init__(self, write: Callable[[Sequence[Chunk]], Awaitable[None]]) -> None:
        self._write = write
        self._waiting: list[Chunk] = []
        self._waiting_bytes = 0
        self._taken = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None

    async def put(self, chunk: Chunk) -> None:
        """Takes a chunk; waits while there are too many. Raises what writing an earlier one raised."""
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk.data)
        if self._writing is None or self._writing.done():
            await self.drain()
            self._writing = asyncio.ensure_future(self._write_all())
        if self._waiting_bytes >= WINDOW_BYTES:
            self._taken.clear()
            await self._taken.wait()

    async def drain(self) -> None:
        """Waits until all is written. Raises what writing raised, again and again."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
                self._taken.set()
                await self._write(batch)
        finally:
            self._taken.set()
