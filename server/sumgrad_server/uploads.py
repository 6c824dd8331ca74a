"""Uploads of datasets: which there are, who sends what of them, and what becomes of them at the end.

One that breaks off stays, to be resumed, until it expires; after a restart its checksums are worked out anew from the files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace

from sumgrad_engine.errors import InputError, LimitError, SumgradError

from .auth import Principal
from .datasets import Arrival, Catalogue, Column, Content, Entry
from .faults import BusyError, DamagedError, NoRoomError, UnknownDatasetError
from .receiving import Receiving, Upload, shown
from .settings import Settings
from .store.room import room_for
from .store.state import State
from .threads import in_thread, to_its_end

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""Between two looks for uploads that expire, at most."""


@dataclass(frozen=True)
class Start:
    """What an upload is to become. `name` may be empty."""

    upload_id: str
    name: str
    columns: tuple[Column, ...]
    replacing: bool = False


class Uploads:
    """The unfinished uploads of all namespaces."""

    def __init__(self, state: State, catalogue: Catalogue, settings: Settings) -> None:
        self._state, self._catalogue, self._settings = state, catalogue, settings
        self._uploads: dict[tuple[str, str], Upload] = {}

    async def load(self) -> None:
        """Reads from the state, which is open, what there is."""
        rows = await self._state.database.run("reading the uploads", _rows)
        for folder, namespace, upload_id, columns in rows:
            parts = await in_thread(self._state.files.parts, folder)
            received = await in_thread(parts.sizes, len(columns))
            upload = Upload(namespace, upload_id, folder, columns, parts, received, time.time())
            upload.settle()
            self._uploads[namespace, upload_id] = upload

    async def describe(self, namespace: str, upload_id: str) -> list[int]:
        """How many bytes of each column are on the disk. Raises UnknownDatasetError."""
        upload = self._uploads.get((namespace, upload_id))
        if upload is not None:
            received = list(upload.received)
            with contextlib.suppress(FileNotFoundError), room_for("an upload"):  # it was finished meanwhile
                await in_thread(upload.parts.sync)
            if self._uploads.get((namespace, upload_id)) is upload:
                return received
        raise UnknownDatasetError(f"there is no unfinished upload {upload_id[:80]!r} here: begin it from the start", upload=upload_id[:80])

    @contextlib.asynccontextmanager
    async def receiving(self, principal: Principal, start: Start) -> AsyncIterator[Receiving]:
        """An upload, new or resumed, to which nobody else sends meanwhile. Raises InputError, LimitError, BusyError, NoRoomError."""
        key = principal.namespace, start.upload_id
        if key not in self._uploads:
            await self._make_place(principal.namespace)
        upload = self._uploads.get(key)  # which somebody else may have begun meanwhile
        fresh = upload is None
        if upload is None:
            upload = self._reserve(principal.namespace, start)
        else:
            _require_resumable(upload, start)
        upload.busy = True
        arriving = Receiving(upload, lambda nbytes: self._require_bytes(principal, nbytes))
        try:
            if fresh:
                await to_its_end(self._record(upload))
            with room_for("an upload"):
                await in_thread(upload.rehash)
            yield arriving
        except NoRoomError as error:
            await arriving.release()
            if error.details.get("full") != "disk":
                raise
            await self._drop(upload)  # it would keep everybody else from working
            raise NoRoomError(f"{error}; the upload was dropped, to leave that to others", full="disk") from error
        finally:
            try:
                await arriving.release()
            finally:
                upload.busy = False

    async def finish(self, arriving: Receiving, start: Start, sample_count: int, digests: Sequence[str]) -> tuple[Entry, Content, bool]:
        """Makes a dataset of an upload; and whether it was there already. `digests` has the SHA-256 of each column.

        Raises InputError, DamagedError, NameTakenError, LimitError, NoRoomError: after DamagedError nothing is left of the upload.
        """
        await arriving.drain()
        upload = arriving.upload
        _require_whole(upload, sample_count)
        assert upload.hashers is not None
        for column, hasher, expected in zip(upload.columns, upload.hashers, digests, strict=True):
            if hasher.hexdigest() != expected:
                await self._drop(upload)
                said = f"column {shown(column)} arrived with the SHA-256 {hasher.hexdigest()}, and should have {expected}"
                raise DamagedError(f"{said}: the upload was dropped; send it again", column=column.name)
        content = Content.of(sample_count, [replace(column, sha256=digest) for column, digest in zip(upload.columns, digests, strict=True)])
        return await to_its_end(self._become(upload, start, content))

    async def expire(self) -> None:
        """Drops, from time to time, what was broken off too long ago. Ends only when it is cancelled."""
        seconds = self._settings.upload_expiry_seconds
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, seconds / 2))
            for upload in list(self._uploads.values()):
                if not upload.busy and time.time() - upload.touched > seconds:
                    await self._expired(upload)

    async def _expired(self, upload: Upload) -> None:
        log.info("an upload of %s bytes was broken off and is dropped", upload.nbytes)
        try:
            await self._drop(upload)
        except SumgradError:
            log.exception("an upload that was broken off can't be dropped; it is tried again")
            upload.busy = False

    def _reserve(self, namespace: str, start: Start) -> Upload:
        self._require_place(namespace)
        folder, columns = secrets.token_hex(16), start.columns
        upload = Upload(namespace, start.upload_id, folder, columns, self._state.files.parts(folder), [0] * len(columns), time.time())
        upload.settle()
        self._uploads[namespace, start.upload_id] = upload
        return upload

    async def _record(self, upload: Upload) -> None:
        try:
            await self._state.database.run("an upload", lambda sql: _insert(sql, upload))
        except BaseException:
            del self._uploads[upload.namespace, upload.upload_id]
            raise

    async def _become(self, upload: Upload, start: Start, content: Content) -> tuple[Entry, Content, bool]:
        with room_for("a dataset"):
            await in_thread(upload.parts.sync)
        numbers = {column.name: number for number, column in enumerate(upload.columns)}
        arrival = Arrival(upload.folder, upload.parts, numbers)
        entry, known = await self._catalogue.add(upload.namespace, start.name, content, arrival, replacing=start.replacing)
        del self._uploads[upload.namespace, upload.upload_id]
        await in_thread(upload.parts.remove)
        return entry, content, known

    def _drop(self, upload: Upload) -> Awaitable[None]:
        upload.busy = True  # from now on nobody may resume it, begin another one of this id, or drop it too
        return to_its_end(self._dropped(upload))

    async def _dropped(self, upload: Upload) -> None:
        await in_thread(upload.parts.remove)
        upload.restart()
        await self._state.database.run("an upload", lambda sql: sql.execute(_DELETE, [upload.folder]), freeing=True)
        del self._uploads[upload.namespace, upload.upload_id]

    async def _make_place(self, namespace: str) -> None:
        """Drops what was broken off longest ago, if there are as many uploads as there may be: nobody may ever go on with it."""
        here = [upload for upload in self._uploads.values() if upload.namespace == namespace and not upload.busy]
        if here and self._count(namespace) >= self._settings.max_uploads:
            await self._drop(min(here, key=lambda upload: upload.touched))

    def _require_place(self, namespace: str) -> None:
        most, here = self._settings.max_uploads, self._count(namespace)
        if here >= most:
            said = f"there are {here} uploads under way, and max_uploads is {most}: come back when some are finished"
            raise BusyError(said, limit="max_uploads", value=here + 1, allowed=most)

    def _count(self, namespace: str) -> int:
        return sum(upload.namespace == namespace for upload in self._uploads.values())

    def _require_bytes(self, principal: Principal, nbytes: int) -> None:
        """Raises LimitError if a namespace can't have so many bytes more."""
        own = principal.max_dataset_bytes
        allowed = self._settings.max_dataset_bytes if own is None else own
        here = sum(upload.nbytes for upload in self._uploads.values() if upload.namespace == principal.namespace)
        value = self._catalogue.nbytes(principal.namespace) + here + nbytes
        if value > allowed:
            said = f"datasets and uploads have {value:,} bytes with these, and max_dataset_bytes is {allowed:,}: delete some"
            raise LimitError(said, limit="max_dataset_bytes", value=value, allowed=allowed)


def _require_resumable(upload: Upload, start: Start) -> None:
    if upload.busy:
        said = f"somebody sends upload {upload.upload_id[:80]!r} at this moment: one at a time, or choose another upload_id"
        raise BusyError(said, limit="upload_id")
    if upload.columns != start.columns:
        said = f"upload {upload.upload_id[:80]!r} was begun with other columns: resume it with the same ones, or choose another upload_id"
        raise InputError(said, field="start.columns")


def _require_whole(upload: Upload, sample_count: int) -> None:
    if not sample_count:
        raise InputError("finish.sample_count is 0; at least one sample is needed", field="finish.sample_count")
    for column, received in zip(upload.columns, upload.received, strict=True):
        if received != sample_count * column.sample_bytes:
            said = f"column {shown(column)} has {received:,} bytes; {sample_count:,} samples of {column.sample_bytes:,} bytes are needed"
            raise InputError(said, field="finish.sample_count")


# The database. Functions of transactions, which run in its thread.

_DELETE = "DELETE FROM uploads WHERE folder = ?"


def _insert(sql: sqlite3.Connection, upload: Upload) -> None:
    columns = json.dumps([(column.name, column.dtype, column.shape) for column in upload.columns])
    sql.execute("INSERT INTO uploads VALUES (?, ?, ?, ?)", [upload.folder, upload.namespace, upload.upload_id, columns])


def _rows(sql: sqlite3.Connection) -> list[tuple[str, str, str, tuple[Column, ...]]]:
    rows = sql.execute("SELECT folder, namespace, upload_id, columns FROM uploads")
    return [
        (folder, namespace, upload_id, tuple(Column(name, dtype, tuple(shape)) for name, dtype, shape in json.loads(columns)))
        for folder, namespace, upload_id, columns in rows
    ]
