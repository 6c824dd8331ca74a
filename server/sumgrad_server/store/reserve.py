"""Room set aside on the disk: even deleting needs some, for it is written to the database's log first."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE = "reserve"
NBYTES = 1 << 20


class Reserve:
    """A file of that size, whenever there is room for it. Without a path there is none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._fd: int | None = None
        self._held = False

    def hold(self) -> None:
        """Sets the room aside, unless that is done, or there is none."""
        if self._path is None or self._held:
            return
        with contextlib.suppress(OSError):
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _allocate(self._fd)
            self._held = True

    def give_up(self) -> None:
        """Makes the room free, for something that will make more."""
        self._held = False
        if self._fd is not None:
            os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Leaves it to the next server."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _allocate(fd: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, NBYTES)
    else:
        os.pwrite(fd, bytes(NBYTES), 0)
