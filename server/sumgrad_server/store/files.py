"""The files of columns: named by what they hold in a state directory, or without one, unnamed and gone with the process.

Everything here blocks, and is called from threads. Errors of the system come out as they are: room.py translates them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Protocol
from weakref import WeakValueDictionary

from ..faults import DamagedError, NoRoomError
from ..resident import ColumnFile
from .directory import sync_folder

OPEN_PARTS = 32
"""Files that one upload keeps open, where they have names."""


class Parts(Protocol):
    """What has come of the columns of one upload, a file each, by their number."""

    def fd(self, number: int) -> int:
        """A descriptor to write to, valid until the next call here."""

    def sizes(self, count: int) -> list[int]:
        """Bytes that there are of each of so many columns."""

    def flush(self, number: int) -> None:
        """Puts what was written of one of them on the disk."""

    def sync(self) -> None:
        """Puts all of them on the disk, and their names."""

    def close(self) -> None:
        """Closes what can be opened again."""

    def remove(self) -> None:
        """Deletes them."""


class Files(Protocol):
    """Files of columns by the SHA-256 of their bytes, and of uploads by the name of their folder."""

    def parts(self, folder: str) -> Parts:
        """The files of an upload, new or not."""

    def adopt(self, parts: Parts, number: int, sha256: str) -> None:
        """Makes a column of an upload's file, which was checked."""

    def settle(self) -> None:
        """Puts on the disk what was adopted."""

    def open(self, sha256: str, nbytes: int) -> ColumnFile:
        """A column's file, whose content is checked the first time. Raises DamagedError."""

    def remove(self, columns: Collection[str]) -> None:
        """Deletes columns. Whoever has them open keeps them."""

    def clean(self, folders: Collection[str], columns: Collection[str]) -> None:
        """Deletes all but these."""


class _NamedParts:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fds: OrderedDict[int, int] = OrderedDict()

    def fd(self, number: int) -> int:
        found = self._fds.get(number)
        if found is None:
            while len(self._fds) >= OPEN_PARTS:
                os.close(self._fds.popitem(last=False)[1])
            self._folder.mkdir(mode=0o700, exist_ok=True)
            found = self._fds[number] = os.open(self.path(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._fds.move_to_end(number)
        return found

    def path(self, number: int) -> Path:
        return self._folder / str(number)

    def sizes(self, count: int) -> list[int]:
        return [self.path(number).stat().st_size if self.path(number).exists() else 0 for number in range(count)]

    def flush(self, number: int) -> None:
        _sync_file(self.path(number))

    def sync(self) -> None:
        if not self._folder.exists():
            return
        for path in self._folder.iterdir():
            _sync_file(path)
        sync_folder(self._folder)
        sync_folder(self._folder.parent)

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])

    def remove(self) -> None:
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class NamedFiles:
    """Files in the folders of a state directory."""

    def __init__(self, columns: Path, uploads: Path) -> None:
        self._columns, self._uploads = columns, uploads
        self._checked: set[str] = set()
        self._damaged: set[str] = set()
        self._open: WeakValueDictionary[str, ColumnFile] = WeakValueDictionary()

    def parts(self, folder: str) -> Parts:
        """The files of an upload, new or not."""
        return _NamedParts(self._uploads / folder)

    def adopt(self, parts: Parts, number: int, sha256: str) -> None:
        """Makes a column of an upload's file, which was checked."""
        assert isinstance(parts, _NamedParts)
        if sha256 not in self._checked or sha256 in self._damaged:  # one that was not looked at may be damaged
            staged = self._columns / f"{sha256}.new"
            staged.unlink(missing_ok=True)
            os.link(parts.path(number), staged)  # the upload keeps it too, until all is done
            staged.replace(self._columns / sha256)
            staged.unlink(missing_ok=True)  # rename does nothing between two names of one file
            self._open.pop(sha256, None)
            self._damaged.discard(sha256)
            self._checked.add(sha256)

    def settle(self) -> None:
        """Puts on the disk what was adopted."""
        sync_folder(self._columns)

    def open(self, sha256: str, nbytes: int) -> ColumnFile:
        """A column's file. Raises DamagedError."""
        found = self._open.get(sha256)
        if found is None:
            found = self._open[sha256] = self._opened(sha256, nbytes)
        return found

    def _opened(self, sha256: str, nbytes: int) -> ColumnFile:
        path = self._columns / sha256
        try:
            file = ColumnFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), nbytes)
        except FileNotFoundError:
            raise DamagedError(f"its file {path} is missing", file=str(path)) from None
        size = os.fstat(file.fd).st_size
        if size != nbytes:
            raise DamagedError(f"its file {path} has {size:,} bytes, and should have {nbytes:,}", file=str(path))
        if sha256 not in self._checked:
            self._check(file, sha256)
        if sha256 in self._damaged:
            raise DamagedError(f"its file {path} has other bytes than were stored", file=str(path))
        return file

    def _check(self, file: ColumnFile, sha256: str) -> None:
        if hasher_of(file.fd).hexdigest() != sha256:
            self._damaged.add(sha256)
        self._checked.add(sha256)

    def remove(self, columns: Collection[str]) -> None:
        """Deletes columns."""
        for sha256 in columns:
            self._checked.discard(sha256)
            self._damaged.discard(sha256)
            self._open.pop(sha256, None)
            (self._columns / sha256).unlink(missing_ok=True)

    def clean(self, folders: Collection[str], columns: Collection[str]) -> None:
        """Deletes all but these."""
        for path in self._uploads.iterdir():
            if path.name not in folders:
                shutil.rmtree(path)
        for path in self._columns.iterdir():
            if path.name not in columns:
                path.unlink()


class _UnnamedParts:
    def __init__(self, files: UnnamedFiles) -> None:
        self._files = files
        self._fds: dict[int, int] = {}

    def fd(self, number: int) -> int:
        if number not in self._fds:
            self._fds[number] = self._files.create()
        return self._fds[number]

    def take(self, number: int) -> int:
        return self._fds.pop(number)

    def sizes(self, count: int) -> list[int]:
        return [os.fstat(self._fds[number]).st_size if number in self._fds else 0 for number in range(count)]

    def flush(self, number: int) -> None:
        """Nothing outlives the process."""

    def sync(self) -> None:
        """Nothing outlives the process."""

    def close(self) -> None:
        """They couldn't be opened again."""

    def remove(self) -> None:
        self._files.count -= len(self._fds)
        while self._fds:
            os.close(self._fds.popitem()[1])


class UnnamedFiles:
    """Temporary files that nobody can leave behind. Each takes a descriptor for as long as it is there: at most half of what there are."""

    def __init__(self) -> None:
        self._files: dict[str, ColumnFile] = {}
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = sys.maxsize if most == resource.RLIM_INFINITY else most // 2
        self.count = 0

    def create(self) -> int:
        """A file without a name."""
        if self.count >= self._most:
            raise NoRoomError(f"there is no room for another column: without a state_dir each takes an open file, and {self.count} are open: "
                              "give the server a state_dir, or raise its limit on open files (ulimit -n)")  # fmt: skip
        with tempfile.TemporaryFile(buffering=0) as file:
            fd = os.dup(file.fileno())
        self.count += 1
        return fd

    def parts(self, folder: str) -> Parts:
        """The files of an upload, new or not."""
        return _UnnamedParts(self)

    def adopt(self, parts: Parts, number: int, sha256: str) -> None:
        """Makes a column of an upload's file, which was checked."""
        assert isinstance(parts, _UnnamedParts)
        if sha256 not in self._files:
            fd = parts.take(number)
            self._files[sha256] = ColumnFile(fd, os.fstat(fd).st_size)

    def settle(self) -> None:
        """Nothing outlives the process."""

    def open(self, sha256: str, nbytes: int) -> ColumnFile:
        """A column's file. Raises DamagedError."""
        return self._files[sha256]

    def remove(self, columns: Collection[str]) -> None:
        """Deletes columns."""
        for sha256 in columns:
            if self._files.pop(sha256, None) is not None:
                self.count -= 1

    def clean(self, folders: Collection[str], columns: Collection[str]) -> None:
        """There never is anything left."""


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def hasher_of(fd: int) -> hashlib._Hash:
    """SHA-256 of an open file's bytes, which may go on."""
    with contextlib.closing(os.fdopen(os.dup(fd), "rb", buffering=0)) as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256")
