"""Prometheus metrics: the library's families of what is counted elsewhere, made when somebody asks.

The library's own counters would take a lock for each addition; what is counted in one event loop needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from ..census import Census, Totals
from ..runs.machine import State
from .calls import CallCounts
from .view import View, together

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text format, which all our names fit into."""
Families: TypeAlias = Iterator[Metric]
UPDATES = ("sgd", "adam", "adamw", "members")


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


class RunMetrics:
    """Training runs of all namespaces; none has a metric of its own, so that there are not more metrics with every run. A Collector of the library's."""

    def __init__(self, view: View) -> None:
        self._runs = view.stores.runs

    def collect(self) -> Families:
        """The families of metrics of runs and their journal."""
        yield from self._now()
        totals = self._runs.totals
        for name, said, counts in (
            ("sumgrad_run_steps", "Steps of training runs, by who updates the parameters.", totals.steps),
            ("sumgrad_run_samples", "Samples that these steps have summed.", totals.samples),
        ):
            family = CounterMetricFamily(name, said, labels=("update",))
            for update in UPDATES:
                family.add_metric((update,), counts[update])
            yield family
        written = self._runs.journal.totals
        for name, said, value in (
            ("sumgrad_run_repeated_attempts", "Attempts at a step after its first, because members were lost.", totals.repeated),
            ("sumgrad_run_vacated_seats", "Seats that were given up, by their members or by lease and timeout.", totals.vacated),
            ("sumgrad_journal_records", "Records in the journal of training runs.", written.records),
            ("sumgrad_journal_writes", "Waits for the disk; records that come together share one.", written.writes),
            ("sumgrad_journal_seconds", "Time that these waits took, in seconds.", written.seconds),
        ):
            yield CounterMetricFamily(name, said, value=value)

    def _now(self) -> Families:
        runs = self._runs.listed()
        states = GaugeMetricFamily("sumgrad_runs", "Training runs by state.", labels=("state",))
        for state in get_args(State):
            states.add_metric((state,), sum(run.book.state == state for run in runs))
        yield states
        seats = sum(len(run.machine.seats) for run in runs if not run.machine.over)
        yield GaugeMetricFamily("sumgrad_run_seats", "Members that have seats in runs that are not over.", value=seats)
        waiting = sum(bool(run.trouble) for run in runs)
        yield GaugeMetricFamily("sumgrad_runs_without_room", "Runs that can't go on, because the disk takes nothing.", value=waiting)


class Metrics:
    """All metrics of a server, in a registry of their own."""

    def __init__(self, counts: CallCounts, view: View) -> None:
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)  # memory, processor time and descriptors of this process, under their usual names
        registry.register(CallMetrics(counts))
        registry.register(StateMetrics(view))
        registry.register(RunMetrics(view))
        self._render: Callable[[], bytes] = lambda: exposition.generate_latest(registry)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return self._render()
