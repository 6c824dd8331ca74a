"""A worker's sign of life: a counter in shared memory.

A thread of the worker counts up; the front looks whether the count moves. A process that is stopped, or whose interpreter hangs, doesn't move it,
while one that computes for long does.
"""

from __future__ import annotations

import struct

from .arena import Arena, attach
from .tasks import Memory

COUNT = struct.Struct("=Q")
NBYTES = 4096


class Pulse(Arena):
    """The front's side."""

    name = "pulse"

    def __init__(self) -> None:
        super().__init__(NBYTES)
        self._seen = 0
        self._misses = 0

    def missed(self) -> int:
        """How often, in a row and up to now, this was asked and the count had not moved."""
        (count,) = COUNT.unpack_from(self.bytes.data)
        self._misses = self._misses + 1 if count == self._seen else 0
        self._seen = count
        return self._misses


class Heart:
    """The worker's side."""

    def __init__(self, fd: int) -> None:
        self._memory: Memory = attach(fd, NBYTES)
        self._count = 0

    def beat(self) -> None:
        """Counts up."""
        self._count += 1
        COUNT.pack_into(self._memory.data, 0, self._count)
