"""The journal that all training runs of a server share, so that one wait for the disk serves many.

journal-NUMBER   records as they came, in frames (frames.py): one frame for all that came while the one before was on its way to the disk
snapshot-RUN     all that a run is, as of one of its records

Each start of a server, and each compaction, begins a new segment. Compaction writes snapshots of the runs that have records, and then deletes the
segments before: so neither the folder nor the time to read it again grows with the number of steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from . import frames
from .database import StateError
from .directory import sync_folder
from .frames import BadFrameError, Entry, Parts
from .room import room_for

log = logging.getLogger(__name__)

SEGMENT, SNAPSHOT = "journal-", "snapshot-"
SEGMENT_BYTES = 64 << 20
AHEAD_BYTES = 4 << 20
"""Zeros are written so far ahead: where the file need not grow, waiting for the disk takes two thirds of the time."""
FORGOTTEN = (1 << 64) - 1
"""The index of the record that ends a run for good."""
MAX_BUFFERS = 512
"""Of one system call."""

Current: TypeAlias = Mapping[str, Callable[[], tuple[int, bytes]]]
"""The index of the last record that a snapshot of a run has, and its bytes."""


@dataclass(frozen=True)
class Snapshot:
    """A run as of one of its records."""

    index: int
    data: bytes


@dataclass(frozen=True)
class Recovered:
    """What was there: snapshots by run, and the records after them, in their order."""

    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    records: list[Entry] = field(default_factory=list)


@dataclass(frozen=True)
class _Append:
    run: str
    index: int
    parts: Parts
    done: asyncio.Future[None]


@dataclass(frozen=True)
class _Task:
    work: Callable[[], None]
    done: asyncio.Future[None]


class Journal:
    """In a folder, or nowhere: then nothing is kept. Used from one event loop; the disk is the business of a thread."""

    def __init__(self, folder: Path | None, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._segment_bytes = folder, segment_bytes
        self._condition = threading.Condition()
        self._items: list[_Append | _Task] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self._segment: Segment | None = None
        self._number = 0  # of the newest segment
        self._bytes = 0  # written since the last compaction
        self._dirty: dict[str, int] = {}  # the last record of runs that have some after their snapshot
        self._snapshots: set[str] = set()

    @property
    def full(self) -> bool:
        """Whether it is time for a compaction."""
        return self._bytes > self._segment_bytes

    async def open(self) -> Recovered:
        """Reads what there is. Raises StateError."""
        self._loop = asyncio.get_running_loop()
        if self._folder is None:
            return Recovered()
        found: list[Recovered] = []
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()
        await self._in_thread(lambda: found.append(self._read()))
        return found[0]

    async def append(self, run: str, index: int, parts: Parts) -> None:
        """Puts a record on the disk. Raises NoRoomError: then it is not there."""
        if self._folder is not None:
            await self._put(_Append(run, index, parts, self._loop.create_future()))

    async def compact(self, current: Current) -> None:
        """Writes snapshots of the runs that have changed and deletes the segments before; runs that are not named are forgotten. Raises NoRoomError.

        Nothing may be appended for a run between its snapshot and the end of the compaction.
        """
        if self._folder is None:
            return
        snapshots = {run: Snapshot(*current[run]()) for run in self._dirty if run in current}
        gone = sorted(run for run in {*self._dirty, *self._snapshots} if run not in current)
        await self._in_thread(lambda: self._compact(snapshots, gone))

    async def close(self) -> None:
        """Ends when all that was appended is on the disk."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with self._condition:
                self._closing = True
                self._condition.notify()
            await asyncio.to_thread(thread.join)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await self._put(_Task(work, self._loop.create_future()))

    async def _put(self, item: _Append | _Task) -> None:
        with self._condition:
            self._items.append(item)
            self._condition.notify()
        await item.done

    def _work(self) -> None:
        """The thread's: what has come while it wrote is written at once."""
        while items := self._taken():
            group: list[_Append] = []
            for item in items:
                if isinstance(item, _Append):
                    group.append(item)
                else:
                    self._write(group)
                    group = []
                    self._answer([item.done], _error_of(item.work))
            self._write(group)
        if self._segment is not None:
            self._segment.close()

    def _taken(self) -> list[_Append | _Task]:
        """All that waits; nothing when it is over."""
        with self._condition:
            while not self._items and not self._closing:
                self._condition.wait()
            items, self._items = self._items, []
            return items

    def _answer(self, done: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
        """Wakes the event loop, once for all of them."""
        with contextlib.suppress(RuntimeError):  # it is gone
            self._loop.call_soon_threadsafe(_resolve, done, error)

    def _write(self, group: Sequence[_Append]) -> None:
        if group:
            self._answer([append.done for append in group], _error_of(lambda: self._write_frame(group)))

    def _write_frame(self, group: Sequence[_Append]) -> None:
        records = [frames.record(append.run, append.index, append.parts) for append in group]
        with room_for("the journal of training runs"):
            self._append(frames.frame(records))
        for append in group:
            self._dirty[append.run] = append.index

    def _append(self, frame: list[bytes | memoryview]) -> None:
        segment = self._segment or self._begun()
        self._segment = None  # what the system made of a failed write is not to be relied on: the next frame goes elsewhere
        try:
            self._bytes += segment.append(frame)
        except OSError:
            segment.close()
            raise
        self._segment = segment

    def _begun(self) -> Segment:
        """A new segment."""
        assert self._folder is not None
        self._number += 1
        segment = Segment(self._folder / f"{SEGMENT}{self._number:08}")
        sync_folder(self._folder)
        return segment

    def _compact(self, snapshots: Mapping[str, Snapshot], gone: Sequence[str]) -> None:
        assert self._folder is not None
        with room_for("a snapshot of the training runs"):
            if self._segment is not None:
                self._segment.close()
                self._segment = None
            kept = self._number
            if gone:  # said before anything of them is deleted: what would be left can't be read without the rest
                self._append(frames.frame([frames.record(run, FORGOTTEN, ()) for run in gone]))
            for run, snapshot in snapshots.items():
                _replace(self._folder / f"{SNAPSHOT}{run}", frames.frame([frames.record(run, snapshot.index, [snapshot.data])]))
            sync_folder(self._folder)
            for number, path in _segments(self._folder):
                if number <= kept:
                    path.unlink()
            for run in gone:
                (self._folder / f"{SNAPSHOT}{run}").unlink(missing_ok=True)
        self._bytes, self._dirty = 0, {}
        self._snapshots = (self._snapshots | snapshots.keys()) - set(gone)

    def _read(self) -> Recovered:
        assert self._folder is not None
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            snapshots = dict(_snapshots(self._folder))
            found = [entry for _, path in _segments(self._folder) for entry in read_segment(path)]
        except OSError as error:
            raise StateError(f"the journal of training runs in {self._folder} can't be read: {error.strerror}") from error
        self._number = max((number for number, _ in _segments(self._folder)), default=0)
        self._snapshots = set(snapshots)
        gone = {entry.run for entry in found if entry.index == FORGOTTEN}
        later = list(_after(self._folder, snapshots, [entry for entry in found if entry.run not in gone]))
        self._dirty = {entry.run: entry.index for entry in found}
        log.info("the journal of training runs has %d records after %d snapshots", len(later), len(snapshots))
        return Recovered({run: snapshot for run, snapshot in snapshots.items() if run not in gone}, later)


class Segment:
    """A file that grows by frames. It is ours alone, and new."""

    def __init__(self, path: Path, ahead: int = AHEAD_BYTES) -> None:
        self._ahead = ahead
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._end = self._room = 0
        try:
            self.append([frames.HEADER])
        except OSError:
            os.close(self._fd)
            path.unlink()
            raise

    def append(self, parts: list[bytes | memoryview]) -> int:
        """Puts parts on the disk, one after the other; returns how many bytes they are. Raises OSError."""
        nbytes = sum(len(part) for part in parts)
        if self._end + nbytes > self._room:
            self._grow(nbytes)
        place = self._end
        for start in range(0, len(parts), MAX_BUFFERS):
            place += _written(self._fd, parts[start : start + MAX_BUFFERS], place)
        os.fdatasync(self._fd)
        self._end = place
        return nbytes

    def _grow(self, nbytes: int) -> None:
        """Writes zeros ahead of a frame that has no room; one that is longer than they are grows the file itself."""
        if nbytes < self._ahead:
            _written(self._fd, [bytes(self._ahead)], self._end)
            self._room = self._end + self._ahead

    def close(self) -> None:
        """Nothing more will come: cuts off zeros, and what was not written whole."""
        with contextlib.suppress(OSError):  # then they remain, and do no harm
            os.ftruncate(self._fd, self._end)
        os.close(self._fd)


def _written(fd: int, parts: Sequence[bytes | memoryview], place: int) -> int:
    """Writes parts at a place; returns how many bytes they are. Raises OSError."""
    total = sum(len(part) for part in parts)
    done = os.pwritev(fd, parts, place)
    if done < total:
        rest = memoryview(b"".join(parts))
        while done < total:
            done += os.pwrite(fd, rest[done:], place + done)
    return total


def _replace(path: Path, parts: list[bytes | memoryview]) -> None:
    """Puts a file on the disk, whole or not at all. Raises OSError."""
    fresh = path.with_name(f"new-{path.name}")
    fresh.unlink(missing_ok=True)
    segment = Segment(fresh, ahead=0)
    try:
        segment.append(parts)
    finally:
        segment.close()
    fresh.replace(path)


def _segments(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and paths, the oldest first."""
    return sorted((int(path.name.removeprefix(SEGMENT)), path) for path in folder.glob(f"{SEGMENT}*"))


def _snapshots(folder: Path) -> Iterator[tuple[str, Snapshot]]:
    for path in folder.glob("new-*"):
        path.unlink()
    for path in folder.glob(f"{SNAPSHOT}*"):
        entries = list(read_segment(path))
        if len(entries) != 1 or f"{SNAPSHOT}{entries[0].run}" != path.name:
            raise StateError(f"{path} is damaged: {ADVICE}")
        yield entries[0].run, Snapshot(entries[0].index, entries[0].data)


ADVICE = "restore the state directory from a backup, or move its folder of runs away to start without them"


def read_segment(path: Path) -> list[Entry]:
    """The records of a file. What was not written whole at its end does not count. Raises StateError."""
    data = memoryview(path.read_bytes())
    if not any(data[: len(frames.HEADER)]) or len(data) < len(frames.HEADER):
        return []  # it was never written to
    if data[: len(frames.HEADER)] != frames.HEADER:
        raise StateError(f"{path} is no journal that this server knows: use the sumgrad that wrote it; or, if it is damaged, {ADVICE}")
    found: list[Entry] = []
    try:
        for _, entries in frames.entries(data, len(frames.HEADER)):
            found += entries
    except BadFrameError as error:
        if frames.has_frame_after(data, error.offset):
            raise StateError(f"{path} is damaged at byte {error.offset:,}: {ADVICE}") from error
        log.warning("%s ends with a frame that was not written whole, at byte %d: nobody was told of it", path, error.offset)
    return found


def _after(folder: Path, snapshots: Mapping[str, Snapshot], entries: Sequence[Entry]) -> Iterator[Entry]:
    """The records after the snapshots. Raises StateError if one is missing."""
    newest = {run: snapshot.index for run, snapshot in snapshots.items()}
    for entry in entries:
        last = newest.get(entry.run, -1)
        if entry.index <= last:
            continue
        if entry.index != last + 1:
            raise StateError(f"the journal in {folder} lacks record {last + 1} of run {entry.run}: {ADVICE}")
        newest[entry.run] = entry.index
        yield entry


def _error_of(work: Callable[[], None]) -> Exception | None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - it is raised where the work was asked for
        return error
    return None


def _resolve(done: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for future in done:
        if future.done():  # nobody waits for it any more
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()  # it may be that nobody asks
