"""What is counted of calls: a few additions for each, in the event loop, so that nothing needs a lock."""

from __future__ import annotations

from bisect import bisect_left

from ..rpc import Finished

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the latency histogram's buckets, in seconds: from an empty gradient to a sum over a whole dataset."""


class Tally:
    """The calls of one method that ended with one status."""

    __slots__ = ("buckets", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.received = 0
        self.sent = 0

    @property
    def calls(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    def cumulative(self) -> list[tuple[str, float]]:
        """Calls that took at most so long, by the bucket's upper end: how Prometheus wants a histogram."""
        total, found = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.buckets, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class CallCounts:
    """Counts calls by method and status. An Observer."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.in_flight: dict[str, int] = {}

    def call_began(self, method: str) -> None:
        """A call has come."""
        self.in_flight[method] = self.in_flight.get(method, 0) + 1

    def call_ended(self, call: Finished) -> None:
        """It is over."""
        self.in_flight[call.method] -= 1
        key = (call.method, call.status)
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally()
        tally.buckets[bisect_left(BOUNDS, call.seconds)] += 1
        tally.seconds += call.seconds
        tally.received += call.received_bytes
        tally.sent += call.sent_bytes

    @property
    def ended(self) -> int:
        """Calls that ended since the start."""
        return sum(tally.calls for tally in self.tallies.values())
