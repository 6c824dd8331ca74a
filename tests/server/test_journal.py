"""The journal of training runs: what was acknowledged is there again, whatever happens between two bytes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sumgrad_server.faults import NoRoomError
from sumgrad_server.store import frames, segments
from sumgrad_server.store.database import StateError
from sumgrad_server.store.journal import Journal, Recovered, Snapshot
from sumgrad_tests.mounts import needs_mounts, with_mount

Result = TypeVar("Result")
PAGE = 4096


class Book:
    """Runs that are lists of what was appended, in a journal and here."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.journal = Journal(folder, **options)
        self.runs: dict[str, list[str]] = {}
        self.gone: set[str] = set()

    async def open(self) -> Book:
        self.runs = contents(await self.journal.open())
        return self

    async def append(self, run: str, text: str) -> None:
        known = self.runs.get(run, [])
        await self.journal.append(run, len(known), [text.encode()])
        self.runs[run] = [*known, text]

    async def forget(self, run: str) -> None:
        await self.journal.forget(run)
        self.runs.pop(run, None)
        self.gone.add(run)

    async def take(self, run: str) -> Snapshot | None:
        known = self.runs.get(run)
        return None if known is None else Snapshot(len(known) - 1, json.dumps(known).encode())

    async def compact(self) -> None:
        await self.journal.compact(self.take)

    async def close(self) -> None:
        await self.journal.close()


def contents(recovered: Recovered) -> dict[str, list[str]]:
    """What the runs are."""
    runs = {run: json.loads(snapshot.data) for run, snapshot in recovered.snapshots.items()}
    assert all(len(runs[run]) == snapshot.index + 1 for run, snapshot in recovered.snapshots.items())
    for entry in recovered.records:
        known = runs.setdefault(entry.run, [])
        assert entry.index == len(known)
        known.append(entry.data.decode())
    return runs


def with_book(folder: Path, what: Callable[[Book], Awaitable[Result]], **options: Any) -> Result:
    """What comes of something done with a book that is open."""

    async def run() -> Result:
        book = await Book(folder, **options).open()
        try:
            return await what(book)
        finally:
            await book.close()

    return asyncio.run(run())


def found(folder: Path) -> dict[str, list[str]]:
    """The runs that a folder holds."""

    async def runs(book: Book) -> dict[str, list[str]]:
        return book.runs

    return with_book(folder, runs)


def filled(folder: Path, *texts: str) -> None:
    """Appends these to run r, each in a frame of its own."""

    async def fill(book: Book) -> None:
        for text in texts:
            await book.append("r", text)

    with_book(folder, fill)


def only(folder: Path, pattern: str = "journal-*") -> Path:
    """The one file of this name."""
    (path,) = folder.glob(pattern)
    return path


def ends(path: Path) -> list[int]:
    """Where the frames of a file end."""
    data = memoryview(path.read_bytes())
    return [end for end, _ in frames.entries(data, frames.mark_of(data) or b"")]


def changed(folder: Path, path: Path, data: bytes, name: str = "changed") -> Path:
    """A copy of a folder, one file of which has other bytes."""
    copy = folder.with_name(name)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    (copy / path.name).write_bytes(data)
    return copy


def flipped(data: bytes, place: int) -> bytes:
    """These bytes, one of them changed."""
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


@pytest.mark.parametrize("sizes", [(10,), (3000, 0, 17), (5 << 20, 1), (7,) * 2000], ids=["small", "three", "large", "many parts"])
def test_what_was_appended_is_there_again(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    """Records come back with their bytes, however large they are and in however many parts."""
    parts = [memoryview(bytes([position % 251]) * size) for position, size in enumerate(sizes)]

    async def run() -> list[tuple[str, int, bytes]]:
        journal = Journal(tmp_path)
        await journal.open()
        for index in range(3):
            await journal.append("r", index, parts)
        await journal.close()
        again = Journal(tmp_path)
        records = (await again.open()).records
        await again.close()
        return [(entry.run, entry.index, entry.data) for entry in records]

    assert asyncio.run(run()) == [("r", index, b"".join(parts)) for index in range(3)]


def test_files_are_ours_alone(tmp_path: Path) -> None:
    """Nobody else can read the folder and its files."""
    folder = tmp_path / "runs"

    async def fill(book: Book) -> None:
        await book.append("r", "one")
        await book.compact()

    with_book(folder, fill)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_journal_without_folder_keeps_nothing() -> None:
    """Without a state directory all calls succeed at once."""

    async def run() -> bool:
        journal = Journal(None)
        assert await journal.open() == Recovered()
        await journal.append("r", 0, [b"x"])
        await journal.forget("r")
        full = journal.full
        await journal.close()
        return full

    assert not asyncio.run(run())


def test_what_comes_while_the_disk_works_shares_the_next_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty records that come while one is on its way to the disk take one wait for it together."""
    begun, go_on = threading.Event(), threading.Event()
    waits: list[int] = []
    wait = os.fdatasync

    def counted(fd: int) -> None:
        waits.append(fd)
        begun.set()
        go_on.wait()
        wait(fd)

    async def run(book: Book) -> int:
        await book.append("first", "begins the segment")
        monkeypatch.setattr(os, "fdatasync", counted)
        tasks = [asyncio.create_task(book.append("slow", "a"))]
        await asyncio.to_thread(begun.wait)
        tasks += [asyncio.create_task(book.append(f"r{number}", "b")) for number in range(50)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        go_on.set()
        await asyncio.gather(*tasks)
        return len(waits)

    assert with_book(tmp_path, run) == 2
    monkeypatch.undo()
    assert len(found(tmp_path)) == 52


def test_a_caller_who_is_cancelled_breaks_nothing(tmp_path: Path) -> None:
    """A record whose caller has gone away is written whole; the next one follows."""

    async def run(book: Book) -> None:
        task = asyncio.create_task(book.journal.append("r", 0, [b"one"]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await book.journal.append("r", 1, [b"two"])

    with_book(tmp_path, run)
    assert found(tmp_path) == {"r": ["one", "two"]}


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    """Nobody waits for ever for a journal that is closed."""

    async def run() -> None:
        book = await Book(tmp_path).open()
        await book.close()
        with pytest.raises(RuntimeError, match="closed"):
            await book.append("r", "late")

    asyncio.run(run())


def test_every_prefix_of_the_bytes_gives_a_prefix_of_the_records(tmp_path: Path) -> None:
    """Wherever the file breaks off, all whole frames count and nothing else does."""
    folder, texts = tmp_path / "runs", ["one", "two " * 9, "3", "four"]
    filled(folder, *texts)
    path = only(folder)
    data, whole = path.read_bytes(), ends(path)[1:]  # the first says what is beside it
    for length in range(len(data) + 1):
        expected = texts[: sum(end <= length for end in whole)]
        assert found(changed(folder, path, data[:length])).get("r", []) == expected, length


@pytest.mark.parametrize("zeros", [0, PAGE])
@pytest.mark.parametrize("length", [0, 1, len(frames.KIND), frames.HEADER_BYTES])
def test_a_segment_that_was_hardly_begun_is_begun_anew(tmp_path: Path, length: int, zeros: int) -> None:
    """What a server leaves that ends before the first frame of a segment is there is in nobody's way."""
    folder = tmp_path / "runs"
    filled(folder, "one")
    filled(folder, "two")
    path = max(folder.glob("journal-*"))
    copy = changed(folder, path, path.read_bytes()[:length] + bytes(zeros))
    filled(copy, "next")
    assert found(copy) == {"r": ["one", "next"]}


@pytest.mark.parametrize("zeros", [0, 100, 20_000])
def test_a_last_frame_that_is_not_what_was_written_does_not_count(tmp_path: Path, zeros: int) -> None:
    """Any changed byte of the last frame, with zeros behind it or not, voids that frame alone; the next server goes on from there."""
    folder = tmp_path / "runs"
    filled(folder, "one", "two", "three")
    path = only(folder)
    data, start = path.read_bytes(), ends(path)[-2]
    for place in range(start, len(data)):
        copy = changed(folder, path, flipped(data, place) + bytes(zeros))
        assert found(copy) == {"r": ["one", "two"]}, place
        filled(copy, "next")
        assert found(copy) == {"r": ["one", "two", "next"]}


def test_pages_of_the_last_frame_that_never_arrived(tmp_path: Path) -> None:
    """Whichever pages of the last frame are missing, in space that was zeros before, it does not count; the frames before do."""
    folder, long = tmp_path / "runs", "x" * (4 * PAGE)
    filled(folder, "one", long)
    path = only(folder)
    data, start = path.read_bytes(), ends(path)[-2]
    first = start // PAGE
    pages = range(first, len(data) // PAGE + 1)
    for arrived in itertools.product([False, True], repeat=len(pages)):
        torn = bytearray(data + bytes(PAGE))
        for page, there in zip(pages, arrived, strict=True):
            if not there:
                low = max(start, page * PAGE)
                torn[low : (page + 1) * PAGE] = bytes((page + 1) * PAGE - low)
        expected = ["one", long] if all(arrived) else ["one"]
        assert found(changed(folder, path, bytes(torn))) == {"r": expected}, arrived


def test_a_changed_byte_before_the_last_frame_is_damage(tmp_path: Path) -> None:
    """No byte that an acknowledged record follows can change unnoticed: the file and the place are named, and what to do."""
    folder = tmp_path / "runs"
    filled(folder, "one", "two", "three")
    path = only(folder)
    data, stops = path.read_bytes(), ends(path)
    for place in range(stops[-2]):
        copy = changed(folder, path, flipped(data, place))
        with pytest.raises(StateError, match="restore the state directory") as refused:
            found(copy)
        assert str(copy / path.name) in str(refused.value)
        if place >= frames.HEADER_BYTES:
            offset = max(end for end in (frames.HEADER_BYTES, *stops) if end <= place)
            assert f"byte {offset:,}:" in str(refused.value)


def test_zeros_that_a_frame_follows_are_damage(tmp_path: Path) -> None:
    """Zeros end a file only if nothing comes behind them."""
    folder = tmp_path / "runs"
    filled(folder, "one", "two", "three")
    path = only(folder)
    data, stops = path.read_bytes(), [0, frames.HEADER_BYTES, *ends(path)]
    for start, stop in itertools.pairwise(stops[:-1]):
        with pytest.raises(StateError, match="damaged"):
            found(changed(folder, path, data[:start] + bytes(stop - start) + data[stop:]))


def test_the_end_of_an_older_segment_is_no_torn_frame(tmp_path: Path) -> None:
    """Only the newest segment can end with a frame that nobody was told of."""
    folder = tmp_path / "runs"
    filled(folder, "one", "two")
    path = only(folder)
    filled(folder, "three")
    data = path.read_bytes()
    for wrong in (data[:-1], flipped(data, len(data) - 1), data + bytes(5)):
        with pytest.raises(StateError, match="damaged"):
            found(changed(folder, path, wrong))


def test_what_looks_like_a_frame_is_data(tmp_path: Path) -> None:
    """Members choose the numbers that are written: frames among them, of this format and of other files, make no torn end a damaged file."""
    other, folder = tmp_path / "other", tmp_path / "runs"
    filled(other, "one", "two")
    theirs = only(other).read_bytes()
    made = b"".join(bytes(part) for part in frames.frame([frames.record("r", 7, [b"evil"])]))
    marks = (bytes(frames.MARK_BYTES), frames.new_mark(), frames.mark_of(memoryview(theirs)) or b"")
    evil = b"".join([theirs, *(mark + made for mark in marks)])

    async def fill(book: Book) -> None:
        await book.append("r", "one")
        await book.journal.append("r", 1, [evil, bytes(1000)])

    with_book(folder, fill)
    path = only(folder)
    data = path.read_bytes()
    for stop in range(ends(path)[-2], len(data), 50):
        assert found(changed(folder, path, data[:stop])) == {"r": ["one"]}


def test_a_file_that_has_lost_its_beginning_is_damage(tmp_path: Path) -> None:
    """Zeros where the header was, and the first frame with it, are no new file if there is more."""
    folder = tmp_path / "runs"
    filled(folder, "one", "two")
    path = only(folder)
    data, stops = path.read_bytes(), ends(path)
    for stop in (frames.HEADER_BYTES, stops[0], stops[1]):
        with pytest.raises(StateError, match="damaged at byte 0"):
            found(changed(folder, path, bytes(stop) + data[stop:]))


def test_pages_of_a_new_segment_that_never_arrived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever pages a failing power leaves of a segment that is being begun, with so many runs that its first frame is long, nothing else is refused."""
    folder, many = tmp_path / "runs", {f"run{number:04}": ["one"] for number in range(1000)}

    async def fill(book: Book) -> None:
        await asyncio.gather(*(book.append(run, "one") for run in many))
        await book.compact()

    with_book(folder, fill)
    waits: list[tuple[str, bytes]] = []  # the file that somebody waited for, as it was to be
    wait = os.fdatasync

    def watched(fd: int) -> None:
        waits.append((os.readlink(f"/proc/self/fd/{fd}"), os.pread(fd, 4 * PAGE, 0)))
        wait(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", watched)
        filled(folder, "two")
    path = Path(waits[0][0])
    path.unlink()
    before = bytes(4 * PAGE)
    for number, (name, after) in enumerate(waits[:-1]):  # the last one's is told of
        assert name == str(path)
        for arrived in itertools.product([False, True], repeat=4):
            pages = [(after if there else before)[page * PAGE : (page + 1) * PAGE] for page, there in enumerate(arrived)]
            assert found(changed(folder, path, b"".join(pages))) == many, (number, arrived)
        before = after


def test_another_version_is_refused(tmp_path: Path) -> None:
    """A journal of a later version is not read as one of this version."""
    folder = tmp_path / "runs"
    filled(folder, "one")
    path = only(folder)
    with pytest.raises(StateError, match="use the sumgrad that wrote it"):
        found(changed(folder, path, frames.KIND[:8] + (2).to_bytes(4, "little") + path.read_bytes()[12:]))


def compacted(folder: Path) -> None:
    """A folder with two snapshots, and two segments behind them."""

    async def fill(book: Book) -> None:
        for run in ("r", "s"):
            await book.append(run, "one")
        await book.compact()
        await book.append("r", "two")

    with_book(folder, fill)
    filled(folder, "three")


def test_each_file_is_missed(tmp_path: Path) -> None:
    """A segment or a snapshot that was deleted is named; the newest segment alone can't be missed, and ends a run that goes on with damage too."""
    folder = tmp_path / "runs"
    compacted(folder)
    assert found(folder) == {"r": ["one", "two", "three"], "s": ["one"]}
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["journal-00000002", "journal-00000003", "snapshot-r", "snapshot-s"]
    for name in (names[0], *names[2:]):
        copy = changed(folder, folder / name, b"")
        (copy / name).unlink()
        with pytest.raises(StateError, match=f"{name} is missing"):
            found(copy)
    for name in names[:2]:
        (folder / name).unlink()
    with pytest.raises(StateError, match="segments are missing"):
        found(folder)


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    """No byte of a snapshot can change or be missing unnoticed."""
    folder = tmp_path / "runs"
    compacted(folder)
    path = folder / "snapshot-s"
    data = path.read_bytes()
    wrongs = [flipped(data, place) for place in range(len(data))] + [data[:length] for length in range(len(data))] + [data + b"\0"]
    for wrong in wrongs:
        with pytest.raises(StateError, match="snapshot-s"):
            found(changed(folder, path, wrong))
    with pytest.raises(StateError, match="snapshot-s is damaged"):
        found(changed(folder, path, (folder / "snapshot-r").read_bytes()))


def test_a_run_that_is_forgotten_stays_so(tmp_path: Path) -> None:
    """A run that was forgotten is gone, with its snapshot, at the next start and after further compactions; others are not."""

    async def fill(book: Book) -> None:
        for run in ("r", "s", "t"):
            await book.append(run, "one")
        await book.compact()
        await book.append("r", "two")
        await book.forget("r")
        assert not (tmp_path / "snapshot-r").exists()
        await book.append("s", "two")

    with_book(tmp_path, fill)
    for _ in range(3):
        assert found(tmp_path) == {"s": ["one", "two"], "t": ["one"]}
        with_book(tmp_path, Book.compact)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal-00000005", "snapshot-s", "snapshot-t"]


def blocks(folder: Path) -> int:
    """How many bytes of the disk it takes."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def test_compaction_bounds_the_folder(tmp_path: Path) -> None:
    """With a compaction whenever the journal is full, the folder does not grow with the number of records."""
    text = "x" * 10_000

    async def run(book: Book) -> int:
        most = 0
        for _ in range(100):
            await book.journal.append("r", len(book.runs.setdefault("r", [])), [text.encode()])
            book.runs["r"].append("")
            if book.journal.full:
                await book.compact()
                assert not book.journal.full
            most = max(most, blocks(tmp_path))
        return most

    assert with_book(tmp_path, run, segment_bytes=100_000) < segments.AHEAD_BYTES * 2 + 200_000
    assert len(found(tmp_path)["r"]) == 100


class Recorder:
    """Copies a folder before each thing that is done to a file: as it is, and as little of it as the disk must have kept if the power fails.

    What it must keep: the content of a file as it was when somebody waited for it, and the names in the folder when somebody waited for that.
    """

    def __init__(self, folder: Path, copies: Path, book: Book) -> None:
        self._folder, self._copies, self._book = folder, copies, book
        self._content: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._held: list[int] = []  # so that no inode is used again
        self.states: list[tuple[Path, dict[str, list[str]], set[str], str]] = []

    @contextlib.contextmanager
    def watching(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with monkeypatch.context() as patch:
            for owner, name in ((os, "pwritev"), (os, "ftruncate"), (os, "fdatasync"), (os, "fsync"), (Path, "replace"), (Path, "unlink")):
                patch.setattr(owner, name, self._watched(name, getattr(owner, name)))
            yield
        self._copy("the end")
        for fd in self._held:
            os.close(fd)

    def _watched(self, name: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._copy(name)
            result = does(*args, **kwargs)
            if name in ("fdatasync", "fsync"):
                self._synced(args[0])
            return result

        return call

    def _synced(self, fd: int) -> None:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            self._names = {path.name: path.stat().st_ino for path in self._folder.iterdir()}
        else:
            self._content[found.st_ino] = os.pread(fd, found.st_size, 0)
            self._held.append(os.dup(fd))

    def _copy(self, what: str) -> None:
        acknowledged, gone = {run: list(texts) for run, texts in self._book.runs.items()}, set(self._book.gone)
        killed = self._copies / f"{len(self.states)}"
        shutil.copytree(self._folder, killed)
        self.states.append((killed, acknowledged, gone, what))
        failed = self._copies / f"{len(self.states)}"
        failed.mkdir()
        for name, inode in self._names.items():
            (failed / name).write_bytes(self._content.get(inode, b""))
        self.states.append((failed, acknowledged, gone, what))

    def check(self, forgetting: str = "") -> None:
        """Each copy has what was acknowledged when it was made, and at most one record more of each run."""
        for folder, acknowledged, gone, what in self.states:
            runs = found(folder)
            assert not gone & runs.keys(), (folder, what)
            for run, texts in acknowledged.items():
                if run == forgetting and run not in runs:
                    continue
                assert runs[run][: len(texts)] == texts, (folder, what)
                assert len(runs[run]) <= len(texts) + 1, (folder, what)


def test_nothing_is_lost_wherever_a_compaction_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed, or a machine whose power fails, before any step of appends and two compactions loses no acknowledged record."""
    monkeypatch.setattr(segments.Segment.__init__, "__defaults__", (1 << 12,))
    folder = tmp_path / "runs"
    (tmp_path / "copies").mkdir()

    async def run(book: Book) -> Recorder:
        recorder = Recorder(folder, tmp_path / "copies", book)

        async def busy(name: str) -> Snapshot | None:
            await book.append("s", f"during the snapshot of {name}")
            snapshot = await book.take(name)
            await book.append(name, "between")
            return snapshot

        with recorder.watching(monkeypatch):
            for text in ("one", "two"):
                await book.append("r", text)
                await book.append("s", text)
            await book.journal.compact(busy)
            await book.append("r", "three")
            await book.append("new", "one")
            await book.journal.compact(busy)
            await book.append("new", "last")
        return recorder

    recorder = with_book(folder, run)
    assert len(recorder.states) > 60
    recorder.check()


def test_nothing_is_lost_wherever_forgetting_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any step of forgetting one run, and of the compaction behind it, that run is there or not, and the others are."""
    monkeypatch.setattr(segments.Segment.__init__, "__defaults__", (1 << 12,))
    folder = tmp_path / "runs"
    (tmp_path / "copies").mkdir()

    async def run(book: Book) -> Recorder:
        recorder = Recorder(folder, tmp_path / "copies", book)
        with recorder.watching(monkeypatch):
            await book.append("r", "one")
            await book.append("s", "one")
            await book.compact()
            await book.append("r", "two")
            await book.forget("r")
            await book.append("s", "two")
            await book.compact()
            await book.append("s", "three")
            await book.compact()
        return recorder

    recorder = with_book(folder, run)
    recorder.check(forgetting="r")
    assert "r" not in found(recorder.states[-1][0])


def test_a_run_that_is_forgotten_during_a_compaction_does_not_come_back(tmp_path: Path) -> None:
    """Forgotten before its snapshot is written, after it was taken, or after it was written: it is gone."""

    async def fill(book: Book) -> None:
        for run in ("a", "b", "c"):
            await book.append(run, "one")

        async def take(run: str) -> Snapshot | None:
            snapshot = await book.take(run)
            if run == "b":
                for gone in ("a", "b", "c"):
                    await book.forget(gone)
            return snapshot

        await book.journal.compact(take)
        await book.append("d", "one")
        await book.compact()

    with_book(tmp_path, fill)
    assert found(tmp_path) == {"d": ["one"]}


class Failing:
    """A call of the system that fails when it is told to."""

    def __init__(self, does: Callable[..., Any], number: int) -> None:
        self._does, self._number = does, number
        self.fails = False

    def __call__(self, *args: Any) -> Any:
        if self.fails:
            raise OSError(self._number, os.strerror(self._number))
        return self._does(*args)


def test_after_a_failed_wait_for_the_disk_the_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be brought to the disk is not there; what follows goes to another segment, and nothing is lost."""
    wait = Failing(os.fdatasync, errno.EIO)
    monkeypatch.setattr(os, "fdatasync", wait)

    async def run(book: Book) -> None:
        await book.append("r", "one")
        for _ in range(3):
            wait.fails = True
            with pytest.raises(OSError, match="Input/output error"):
                await book.append("r", "lost")
            wait.fails = False
        await book.append("r", "two")

    with_book(tmp_path, run)
    assert found(tmp_path) == {"r": ["one", "two"]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal-00000001", "journal-00000002"]


def test_a_segment_that_cannot_be_deleted_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One without records is let go by each compaction: if that fails, what is appended goes to another one, and nothing is in the way of a start."""
    unlink = Failing(os.unlink, errno.EIO)

    def delete(path: Path, missing_ok: bool = False) -> None:
        with contextlib.suppress(*([FileNotFoundError] if missing_ok else [])):
            unlink(path)

    monkeypatch.setattr(Path, "unlink", delete)

    async def run(book: Book) -> None:
        await book.append("r", "one")
        await book.compact()
        unlink.fails = True
        with pytest.raises(OSError, match="Input/output error"):
            await book.compact()
        await book.append("r", "two")
        unlink.fails = False
        await book.append("r", "three")

    with_book(tmp_path, run)
    assert found(tmp_path) == {"r": ["one", "two", "three"]}


def test_a_compaction_that_fails_has_done_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no room for a snapshot all is as before, what is appended meanwhile is kept, and the next compaction succeeds."""
    rename = Failing(os.rename, errno.EDQUOT)

    def replace(path: Path, target: Path) -> None:
        rename(path, target)

    monkeypatch.setattr(Path, "replace", replace)

    async def run(book: Book) -> None:
        await book.append("r", "one")
        rename.fails = True
        for text in ("two", "three"):
            with pytest.raises(NoRoomError, match="quota"):
                await book.compact()
            await book.append("r", text)
        rename.fails = False
        await book.compact()

    with_book(tmp_path, run)
    assert found(tmp_path) == {"r": ["one", "two", "three"]}
    assert len(list(tmp_path.glob("journal-*"))) == 1


def test_a_snapshot_that_finds_no_room_takes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of it is deleted."""
    write = Failing(os.pwritev, errno.ENOSPC)
    monkeypatch.setattr(os, "pwritev", write)

    async def run(book: Book) -> None:
        await book.append("r", "one")

        async def take(run: str) -> Snapshot | None:
            write.fails = True
            return await book.take(run)

        with pytest.raises(NoRoomError):
            await book.journal.compact(take)
        assert os.listdir(tmp_path) == ["journal-00000001"]
        write.fails = False
        await book.append("r", "two")

    with_book(tmp_path, run)
    assert found(tmp_path) == {"r": ["one", "two"]}


def test_small_records_don_t_wait_for_room_for_large_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes at once is written at once, but where there is no room for all of it each is tried alone."""
    real = segments._write

    def narrow(fd: int, parts: Any, place: int) -> None:
        if sum(len(part) for part in parts if bytes(part[:64]).strip(b"\0")) > 10 * PAGE:
            raise OSError(errno.ENOSPC, "no room")
        real(fd, parts, place)

    async def run(book: Book) -> None:
        for name in "abc":
            await book.append(name, "one")
        monkeypatch.setattr(segments, "_write", narrow)
        texts = {"a": "two", "b": "x" * 20 * PAGE, "c": "two"}
        told = await asyncio.gather(*(book.append(name, text) for name, text in texts.items()), return_exceptions=True)
        assert [type(answer) for answer in told] == [type(None), NoRoomError, type(None)]
        monkeypatch.setattr(segments, "_write", real)
        await book.append("b", "two")

    with_book(tmp_path, run)
    assert found(tmp_path) == {name: ["one", "two"] for name in "abc"}


FULL = """
import asyncio, contextlib, os, sys
from pathlib import Path
from sumgrad_server.faults import NoRoomError
from sumgrad_server.store.journal import Journal

async def main(folder):
    journal, kept, refused = Journal(folder), 0, 0
    await journal.open()
    data = [os.urandom(1000), memoryview(os.urandom(30_000))]
    async def take(run):
        raise AssertionError("there is nothing to compact")
    for turn in range(3):
        filler = folder.parent / "filler"
        if turn != 1:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(50_000)): pass
        while True:
            try:
                await journal.append("r", kept, data)
                kept += 1
            except NoRoomError as error:
                assert "journal of training runs" in str(error), error
                break
        for _ in range(20):
            with contextlib.suppress(NoRoomError):
                await journal.append("r", kept, data)
                kept += 1
                raise AssertionError("there is room")
        assert len(list(folder.iterdir())) <= 1 + turn, list(folder.iterdir())
        filler.unlink(missing_ok=True)
    await journal.close()
    again = Journal(folder)
    found = (await again.open()).records
    await again.close()
    assert [entry.index for entry in found] == list(range(kept)), (kept, len(found))
    assert all(entry.data == b"".join(data) for entry in found)
    print(kept)

folder = Path(sys.argv[1]) / "runs"
asyncio.run(main(folder))
"""


@needs_mounts
def test_full_disk(tmp_path: Path) -> None:
    """Where the disk is full, records are refused, and each that was not is there; when there is room again, more are taken, in the same file."""
    command = [*with_mount(tmp_path, 3 << 20), sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """Where the size of files is limited below a segment's, the limit is named, and what was acknowledged is there."""
    done = subprocess.run(["prlimit", f"--fsize={1 << 20}", sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 30 < int(done.stdout) < 40


WRITING = """
import asyncio, sys
from pathlib import Path
from sumgrad_server.store.journal import Journal, Snapshot

async def write(journal, run):
    for index in range(1_000_000):
        await journal.append(run, index, [b"%s %d" % (run.encode(), index), bytes(500)])
        indices[run] = index
        print(run, index, flush=True)

async def compact(journal):
    async def take(run):
        return Snapshot(indices[run], b"")
    while True:
        await asyncio.sleep(0)
        if journal.full:
            await journal.compact(take)

async def main():
    journal = Journal(Path(sys.argv[1]), segment_bytes=20_000)
    await journal.open()
    await asyncio.gather(compact(journal), *(write(journal, run) for run in "abc"))

indices = {}
asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [5, 300, 1001])
def test_a_server_that_is_killed_loses_nothing(tmp_path: Path, lines: int) -> None:
    """A process that appends and compacts all the time is killed with SIGKILL: whatever it has told is there."""
    with subprocess.Popen([sys.executable, "-c", WRITING, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        said += child.stdout.read().splitlines(keepends=True)
    told = {}
    for run, index in (line.split() for line in said if line.endswith("\n")):
        told[run] = int(index)

    async def run() -> dict[str, int]:
        journal = Journal(tmp_path)
        recovered = await journal.open()
        await journal.close()
        last = {name: snapshot.index for name, snapshot in recovered.snapshots.items()}
        return last | {entry.run: entry.index for entry in recovered.records}

    last = asyncio.run(run())
    assert told.keys() == set("abc")
    assert all(told[name] <= last[name] <= told[name] + 1 for name in told), (told, last)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from("abc"), st.text(max_size=9)),
        st.tuples(st.just("forget"), st.sampled_from("abc"), st.none()),
        st.tuples(st.sampled_from(["compact", "close", "kill"]), st.none(), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=30)
@given(steps=STEPS)
def test_any_history_is_what_a_dictionary_makes_of_it(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """Appends, forgotten runs, compactions, ends and kills in any order: the runs are what they would be in memory."""
    folder = tmp_path_factory.mktemp("runs")
    runs: dict[str, list[str]] = {}
    again: dict[str, int] = {}  # a run that was forgotten never comes back under the same id

    def name(letter: str) -> str:
        return f"{letter}{again.get(letter, 0)}"

    async def walk() -> None:
        book = await Book(folder).open()
        for what, letter, text in steps:
            if what == "append":
                await book.append(name(letter), text)
                runs.setdefault(name(letter), []).append(text)
            elif what == "forget":
                await book.forget(name(letter))
                runs.pop(name(letter), None)
                again[letter] = again.get(letter, 0) + 1
            elif what == "compact":
                await book.compact()
            else:
                if what == "close":
                    await book.close()
                else:  # another one finds what a killed one has left: the file is as it is, with zeros at its end
                    copy = folder.with_name(f"{folder.name}-copy")
                    shutil.copytree(folder, copy)
                    await book.close()
                    shutil.rmtree(folder)
                    copy.rename(folder)
                book = await Book(folder).open()
            assert book.runs == runs
        await book.close()

    asyncio.run(walk())
    assert found(folder) == runs
    shutil.rmtree(folder)
