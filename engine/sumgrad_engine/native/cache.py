"""Compiled code on disk: one file a kernel, which several processes may read and write at once.

Files are machine code, so nobody else may be able to put one there: the directory belongs to this user with mode 0700, or it is not used. A file is
written under another name and renamed when it is complete, and it starts with the SHA-256 of the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from .artifact import Artifact

MAX_BYTES = 1 << 30
"""Of all files together; the least recently used are deleted."""
_DIGEST = hashlib.sha256().digest_size


def default_directory() -> Path | None:
    """SUMGRAD_CACHE, or sumgrad/kernels in the user's cache directory; None if SUMGRAD_CACHE is empty, or there is no home."""
    chosen = os.environ.get("SUMGRAD_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    with contextlib.suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sumgrad" / "kernels"
    return None


class DiskCache:
    """Artifacts by key in a directory; without one it is always empty. Trouble with the disk is never an error: code is compiled again."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory if directory is not None and _own(directory) else None

    def get(self, key: str) -> Artifact | None:
        """The artifact of a key, if there is one that is whole."""
        if self.directory is None:
            return None
        path = self.directory / key
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
                os.utime(path)
                return Artifact.from_bytes(data[_DIGEST:])
            path.unlink()
        return None

    def put(self, key: str, artifact: Artifact) -> None:
        """Keeps an artifact."""
        if self.directory is None:
            return
        data = artifact.to_bytes()
        with contextlib.suppress(OSError):
            descriptor, name = tempfile.mkstemp(dir=self.directory, prefix="new-")
            with contextlib.suppress(OSError), os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
                file.flush()
                Path(name).replace(self.directory / key)
            Path(name).unlink(missing_ok=True)
        self._trim()

    def _trim(self) -> None:
        """Deletes the files that were not used for longest, as long as there are too many bytes."""
        assert self.directory is not None
        found = []
        for path in self.directory.iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= MAX_BYTES:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size


def _own(directory: Path) -> bool:
    """Makes the directory if need be; whether it is this user's alone."""
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    return False
