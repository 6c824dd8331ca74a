"""Prometheus metrics: the library's families of what is counted elsewhere, made when somebody asks.

The library's own counters would take a lock for each addition; what is counted in one event loop needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from ..census import Census, Totals
from .calls import CallCounts
from .view import View, together

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text format, which all our names fit into."""
Families: TypeAlias = Iterator[Metric]


class CallMetrics:
    """The counts of calls. A Collector of the library's."""

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts

    def collect(self) -> Families:
        """The families of metrics of calls."""
        labels = ("method", "status")
        calls = CounterMetricFamily("sumgrad_requests", "Calls that ended, by method and gRPC status.", labels=labels)
        times = HistogramMetricFamily(
            "sumgrad_request_duration_seconds", "Time from a call's first byte here to its last, in seconds.", labels=labels
        )
        received = CounterMetricFamily("sumgrad_received_bytes", "Bytes of requests of calls that ended.", labels=labels)
        sent = CounterMetricFamily("sumgrad_sent_bytes", "Bytes of responses of calls that ended.", labels=labels)
        for key, tally in self._counts.tallies.items():
            calls.add_metric(key, tally.calls)
            times.add_metric(key, tally.cumulative(), tally.seconds)
            received.add_metric(key, tally.received)
            sent.add_metric(key, tally.sent)
        yield from (calls, times, received, sent, self._in_flight())

    def _in_flight(self) -> Metric:
        family = GaugeMetricFamily("sumgrad_requests_in_flight", "Calls under way.", labels=("method",))
        for method, count in self._counts.in_flight.items():
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
            ("sumgrad_graph_bytes", "Bytes of the graphs held.", sum(graph.nbytes for graph in graphs)),
            ("sumgrad_datasets", "Datasets of all namespaces.", len(datasets)),
            ("sumgrad_dataset_bytes", "Bytes of the datasets of all namespaces; equal contents count once.", together(datasets)),
        ):
            yield GaugeMetricFamily(name, said, value=value)


class Metrics:
    """All metrics of a server, in a registry of their own."""

    def __init__(self, counts: CallCounts, view: View) -> None:
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)  # memory, processor time and descriptors of this process, under their usual names
        registry.register(CallMetrics(counts))
        registry.register(StateMetrics(view))
        self._render: Callable[[], bytes] = lambda: exposition.generate_latest(registry)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return self._render()
