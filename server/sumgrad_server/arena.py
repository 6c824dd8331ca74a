"""Bulk data in shared memory that nobody can leave behind.

An arena is an anonymous file (`memfd_create`, or an unlinked temporary file where there is none), mapped by the front and by the workers that
are sent its descriptor. It has no name, so the kernel frees it with the last process that holds it, however that process ends; and Python's
resource tracker never hears of it. It is really allocated: a machine without room gives an error here and no SIGBUS later.

Making 8 MB of shared memory costs 5 ms, copying into memory that stands 0.2 ms: arenas are kept and used again, in classes of size.
"""

from __future__ import annotations

import itertools
import mmap
import os
import tempfile
import weakref
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt
from sumgrad_engine.errors import LimitError

from .faults import FILES_ERRORS, BusyError
from .threads import unblocking

SMALLEST = 1 << 16
segment_ids = itertools.count(1)
"""Names for what is shared with workers: arenas, and the files of datasets' columns."""


def size_class(nbytes: int) -> int:
    """The size of the arena that serves a need: 4, 5, 6 or 7 times a power of two, so that at most a fifth is idle."""
    if nbytes <= SMALLEST:
        return SMALLEST
    unit = 1 << ((nbytes - 1).bit_length() - 3)
    return -(-nbytes // unit) * unit


def _anonymous_file(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name, os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _allocate(fd: int, nbytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, nbytes)
    else:
        os.ftruncate(fd, nbytes)


class Arena:
    """A piece of shared memory. `id` is unique within the process that made it; what is forgotten is freed."""

    writable = True
    name = "sumgrad"
    """What the system shows of it, in a process's list of mappings."""

    def __init__(self, nbytes: int) -> None:
        self.id = next(segment_ids)
        self.nbytes = nbytes
        self.holds: bytes | None = None  # what was laid out here last
        self.views: list[npt.NDArray[Any]] = []  # and its arrays
        self.fd = _anonymous_file(self.name)
        self._close = weakref.finalize(self, os.close, self.fd)
        try:
            _allocate(self.fd, nbytes)
            self.bytes = attach(self.fd, nbytes)
        except BaseException:
            self._close()
            raise

    def close(self) -> None:
        """Gives up this process's hold now. The mapping itself goes with the last array that looks into it."""
        self._close()
        self.bytes, self.holds, self.views = np.empty(0, np.uint8), None, []


class Letter:
    """A few bytes that go to workers in a message: like an arena, without shared memory and its descriptors."""

    writable = False

    def __init__(self, data: bytes) -> None:
        self.id = next(segment_ids)
        self.nbytes = len(data)
        self.data = data

    @property
    def bytes(self) -> npt.NDArray[np.uint8]:
        """The bytes, to be read."""
        return np.frombuffer(self.data, np.uint8)


def attach(fd: int, nbytes: int, *, writable: bool = True) -> npt.NDArray[np.uint8]:
    """The bytes of another process's segment, whose descriptor is no longer needed then. The mapping goes with the last array that looks into it."""
    return np.frombuffer(mmap.mmap(fd, nbytes, prot=mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)), np.uint8)


class ArenaPool:
    """Standing arenas, up to a limit on all of them together."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lent: dict[int, Arena] = {}
        self._idle: OrderedDict[int, Arena] = OrderedDict()
        self._total = 0

    @property
    def total_bytes(self) -> int:
        """Lent and idle together."""
        return self._total

    async def acquire(self, nbytes: int) -> Arena:
        """An arena of at least so many bytes, contents undefined. BusyError if there is no room now, LimitError if there never is."""
        wanted = size_class(nbytes)
        arena = self._take_idle(wanted) or await self._make(wanted)
        self._lent[arena.id] = arena
        return arena

    def release(self, arena: Arena) -> None:
        """Takes an arena back. Nobody may write into it any more."""
        del self._lent[arena.id]
        self._idle[arena.id] = arena

    def close(self) -> None:
        """Gives up all arenas, lent ones too."""
        for arena in [*self._lent.values(), *self._idle.values()]:
            arena.close()
        self._lent.clear()
        self._idle.clear()
        self._total = 0

    def _take_idle(self, nbytes: int) -> Arena | None:
        # The most recently used one of its size: its pages are warm.
        found = next((arena for arena in reversed(self._idle.values()) if arena.nbytes == nbytes), None)
        return self._idle.pop(found.id) if found else None

    async def _make(self, nbytes: int) -> Arena:
        if nbytes > self._max_bytes:
            raise LimitError(self._said(nbytes), limit="max_shared_bytes", value=nbytes, allowed=self._max_bytes)
        while self._idle and self._total + nbytes > self._max_bytes:
            self._destroy_oldest()
        if self._total + nbytes > self._max_bytes:
            raise self._busy(nbytes)
        self._total += nbytes
        try:
            return await unblocking(nbytes, Arena, nbytes)
        except BaseException as error:
            self._total -= nbytes
            if isinstance(error, OSError) and error.errno not in FILES_ERRORS:  # the machine itself has no memory
                raise self._busy(nbytes) from error
            raise

    def _destroy_oldest(self) -> None:
        _, arena = self._idle.popitem(last=False)
        self._total -= arena.nbytes
        arena.close()

    def _busy(self, nbytes: int) -> BusyError:
        return BusyError(self._said(nbytes), limit="max_shared_bytes", value=nbytes, allowed=self._max_bytes)

    def _said(self, nbytes: int) -> str:
        return f"the request needs {nbytes} bytes of shared memory; {self._total} are in use, max_shared_bytes is {self._max_bytes}"
