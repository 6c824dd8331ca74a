"""The journal that all training runs of a server share, so that one wait for the disk serves many.

journal-NUMBER   records as they came, in frames (frames.py): one frame for all that came while the one before was on its way to the disk
snapshot-RUN     all that a run is, as of one of its records

Each start of a server, and each compaction, begins a new segment. Compaction writes snapshots of the runs that have records, and then deletes the
segments before: so neither the folder nor the time to read it again grows with the number of steps. Each segment begins with what has to be there beside
it, the oldest segment and the snapshots, so that a file that is missing is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ..faults import NoRoomError
from . import frames
from . import segments as files
from .database import StateError
from .directory import sync_folder
from .frames import Entry, Parts
from .room import room_for
from .segments import ADVICE, SEGMENT, SNAPSHOT, Content, Segment

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20
FORGOTTEN = (1 << 64) - 1
"""The index of the record that ends a run for good."""
BESIDE = ""
"""The run of a record that says what is there beside the segment: its index is the oldest segment's number, its data the runs that have snapshots."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Snapshot:
    """A run as of one of its records."""

    index: int
    data: bytes


TakeSnapshot: TypeAlias = Callable[[str], Awaitable[Snapshot | None]]
"""A snapshot of a run, as of the last of its records that is on the disk, or of a later one; None if it was forgotten."""


@dataclass(frozen=True)
class Recovered:
    """What was there: snapshots by run, and the records after them, in their order."""

    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    records: list[Entry] = field(default_factory=list)


@dataclass
class JournalTotals:
    """What the journal has written since it was opened, snapshots aside: waits for the disk, records, and the seconds that they took."""

    writes: int = 0
    records: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Append:
    run: str
    index: int
    parts: Parts
    done: asyncio.Future[None]


@dataclass(frozen=True)
class _Task:
    work: Callable[[], Any]
    done: asyncio.Future[Any]


@dataclass
class _Beside:
    """What has to be there: segments from a number on, and snapshots."""

    first: int = 1
    snapshots: frozenset[str] = frozenset()

    def record(self) -> Parts:
        return frames.record(BESIDE, self.first, ["\n".join(sorted(self.snapshots)).encode()])


class Journal:
    """In a folder, or nowhere: then nothing is kept. Used from one event loop; the disk is the business of a thread."""

    def __init__(self, folder: Path | None, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._segment_bytes = folder, segment_bytes
        self._queue: queue.SimpleQueue[_Append | _Task | None] = queue.SimpleQueue()  # None: no more will come
        self._thread: threading.Thread | None = None
        self._disk: _Disk | None = None
        self._compacting = asyncio.Lock()
        self.totals = JournalTotals()

    @property
    def full(self) -> bool:
        """Whether it is time for a compaction."""
        return self._disk is not None and self._disk.nbytes > self._segment_bytes and not self._compacting.locked()

    async def open(self) -> Recovered:
        """Reads what there is. Raises StateError."""
        self._loop = asyncio.get_running_loop()
        if self._folder is None:
            return Recovered()
        disk = self._disk = _Disk(self._folder, self.totals)
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()
        return await self._in_thread(disk.open)

    async def append(self, run: str, index: int, parts: Parts) -> None:
        """Puts a record on the disk. Raises NoRoomError, OSError: then it is not there."""
        if self._disk is not None:
            await self._put(_Append(run, index, parts, self._loop.create_future()))

    async def forget(self, run: str) -> None:
        """Ends a run for good: nothing is appended for it any more. Raises NoRoomError, OSError: then it is still there."""
        if self._disk is not None:
            await self._in_thread(partial(self._disk.forget, run))

    async def compact(self, take: TakeSnapshot) -> None:
        """Writes snapshots of the runs that have changed, and deletes the segments before. Runs go on meanwhile. Raises NoRoomError, OSError."""
        if self._disk is None:
            return
        async with self._compacting:
            try:
                for run in await self._in_thread(self._disk.rotate):
                    snapshot = await take(run)
                    if snapshot is not None:
                        await self._in_thread(partial(self._disk.keep, run, snapshot))
                await self._in_thread(self._disk.let_go)
            finally:
                await self._in_thread(self._disk.settle)

    async def close(self) -> None:
        """Ends when all that was appended is on the disk."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(thread.join)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        task = _Task(work, self._loop.create_future())
        await self._put(task)
        result: Result = task.done.result()
        return result

    async def _put(self, item: _Append | _Task) -> None:
        if self._thread is None:
            raise RuntimeError("the journal is closed")
        self._queue.put(item)
        await item.done

    def _work(self) -> None:
        """The thread's: what has come while it wrote is written at once."""
        assert self._disk is not None
        more = True
        while more:
            group: list[_Append] = []
            for item in self._taken():
                if isinstance(item, _Append):
                    group.append(item)
                    continue
                self._write(group)
                group = []
                if item is None:
                    more = False
                else:
                    self._do(item)
            self._write(group)
        self._disk.close()

    def _taken(self) -> list[_Append | _Task | None]:
        """All that waits, for which it waits."""
        items = [self._queue.get()]
        while not self._queue.empty():  # nobody else takes from it
            items.append(self._queue.get())
        return items

    def _write(self, group: Sequence[_Append]) -> None:
        """Where there is no room for all of them there may be some for each: small records don't wait until there is some for a large one."""
        assert self._disk is not None
        if not group:
            return
        failure: Exception | None = None
        try:
            self._disk.write(group)
        except NoRoomError as error:
            if len(group) > 1:
                for append in group:
                    self._write([append])
                return
            failure = error
        except Exception as error:  # noqa: BLE001 - it is raised where the record came from
            failure = error
        self._answer([append.done for append in group], None, failure)

    def _do(self, task: _Task) -> None:
        result, failure = None, None
        try:
            result = task.work()
        except Exception as error:  # noqa: BLE001 - it is raised where the work was asked for
            failure = error
        self._answer([task.done], result, failure)

    def _answer(self, done: Sequence[asyncio.Future[Any]], result: Any, failure: Exception | None) -> None:
        """Wakes the event loop, once for all who wait."""
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(_resolve, done, result, failure)


class _Disk:
    """What the thread does. Everything here blocks."""

    def __init__(self, folder: Path, totals: JournalTotals) -> None:
        self._folder, self._totals = folder, totals
        self._segment: Segment | None = None
        self._number = 0  # of the newest segment
        self.nbytes = 0  # written since the last compaction
        self._beside = _Beside()
        self._snapshots: set[str] = set()
        self._changed: dict[str, int] = {}  # runs that have records after their snapshot, with the last one's index
        self._compacted: dict[str, int] = {}  # those that a compaction under way has snapshots to write of, or has written them
        self._kept = 0  # the newest segment that goes with it
        self._forgotten: set[str] = set()  # since it began

    def write(self, group: Sequence[_Append]) -> None:
        """Puts records on the disk, in one frame. Raises NoRoomError, OSError."""
        began = time.perf_counter()
        with room_for("the journal of training runs"):
            self._append(frames.frame([frames.record(append.run, append.index, append.parts) for append in group]))
        self._count(len(group), time.perf_counter() - began)
        for append in group:
            self._changed[append.run] = append.index

    def _count(self, records: int, seconds: float) -> None:
        self._totals.writes += 1
        self._totals.records += records
        self._totals.seconds += seconds

    def forget(self, run: str) -> None:
        """Said before anything is deleted: what would be left can't be read without the rest."""
        with room_for("the journal of training runs"):
            self._append(frames.frame([frames.record(run, FORGOTTEN, ())]))
        self._changed.pop(run, None)
        self._forgotten.add(run)
        self._beside.snapshots -= {run}
        self._unlink_snapshot(run)

    def _unlink_snapshot(self, run: str) -> None:
        if run in self._snapshots:
            self._snapshots.remove(run)
            with contextlib.suppress(OSError):  # the next start finds it
                self._snapshot_path(run).unlink(missing_ok=True)

    def _snapshot_path(self, run: str) -> Path:
        return self._folder / f"{SNAPSHOT}{run}"

    def rotate(self) -> list[str]:
        """Ends the segment, which goes with the compaction that begins here; returns the runs that need snapshots."""
        with room_for("a new segment of the journal of training runs"):
            self._retire()
        self._kept, self._forgotten = self._number, set()
        self._compacted, self._changed = self._changed, {}
        return list(self._compacted)

    def keep(self, run: str, snapshot: Snapshot) -> None:
        """Writes a snapshot. Raises NoRoomError, OSError."""
        if run not in self._forgotten:
            with room_for("a snapshot of the training runs"):
                files.replace(self._snapshot_path(run), frames.frame([frames.record(run, snapshot.index, [snapshot.data])]))
            self._snapshots.add(run)

    def let_go(self) -> None:
        """All snapshots are there: deletes the segments that went with the compaction. Raises NoRoomError, OSError."""
        with room_for("a new segment of the journal of training runs"):
            sync_folder(self._folder)
            beside = _Beside(self._kept + 1, frozenset(self._snapshots))
            self._append(frames.frame([beside.record()]))
            self._beside, self._compacted = beside, {}
            self._delete_old()
            self.nbytes = 0

    def settle(self) -> None:
        """The compaction is over. If it has failed, all is as it was before."""
        self._changed = {run: index for run, index in self._compacted.items() if run not in self._forgotten} | self._changed
        self._compacted = {}

    def _delete_old(self) -> None:
        for number, path in files.segments(self._folder):
            if number < self._beside.first:
                path.unlink()

    def _append(self, frame: Parts) -> None:
        if self._segment is not None and not self._segment.sound:
            self._retire()
        segment = self._segment or self._begin()
        try:
            self.nbytes += segment.append(frame)
        except OSError:
            if not segment.sound:
                with contextlib.suppress(OSError):  # then it is tried again before anything else is written
                    self._retire()
            raise

    def _retire(self) -> None:
        """Ends the segment; one without records was never there."""
        if self._segment is None:
            return
        if self._segment.empty:
            discarded, self._segment = self._segment, None  # whatever comes of it, nothing is written there any more
            discarded.discard()
            self._number -= 1
        else:
            self._segment.finish()
            self._segment = None

    def _begin(self) -> Segment:
        """A new segment."""
        path = self._folder / f"{SEGMENT}{self._number + 1:08}"
        segment = Segment(path, frames.frame([self._beside.record()]))
        try:
            sync_folder(self._folder)
        except OSError:
            segment.discard()
            raise
        self._segment = segment
        self._number += 1
        return segment

    def close(self) -> None:
        """Nothing more will come."""
        if self._segment is not None:
            self._segment.close()

    def open(self) -> Recovered:
        """Reads all there is, and cuts off what was not written whole. Raises StateError."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            return self._read()
        except OSError as error:
            raise StateError(f"the journal of training runs in {self._folder} can't be read: {error.strerror}") from error

    def _read(self) -> Recovered:
        found = self._segments_read()
        entries = [entry for _, content in found for entry in content.entries]
        self._beside = next((_beside_of(entry) for entry in reversed(entries) if entry.run == BESIDE), _Beside())
        self._number = max((number for number, _ in found), default=0)
        self._require_segments([number for number, _ in found])
        self._delete_old()
        entries = [entry for number, content in found for entry in content.entries if number >= self._beside.first]
        gone = {entry.run for entry in entries if entry.index == FORGOTTEN}
        snapshots = self._snapshots_read(gone)
        entries = [entry for entry in entries if entry.run not in gone and entry.run != BESIDE]
        later = self._after(snapshots, entries)
        self._snapshots = set(snapshots)
        self._changed = {entry.run: entry.index for entry in entries}
        self.nbytes = sum(content.end for _, content in found)
        log.info("the journal of training runs has %d records after %d snapshots", len(later), len(snapshots))
        return Recovered(snapshots, later)

    def _segments_read(self) -> list[tuple[int, Content]]:
        """The segments that have records, the oldest first. All but the newest were ended by a server that wrote the next one."""
        found = [(number, files.read(path)) for number, path in files.segments(self._folder)]
        for _, content in found[:-1]:
            content.require_whole()
        if found and not found[-1][1].whole:
            newest = found[-1][1]
            log.info("%s ends at byte %d of %d; nobody was told of what may be behind it", newest.path, newest.end, newest.nbytes)
            files.cut(newest)
        return [(number, content) for number, content in found if content.entries]

    def _require_segments(self, numbers: Sequence[int]) -> None:
        missing = set(range(self._beside.first, self._number + 1)) - set(numbers)
        if missing:
            raise StateError(f"{self._folder / f'{SEGMENT}{min(missing):08}'} is missing: {ADVICE}")

    def _snapshots_read(self, gone: set[str]) -> dict[str, Snapshot]:
        for path in self._folder.glob(f"{files.FRESH}*"):
            path.unlink()
        for run in gone:
            self._snapshot_path(run).unlink(missing_ok=True)
        found = {entry.run: Snapshot(entry.index, entry.data) for _, entry in files.snapshots(self._folder)}
        if found and not self._number:
            raise StateError(f"{self._folder} has snapshots of runs, and its segments are missing: {ADVICE}")
        missing = self._beside.snapshots - gone - found.keys()
        if missing:
            raise StateError(f"{self._snapshot_path(min(missing))} is missing: {ADVICE}")
        return found

    def _after(self, snapshots: dict[str, Snapshot], entries: Sequence[Entry]) -> list[Entry]:
        """The records after the snapshots. Raises StateError if one is missing."""
        newest = {run: snapshot.index for run, snapshot in snapshots.items()}
        found = []
        for entry in entries:
            last = newest.get(entry.run, -1)
            if entry.index > last + 1:
                raise StateError(f"the journal in {self._folder} lacks record {last + 1} of run {entry.run}: {ADVICE}")
            if entry.index == last + 1:
                newest[entry.run] = entry.index
                found.append(entry)
        return found


def _beside_of(entry: Entry) -> _Beside:
    return _Beside(entry.index, frozenset(entry.data.decode().split("\n") if entry.data else ()))


def _resolve(done: Sequence[asyncio.Future[Any]], result: Any, error: Exception | None) -> None:
    for future in done:
        if future.done():  # nobody waits for it any more
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            future.exception()  # it may be that nobody asks
