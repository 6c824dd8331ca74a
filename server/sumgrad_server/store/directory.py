"""The state directory: ours alone, used by one server at a time.

lock            held while a server runs
state.sqlite3   graphs, datasets, unfinished uploads
columns/        a column a file, named by the SHA-256 of its bytes
uploads/        what has come of unfinished uploads: a folder each
runs/           the journal and the snapshots of training runs
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .database import StateError

DATABASE, COLUMNS, UPLOADS, RUNS = "state.sqlite3", "columns", "uploads", "runs"
_LOCK = "lock"
_HARMLESS = frozenset({_LOCK, "lost+found"})
"""What a directory may hold that is to become a state directory."""


class Directory:
    """A state directory that this process has for itself, until `close`."""

    def __init__(self, path: Path) -> None:
        """Raises StateError."""
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._require_ours()
            self.path.chmod(0o700)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._take_lock()
        except OSError as error:
            raise StateError(f"the state directory {self.path} can't be used: {error.strerror}") from error

    def make_folders(self) -> None:
        """Makes the folders, once the database is there: a directory with folders but without database is not taken for a new one."""
        for name in (COLUMNS, UPLOADS, RUNS):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.path)

    def close(self) -> None:
        """Lets other servers have it."""
        os.close(self._lock)

    def _require_ours(self) -> None:
        if self.path.stat().st_uid != os.geteuid():
            raise StateError(f"the state directory {self.path} belongs to another user: give one of the server's user")
        there = {entry.name for entry in self.path.iterdir()}
        if DATABASE not in there and not there <= _HARMLESS:
            raise StateError(
                f"{self.path} is not empty, and holds no {DATABASE}: give an empty directory, or the whole of a state directory"
            )

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise StateError(f"another server uses the state directory {self.path}: end it, or give this one another directory") from None


def sync_folder(path: Path) -> None:
    """Puts on the disk which files a folder has."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
