"""The files of a journal: how they are written so that they can be relied on, and read so that nothing is guessed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import frames
from .database import StateError
from .frames import BadFrameError, Entry, Parts

SEGMENT, SNAPSHOT, FRESH = "journal-", "snapshot-", "new-"
AHEAD_BYTES = 4 << 20
"""Zeros are written so far ahead: where the file need not grow, waiting for the disk takes two thirds of the time."""
MAX_BUFFERS = 512
"""Of one system call."""
ADVICE = "restore the state directory from a backup, or move its folder of runs away to start without them"


class Segment:
    """A file that grows by frames. It is ours alone, and new.

    `sound` is whether more may be appended: after a failed wait for the disk nobody knows what is on it, and the next frame goes to another file.
    """

    def __init__(self, path: Path, first: Parts, ahead: int = AHEAD_BYTES) -> None:
        """Begins with this frame. Raises OSError; then it is not there."""
        self._path, self._ahead = path, ahead
        self._fd = _create(path)
        self._mark = frames.new_mark()
        self._end = self._room = 0
        self.sound, self.empty = True, True
        try:
            self._put([frames.header(self._mark)])
            self.append(first)
        except OSError:
            self.discard()
            raise
        self.empty = True

    def append(self, frame: Parts) -> int:
        """Puts a frame on the disk; returns how many bytes it has. Raises OSError; then it is not there, or `sound` is False."""
        return self._put([self._mark, *frame])

    def _put(self, parts: Parts) -> int:
        nbytes = sum(len(part) for part in parts)
        self.sound = False
        try:
            if self._end + nbytes > self._room:
                self._grow(nbytes)
            _write(self._fd, parts, self._end)
        except OSError:
            self._cut()
            self.sound = True
            raise
        os.fdatasync(self._fd)
        self._end += nbytes
        self.sound, self.empty = True, False
        return nbytes

    def _grow(self, nbytes: int) -> None:
        """Writes zeros ahead of a frame that has no room; one that is longer than they are grows the file itself, and so does each on a full disk."""
        if nbytes < self._ahead:
            try:
                _write(self._fd, [bytes(self._ahead)], self._end)
                self._room = self._end + self._ahead
            except OSError:
                self._ahead = 0
                self._cut()

    def _cut(self) -> None:
        os.ftruncate(self._fd, self._end)
        self._room = self._end

    def finish(self) -> None:
        """Nothing more will come: puts on the disk that it ends here. Raises OSError; then this is still to be done."""
        self._cut()
        os.fsync(self._fd)
        os.close(self._fd)

    def close(self) -> None:
        """As `finish`, but who reads it next finds out where it ends."""
        with contextlib.suppress(OSError):
            self._cut()
        os.close(self._fd)

    def discard(self) -> None:
        """Deletes it, and closes it whatever comes of that. Raises OSError; then it is still there, without records."""
        try:
            self._path.unlink()
        except OSError:
            with contextlib.suppress(OSError):
                self._cut()
            raise
        finally:
            os.close(self._fd)


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write(fd: int, parts: Parts, place: int) -> None:
    """Writes parts at a place, one after the other. Raises OSError."""
    left = [part for part in parts if len(part)]
    while left:
        done = os.pwritev(fd, left[:MAX_BUFFERS], place)
        place += done
        whole = 0
        while whole < len(left) and done >= len(left[whole]):
            done -= len(left[whole])
            whole += 1
        del left[:whole]
        if done:
            left[0] = memoryview(left[0])[done:]


def replace(path: Path, frame: Parts) -> None:
    """Makes a file of one frame, whole or not at all; its name is on the disk with that of the folder. Raises OSError."""
    fresh = path.with_name(f"{FRESH}{path.name}")
    fresh.unlink(missing_ok=True)
    mark = frames.new_mark()
    fd = _create(fresh)
    try:
        _write(fd, [frames.header(mark), mark, *frame], 0)
        os.fdatasync(fd)
    except OSError:
        fresh.unlink()  # it would take the room that others need
        raise
    finally:
        os.close(fd)
    fresh.replace(path)


@dataclass(frozen=True)
class Content:
    """The records of a file, and where the last whole frame ends."""

    path: Path
    entries: list[Entry]
    end: int
    nbytes: int

    @property
    def whole(self) -> bool:
        """Whether it has frames, all of them whole, and nothing else."""
        return bool(self.entries) and self.end == self.nbytes

    def require_whole(self) -> None:
        """Raises StateError."""
        if not self.whole:
            raise damaged(self.path, self.end)


def damaged(path: Path, offset: int) -> StateError:
    """The error for a file that has other bytes than were written."""
    return StateError(f"{path} is damaged at byte {offset:,}: {ADVICE}")


def read(path: Path) -> Content:
    """What a file holds up to where it was written. Raises StateError if more was written than can be read, OSError."""
    data = memoryview(path.read_bytes())
    mark = frames.mark_of(data)
    if mark is None:
        _require_unbegun(path, data)
        return Content(path, [], 0, len(data))
    found: list[Entry] = []
    end = frames.HEADER_BYTES
    try:
        for stop, entries in frames.entries(data, mark):
            found += entries
            end = stop
    except BadFrameError as error:
        if frames.has_frame_after(data, error.offset, mark):
            raise damaged(path, error.offset) from error
    return Content(path, found, end, len(data))


def _require_unbegun(path: Path, data: memoryview) -> None:
    """Of a file without header: behind it there are zeros at most, so no frame was begun. Raises StateError."""
    if not bytes(data[frames.HEADER_BYTES :]).strip(b"\0"):
        return
    if any(data[: frames.HEADER_BYTES]):
        raise StateError(f"{path} is no journal that this server knows: use the sumgrad that wrote it; or, if it is damaged, {ADVICE}")
    raise damaged(path, 0)


def cut(content: Content) -> None:
    """Cuts off what is behind the last whole frame; a file without any goes. Raises OSError."""
    if not content.entries:
        content.path.unlink()
        return
    with content.path.open("r+b", buffering=0) as file:
        file.truncate(content.end)
        os.fsync(file.fileno())


def segments(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and paths, the oldest first."""
    return sorted((int(number), path) for number, path in _named(folder, SEGMENT) if number.isdecimal())


def snapshots(folder: Path) -> Iterator[tuple[Path, Entry]]:
    """Each whole snapshot, by its file. Raises StateError."""
    for name, path in _named(folder, SNAPSHOT):
        content = read(path)
        content.require_whole()
        if len(content.entries) != 1 or content.entries[0].run != name:
            raise damaged(path, frames.HEADER_BYTES)
        yield path, content.entries[0]


def _named(folder: Path, prefix: str) -> list[tuple[str, Path]]:
    return [(path.name.removeprefix(prefix), path) for path in folder.glob(f"{prefix}*")]
