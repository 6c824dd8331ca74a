"""The last calls, and the throughput of the last minutes: bounded, and nothing but appending for each call."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..rpc import Finished

CALLS = 100
SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """A call and when it ended, in seconds since 1970-01-01 UTC."""

    at: float
    call: Finished


class RecentCalls:
    """The last calls that ended and, so that a flood of others doesn't wash them away, the last that failed. An Observer."""

    def __init__(self, most: int = CALLS) -> None:
        self._ended: deque[tuple[float, Finished]] = deque(maxlen=most)
        self._failed: deque[tuple[float, Finished]] = deque(maxlen=most)

    def call_began(self, method: str) -> None:
        """A call has come."""

    def call_ended(self, call: Finished) -> None:
        """It is over."""
        ended = (time.time(), call)
        self._ended.append(ended)
        if call.status != "OK":
            self._failed.append(ended)

    def newest(self, most: int) -> list[Ended]:
        """At most so many, the newest first."""
        return _newest(self._ended, most)

    def failed(self, most: int) -> list[Ended]:
        """At most so many of those with another status than OK, the newest first."""
        return _newest(self._failed, most)


def _newest(ended: deque[tuple[float, Finished]], most: int) -> list[Ended]:
    return [Ended(*entry) for entry in list(ended)[: -most - 1 : -1]]


class Level:
    """What something was in each of the last seconds, oldest first."""

    def __init__(self, seconds: int = SECONDS) -> None:
        self._values: deque[float] = deque([0.0] * seconds, maxlen=seconds)

    def look(self, value: float) -> None:
        """Takes note of what it is; meant to be called once a second."""
        self._values.append(value)

    @property
    def history(self) -> Sequence[float]:
        """The values; 0 before the first look."""
        return tuple(self._values)

    @property
    def current(self) -> float:
        """The last value."""
        return self._values[-1]


class Rate:
    """How fast a counter grew, a second at a time, oldest first."""

    def __init__(self, seconds: int = SECONDS) -> None:
        self._rates: deque[float] = deque([0.0] * seconds, maxlen=seconds)
        self._last: tuple[float, float] | None = None

    def look(self, now: float, total: float) -> None:
        """Takes note of what the counter says at a time, in seconds of some clock; meant to be called once a second."""
        if self._last is not None and now > self._last[0]:
            self._rates.append((total - self._last[1]) / (now - self._last[0]))
        self._last = (now, total)

    @property
    def history(self) -> Sequence[float]:
        """Growth a second in each of the last seconds; 0 before the first look."""
        return tuple(self._rates)

    @property
    def current(self) -> float:
        """Growth a second, over the last looks but one: a single second jumps."""
        last = list(self._rates)[-3:]
        return sum(last) / len(last)
