"""What compiling may take: time, and memory. LLVM can be neither interrupted nor refused memory, so it is not begun where it would not end well."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path

from ..errors import LimitError

LINE_SECONDS = 1e-5
"""What LLVM takes for a line, roughly."""
LINE_BYTES = 800
BASE_BYTES = 32 << 20
"""Memory that LLVM takes for a line, and whatever it compiles: about twice what was measured."""


class Deadline:
    """A moment at which compiling is given up; None: never."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def check(self, ahead: float = 0.0) -> None:
        """Raises LimitError if the moment has come, or will before another `ahead` seconds are over."""
        if self._end is not None and time.monotonic() + ahead > self._end:
            raise LimitError(
                f"compiling the graph takes longer than max_compile_seconds = {self._seconds}: cut the graph, write loops over scalars as arrays, "
                'or ask for evaluator="reference"',
                limit="max_compile_seconds",
            )


def check_memory(lines: int) -> None:
    """Raises LimitError if LLVM would need more memory for so many lines than this process may have: it would end the process."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_DATA)
    needed = _data_bytes() + BASE_BYTES + lines * LINE_BYTES
    if allowed != resource.RLIM_INFINITY and needed > allowed:
        raise LimitError(
            f"compiling the graph may take {needed:,} bytes, more than max_worker_bytes = {allowed:,}: cut the graph, write loops over scalars as "
            'arrays, or ask for evaluator="reference"',
            limit="max_worker_bytes",
            value=needed,
            allowed=allowed,
        )


def _data_bytes() -> int:
    """What this process has, of what RLIMIT_DATA bounds; 0 where the system does not say."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    return 0
