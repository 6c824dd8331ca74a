"""An upload while it comes: bytes go to the disk and into checksums, in the order in which they lie in their column."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sumgrad_engine.errors import InputError, SumgradError

from .datasets import Column
from .pipeline import Chunk, Pipeline
from .store.files import Parts, hasher_of
from .store.room import room_for
from .threads import in_thread, to_its_end

FLUSH_BYTES = 1 << 26
"""After so many more bytes the disk begins to take them, so that there are few left at the end."""


@dataclass(eq=False)
class Upload:
    """One that is not finished. `received` counts the bytes of each column that are in its file, `expected` those too that wait to be written."""

    namespace: str
    upload_id: str
    folder: str
    columns: tuple[Column, ...]
    parts: Parts
    received: list[int]
    touched: float
    hashers: list[Any] | None = None
    busy: bool = False
    expected: list[int] = field(default_factory=list)
    nbytes: int = 0

    def settle(self) -> None:
        """Nothing waits to be written any more."""
        self.expected = list(self.received)
        self.nbytes = sum(self.received)

    def restart(self) -> None:
        """Nothing is there any more."""
        self.received = [0] * len(self.columns)
        self.hashers = None
        self.settle()

    def rehash(self) -> None:
        """Works out the checksums of what is there, unless they are known."""
        if self.hashers is None:
            self.hashers = [
                hasher_of(self.parts.fd(number)) if received else hashlib.sha256() for number, received in enumerate(self.received)
            ]

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Puts bytes behind those that are there; what is counted as received is in the files, also after an error."""
        with room_for("an upload"):
            for number, data in chunks:
                self._write(number, memoryview(data))

    def _write(self, number: int, data: memoryview) -> None:
        if self.columns[number].dtype == "bool" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
            said = f"column {shown(self.columns[number])} has bytes other than 0 and 1, which are no booleans"
            raise InputError(said, field=f"columns[{number}]")
        fd = self.parts.fd(number)
        while data:
            written = os.pwrite(fd, data, self.received[number])
            self.received[number] += written
            data = data[written:]

    def digest(self, chunks: Sequence[Chunk]) -> None:
        """Takes these bytes into the checksums."""
        assert self.hashers is not None
        for number, data in chunks:
            self.hashers[number].update(data)


class Receiving:
    """An upload of which one caller sends bytes."""

    def __init__(self, upload: Upload, allowed: Callable[[int], None]) -> None:
        """`allowed` raises LimitError if so many bytes more are too many."""
        self.upload = upload
        self._allowed = allowed
        self._pipeline = Pipeline(self._write)
        self._written = 0
        self._flushing: asyncio.Future[None] | None = None

    async def put(self, number: int, offset: int, data: bytes | memoryview) -> None:
        """Takes bytes of a column. Raises InputError, LimitError, NoRoomError."""
        upload = self.upload
        if number >= len(upload.columns):
            raise InputError(f"chunk.column is {number}; the upload has {len(upload.columns)} columns", field="chunk.column")
        if offset != upload.expected[number]:
            said = f"chunk.offset is {offset:,}, but {upload.expected[number]:,} bytes of column {shown(upload.columns[number])} have come"
            raise InputError(f"{said}: DescribeUpload says from where to go on", field="chunk.offset")
        self._allowed(len(data))
        upload.expected[number] += len(data)
        upload.nbytes += len(data)
        upload.touched = time.time()
        await self._pipeline.put(Chunk(number, data))

    async def drain(self) -> None:
        """Waits until all is written. Raises NoRoomError, InputError."""
        await self._pipeline.drain()
        await self._flushed()

    async def _write(self, chunks: Sequence[Chunk]) -> None:
        # Two threads: with cores to spare, neither waits for the other.
        written, _ = await asyncio.gather(
            in_thread(self.upload.write, chunks), in_thread(self.upload.digest, chunks), return_exceptions=True
        )
        if isinstance(written, BaseException):
            self.upload.hashers = None  # they have seen more than is written
            raise written
        self._written += sum(len(data) for _, data in chunks)
        if self._written >= FLUSH_BYTES and (self._flushing is None or self._flushing.done()):
            await self._flushed()
            self._written = 0
            self._flushing = self._begin_flush({number for number, _ in chunks})

    def _begin_flush(self, numbers: Iterable[int]) -> asyncio.Future[None]:
        return asyncio.ensure_future(in_thread(self._flush, numbers))

    def _flush(self, numbers: Iterable[int]) -> None:
        with room_for("an upload"):
            for number in numbers:
                self.upload.parts.flush(number)

    async def _flushed(self) -> None:
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            await to_its_end(flushing)

    async def release(self) -> None:
        """Writes what has come, if that is possible."""
        await to_its_end(self._release())

    async def _release(self) -> None:
        try:
            for rest in (self._pipeline.drain, self._flushed):
                with contextlib.suppress(OSError, SumgradError):  # whoever sent it knows
                    await rest()
            await in_thread(self.upload.parts.close)
        finally:
            self.upload.settle()


def shown(column: Column) -> str:
    """A column's name as errors say it."""
    return repr(column.name[:80])
