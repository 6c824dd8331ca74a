"""Prometheus metrics. A call costs a few additions here; the library's families are made when somebody asks.

Everything is counted in the event loop, so nothing needs the locks that the library's own counters take for each addition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from ..pool import Census, Totals
from ..rpc import Finished
from .view import View

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the latency histogram's buckets, in seconds: from an empty gradient to a sum over a whole dataset."""

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4
Families: TypeAlias = Iterator[Metric]


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


class CallMetrics:
    """Counts calls. An Observer, and a Collector of the library's."""

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

    def collect(self) -> Families:
        """The families of metrics of calls."""
        labels = ("method", "status")
        calls = CounterMetricFamily("sumgrad_requests", "Calls that ended, by method and gRPC status.", labels=labels)
        times = HistogramMetricFamily(
            "sumgrad_request_duration_seconds", "Time from a call's first byte here to its last, in seconds.", labels=labels
        )
        received = CounterMetricFamily("sumgrad_received_bytes", "Bytes of requests of calls that ended.", labels=labels)
        sent = CounterMetricFamily("sumgrad_sent_bytes", "Bytes of responses of calls that ended.", labels=labels)
        for key, tally in self.tallies.items():
            calls.add_metric(key, tally.calls)
            times.add_metric(key, tally.cumulative(), tally.seconds)
            received.add_metric(key, tally.received)
            sent.add_metric(key, tally.sent)
        yield from (calls, times, received, sent, self._in_flight())

    def _in_flight(self) -> Metric:
        family = GaugeMetricFamily("sumgrad_requests_in_flight", "Calls under way.", labels=("method",))
        for method, count in self.in_flight.items():
            family.add_metric((method,), count)
        return family


class StateMetrics:
    """How the server stands when it is asked. A Collector of the library's."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Families:
        """The families of metrics of workers, queue, stores and totals."""
        yield InfoMetricFamily("sumgrad_build", "The version of sumgrad.", value={"version": self._view.version})
        yield GaugeMetricFamily(
            "sumgrad_serving", "1 while a worker is ready and the server doesn't drain.", value=int(self._view.serving())
        )
        census = self._view.census()
        yield from self._workers(census)
        yield from self._totals(census.totals)
        yield from self._held(census)

    def _workers(self, census: Census) -> Families:
        states = GaugeMetricFamily("sumgrad_workers", "Workers by state.", labels=("state",))
        for state in ("starting", "idle", "busy"):
            states.add_metric((state,), sum(worker.state == state for worker in census.workers))
        memory = GaugeMetricFamily(
            "sumgrad_worker_resident_memory_bytes", "Memory that each worker holds beside what is shared.", labels=("worker",)
        )
        for worker in census.workers:
            memory.add_metric((str(worker.number),), worker.resident_bytes)
        yield from (states, memory)

    def _totals(self, totals: Totals) -> Families:
        jobs = CounterMetricFamily("sumgrad_jobs", "Pieces of work for the workers that ended, by outcome.", labels=("outcome",))
        jobs.add_metric(("finished",), totals.jobs_finished)
        jobs.add_metric(("failed",), totals.jobs_failed)
        yield jobs
        for name, said, value in (
            ("sumgrad_summed_samples", "Samples summed or evaluated; its rate is samples a second.", totals.samples),
            ("sumgrad_shards", "Shards that workers computed.", totals.shards),
            ("sumgrad_worker_restarts", "Workers that ended and were replaced.", totals.worker_restarts),
            ("sumgrad_programs", "Programs prepared: graphs differentiated and compiled.", totals.programs),
            ("sumgrad_program_prepare_seconds", "Time that workers spent preparing programs, in seconds.", totals.prepare_seconds),
            ("sumgrad_compute_seconds", "Time that workers spent computing, in seconds.", totals.compute_seconds),
        ):
            yield CounterMetricFamily(name, said, value=value)

    def _held(self, census: Census) -> Families:
        graphs, datasets = self._view.stores.graphs(), self._view.stores.datasets()
        for name, said, value in (
            ("sumgrad_active_jobs", "Pieces of work that wait or run.", census.active_jobs),
            ("sumgrad_shared_memory_bytes", "Shared memory of requests, and kept for the next ones.", census.shared_bytes),
            ("sumgrad_graphs", "Graphs held.", len(graphs)),
            ("sumgrad_graph_bytes", "Bytes of the graphs held.", sum(graph.shared.arena.nbytes for graph in graphs)),
            ("sumgrad_datasets", "Datasets of all namespaces.", len(datasets)),
            ("sumgrad_dataset_bytes", "Bytes of the datasets of all namespaces.", sum(dataset.nbytes for dataset in datasets)),
        ):
            yield GaugeMetricFamily(name, said, value=value)


class Metrics:
    """All metrics of a server, in a registry of their own."""

    def __init__(self, calls: CallMetrics, view: View) -> None:
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)  # memory, processor time and descriptors of this process, under their usual names
        registry.register(calls)
        registry.register(StateMetrics(view))
        self._render: Callable[[], bytes] = lambda: exposition.generate_latest(registry)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return self._render()
