"""A worker's signs of life: a counter in shared memory, and the time that its threads get.

A thread of the worker counts up; the front looks whether the count moves. A process that is stopped doesn't move it, nor does one that waits for
something that never comes; nor, for a while, one that computes with the interpreter locked, or that a busy machine lets wait: but those compute, or want to.
"""

from __future__ import annotations

import struct
from pathlib import Path

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


class Effort:
    """Whether a process computes, or would if it were let: what the kernel says of its threads. Says no where the system doesn't tell."""

    def __init__(self) -> None:
        self._ticks = 0

    def shown(self, pid: int) -> bool:
        """Whether it has since this was asked last."""
        threads = [_thread(path) for path in (Path("/proc") / str(pid) / "task").glob("*/stat")]
        before, self._ticks = self._ticks, sum(ticks for _, ticks in threads)
        return self._ticks > before or any(state == "R" for state, _ in threads)


def _thread(stat: Path) -> tuple[str, int]:
    """State of a thread, and its time so far in clock ticks (proc(5), /proc/pid/stat, fields 3, 14 and 15)."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[11]) + int(fields[12])
