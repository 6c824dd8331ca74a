"""The time that compiling may take."""

from __future__ import annotations

import time

from ..errors import LimitError

LINE_SECONDS = 1e-5
"""What LLVM takes for a line, roughly: it can't be interrupted, so it is not begun where it would not end in time."""


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
