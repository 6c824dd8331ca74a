"""Metrics, logs, traces and what the page is made of: each by itself."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families
from sumgrad_server.auth import EVERYBODY, Principal
from sumgrad_server.census import Census, Totals, WorkerCensus
from sumgrad_server.datasets import Entry
from sumgrad_server.faults import PermissionDeniedError, UnauthenticatedError, UnknownGraphError
from sumgrad_server.graphs import HeldGraph, StoredGraph
from sumgrad_server.observe import access, page, traces
from sumgrad_server.observe.calls import BOUNDS, CallCounts
from sumgrad_server.observe.charts import HEIGHT, ceiling, chart
from sumgrad_server.observe.logs import LINES_A_SECOND, CallLog, JsonFormatter, TextFormatter, configure
from sumgrad_server.observe.metrics import Metrics
from sumgrad_server.observe.recent import Level, Rate, RecentCalls
from sumgrad_server.observe.view import Stores, View
from sumgrad_server.rpc import Finished
from sumgrad_server.runs.runs import Runs
from sumgrad_server.settings import Settings
from sumgrad_server.store.journal import Journal

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def finished(**known: Any) -> Finished:
    """A call that is over."""
    values = {
        "method": "Gradient",
        "status": "OK",
        "seconds": 0.003,
        "request_id": "r-1",
        "caller": "alice",
        "received_bytes": 100,
        "sent_bytes": 20,
    }
    return Finished(**(values | known))


def entry(namespace: str, name: str, nbytes: int, content: str | None = None) -> Entry:
    """A dataset that is listed."""
    return Entry(namespace, name, content or name, nbytes // 8, 1, nbytes, 0)


class Standing:
    """A pool that stands still."""

    def __init__(self, *states: Any, census: Census | None = None, **totals: Any) -> None:
        self._census = census or Census(
            tuple(WorkerCensus(number, 4000 + number, state, 7, 1 << 20) for number, state in enumerate(states)),
            3,
            1 << 16,
            Totals(**totals),
        )

    @property
    def serving(self) -> bool:
        return any(worker.state != "starting" for worker in self._census.workers)

    def census(self) -> Census:
        return self._census


async def no_graph(name: str) -> StoredGraph:
    """Where there are none."""
    raise UnknownGraphError(name)


def view_of(*states: Any, datasets: list[Entry] | None = None, graphs: list[HeldGraph] | None = None, **totals: Any) -> View:
    """The state of a server with workers in these states, and without training runs."""
    settings = Settings(workers=2)
    stores = Stores(lambda: graphs or [], lambda: datasets or [], Runs(Journal(None), settings), no_graph)
    return View(settings, Standing(*states, **totals), stores)


def samples_of(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels, as a scraper reads them."""
    families = text_string_to_metric_families(text.decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


# Metrics.


def test_calls_are_counted_by_method_and_status() -> None:
    """Counts, bytes, and each call in the latency bucket in which it belongs; calls under way are those that began and did not end."""
    calls = CallCounts()
    for call in (finished(), finished(seconds=BOUNDS[0]), finished(status="INTERNAL", seconds=1e4)):
        calls.call_began(call.method)
        calls.call_ended(call)
    calls.call_began("Gradient")
    found = samples_of(Metrics(calls, view_of()).text())
    fine, bad = (("method", "Gradient"), ("status", "OK")), (("method", "Gradient"), ("status", "INTERNAL"))
    assert found["sumgrad_requests_total", fine] == 2
    assert found["sumgrad_received_bytes_total", fine] == 200
    assert found["sumgrad_sent_bytes_total", bad] == 20
    assert found["sumgrad_request_duration_seconds_bucket", (("le", str(BOUNDS[0])), *fine)] == 1
    assert found["sumgrad_request_duration_seconds_bucket", (("le", "0.005"), *fine)] == 2
    assert found["sumgrad_request_duration_seconds_bucket", (("le", "60.0"), *bad)] == 0
    assert found["sumgrad_request_duration_seconds_count", bad] == 1
    assert found["sumgrad_request_duration_seconds_sum", fine] == pytest.approx(0.003 + BOUNDS[0])
    assert found["sumgrad_requests_in_flight", (("method", "Gradient"),)] == 1


def test_the_state_is_told() -> None:
    """Workers by state, totals of the pool, and what the stores hold."""
    view = view_of(
        "busy",
        "starting",
        datasets=[entry("default", "a", 160), entry("default", "a too", 160, content="a"), entry("b", "b", 8)],
        graphs=[HeldGraph("f" * 64, 77, None)],
        samples=5,
        jobs_failed=1,
        worker_restarts=2,
        prepare_seconds=0.5,
    )
    found = samples_of(Metrics(CallCounts(), view).text())
    expected = {
        ("sumgrad_workers", (("state", "busy"),)): 1,
        ("sumgrad_workers", (("state", "idle"),)): 0,
        ("sumgrad_workers", (("state", "starting"),)): 1,
        ("sumgrad_worker_resident_memory_bytes", (("worker", "1"),)): 1 << 20,
        ("sumgrad_serving", ()): 1,
        ("sumgrad_summed_samples_total", ()): 5,
        ("sumgrad_jobs_total", (("outcome", "failed"),)): 1,
        ("sumgrad_worker_restarts_total", ()): 2,
        ("sumgrad_program_prepare_seconds_total", ()): 0.5,
        ("sumgrad_active_jobs", ()): 3,
        ("sumgrad_shared_memory_bytes", ()): 1 << 16,
        ("sumgrad_graphs", ()): 1,
        ("sumgrad_graph_bytes", ()): 77,
        ("sumgrad_datasets", ()): 3,
        ("sumgrad_dataset_bytes", ()): 168,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["process_resident_memory_bytes", ()] > 0


def test_every_metric_has_help_and_our_prefix() -> None:
    """Each family says what it is, is named after us or the process, and each name stands once."""
    calls = CallCounts()
    calls.call_began("Gradient")
    calls.call_ended(finished())
    families = list(text_string_to_metric_families(Metrics(calls, view_of("idle")).text().decode()))
    assert [family.name for family in families if not family.documentation] == []
    assert [family.name for family in families if not family.name.startswith(("sumgrad_", "process_"))] == []
    assert len({family.name for family in families}) == len(families)


@pytest.mark.parametrize(
    ("states", "draining", "serves"), [(("idle",), False, True), (("starting",), False, False), (("idle",), True, False)]
)
def test_a_server_that_drains_does_not_serve(states: tuple[str, ...], draining: bool, serves: bool) -> None:
    """It serves while the pool does, and until it drains."""
    view = view_of(*states)
    view.draining = draining
    assert view.serving() is serves


# Logs.


@pytest.fixture
def logged(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is logged, in the format and at the level of the test's marks; logging is as before afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("sumgrad_server")
    before = (root.handlers[:], root.level, ours.level)
    stream = io.StringIO()
    root.handlers = []
    configure(*request.param, stream)
    yield stream
    root.handlers, root.level = before[0], before[1]
    ours.setLevel(before[2])


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The objects of a log in JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("logged", [("json", "info")], indirect=True)
def test_a_call_that_failed_is_one_object(logged: io.StringIO) -> None:
    """Time in UTC, level, logger, message and the call's fields; calls that went well are not told at this level."""
    log = CallLog()
    log.call_ended(finished())
    log.call_ended(finished(status="INVALID_ARGUMENT", message="inputs.x has shape (3,)", trace={"traceparent": f"00-{TRACE}-{SPAN}-01"}))
    (said,) = lines(logged)
    assert said.pop("time").endswith("Z")
    assert said == {
        "level": "info",
        "logger": "sumgrad_server.observe.logs",
        "message": "Gradient ended with INVALID_ARGUMENT",
        "method": "Gradient",
        "status": "INVALID_ARGUMENT",
        "seconds": 0.003,
        "request_id": "r-1",
        "caller": "alice",
        "received_bytes": 100,
        "sent_bytes": 20,
        "error": "inputs.x has shape (3,)",
        "traceparent": f"00-{TRACE}-{SPAN}-01",
    }


@pytest.mark.parametrize("logged", [("json", "debug")], indirect=True)
def test_at_debug_every_call_is_told(logged: io.StringIO) -> None:
    """Calls that went well too, and what other libraries have to say at that level not."""
    CallLog().call_ended(finished())
    logging.getLogger("asyncio").debug("nobody wants to know")
    assert [(said["level"], said["status"]) for said in lines(logged)] == [("debug", "OK")]


@pytest.mark.parametrize("logged", [("json", "info")], indirect=True)
def test_a_traceback_stays_in_its_object(logged: io.StringIO) -> None:
    """An exception is a field of the one line."""
    try:
        int("of no value")
    except ValueError:
        logging.getLogger("sumgrad_server.x").exception("it broke")
    (said,) = lines(logged)
    assert said["level"] == "error"
    assert said["exception"].startswith("Traceback")
    assert said["exception"].endswith("of no value'")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_nobody_writes_lines_of_his_own(formatter: logging.Formatter) -> None:
    """Line feeds, escapes and lone surrogates in what a client chose come out escaped, on one line that can be encoded."""
    record = logging.LogRecord("sumgrad_server", logging.INFO, "", 0, "graph %s", ("a\nERROR forged\r\x1b[2J\u2028\ud800",), None)
    record.fields = {"request_id": "b\n{}"}
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    line.encode()


@pytest.mark.parametrize("logged", [("json", "info")], indirect=True)
def test_a_flood_of_errors_is_counted(logged: io.StringIO) -> None:
    """In one second only so many refused calls get lines; the next second says how many more there were."""
    now = 0.0
    log = CallLog(lambda: now)
    for _ in range(LINES_A_SECOND + 70):
        log.call_ended(finished(status="RESOURCE_EXHAUSTED"))
    now = 1.0
    log.call_ended(finished(status="RESOURCE_EXHAUSTED"))
    said = lines(logged)
    assert len(said) == LINES_A_SECOND + 2
    assert said[LINES_A_SECOND]["message"].startswith("70 more calls")


# Traces.


@pytest.fixture
def spans() -> Iterator[tuple[traces.CallSpans, InMemorySpanExporter]]:
    """What makes spans, and where they go."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made = traces.CallSpans(provider)
    yield made, exporter
    made.close()


def test_a_call_is_a_span_with_its_parent(spans: tuple[traces.CallSpans, InMemorySpanExporter]) -> None:
    """Name, kind, attributes and length; the parent is what the traceparent of the call says."""
    made, exporter = spans
    made.call_ended(finished(samples=512, seconds=0.25, trace={"traceparent": f"00-{TRACE}-{SPAN}-01"}))
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind, span.status.status_code) == ("sumgrad.v1.GradientService/Gradient", SpanKind.SERVER, StatusCode.UNSET)
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, SPAN)
    assert span.end_time is not None
    assert span.start_time is not None
    assert span.end_time - span.start_time == 250_000_000
    attributes = dict(span.attributes or {})
    assert (attributes["rpc.method"], attributes["rpc.grpc.status_code"]) == ("Gradient", "OK")
    assert (attributes["sumgrad.request_id"], attributes["sumgrad.samples"]) == ("r-1", 512)


@pytest.mark.parametrize("header", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01"])
def test_a_bad_traceparent_is_no_parent(spans: tuple[traces.CallSpans, InMemorySpanExporter], header: str) -> None:
    """What is malformed is passed over: the span is the root of a trace of its own."""
    made, exporter = spans
    made.call_ended(finished(trace={"traceparent": header}))
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


@pytest.mark.parametrize(("status", "error"), [("INTERNAL", True), ("INVALID_ARGUMENT", False), ("NOT_FOUND", False)])
def test_only_our_faults_are_errors(spans: tuple[traces.CallSpans, InMemorySpanExporter], status: str, error: bool) -> None:
    """As OpenTelemetry's conventions for servers have it: what the client did wrong is no error of the span."""
    made, exporter = spans
    made.call_ended(finished(status=status, message="why"))
    (span,) = exporter.get_finished_spans()
    assert span.status.is_ok is not error


@pytest.mark.parametrize(
    "environment",
    [{}, {"PATH": "/bin"}, {"OTEL_SDK_DISABLED": "true", "OTEL_SERVICE_NAME": "x"}, {"OTEL_TRACES_EXPORTER": "none"}],
    ids=["empty", "others", "disabled", "none"],
)
def test_without_variables_nothing_is_traced(environment: dict[str, str]) -> None:
    """No OTEL_ variable, or one that says no: no spans."""
    assert traces.from_environment(environment) is None


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_the_variables_choose_the_exporter(protocol: str) -> None:
    """OTLP over gRPC or over HTTP, ready to send; nothing is sent here."""
    made = traces.from_environment({"OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    assert made is not None
    made.close()


def test_nothing_of_opentelemetry_is_loaded_unasked() -> None:
    """A server without OTEL_ variables imports none of it; one with them and without the extra says what to install, and runs."""
    code = """
import sys, logging
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from sumgrad_server.observe import observation, traces
assert traces.from_environment({}) is None
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
sys.modules["opentelemetry"] = sys.modules["opentelemetry.sdk"] = sys.modules["opentelemetry.exporter"] = None
assert traces.from_environment({"OTEL_SERVICE_NAME": "x"}) is None
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, 'pip install "sumgrad[otel]"' in done.stdout) == (0, True), done.stdout + done.stderr


# What the page shows.


def test_the_last_calls_are_kept_and_errors_longer() -> None:
    """The ring is bounded, newest first; errors have one of their own."""
    recent = RecentCalls(3)
    recent.call_ended(finished(request_id="bad", status="INTERNAL"))
    for number in range(5):
        recent.call_ended(finished(request_id=str(number)))
    assert [ended.call.request_id for ended in recent.newest(10)] == ["4", "3", "2"]
    assert [ended.call.request_id for ended in recent.newest(2)] == ["4", "3"]
    assert [ended.call.request_id for ended in recent.failed(10)] == ["bad"]


def test_rates_are_growth_a_second() -> None:
    """Between two looks, whatever time lies between them; the first look is the zero."""
    rate = Rate(4)
    for now, total in ((10.0, 100.0), (11.0, 150.0), (13.0, 250.0), (13.0, 250.0)):
        rate.look(now, total)
    assert list(rate.history) == [0.0, 0.0, 50.0, 50.0]
    assert rate.current == pytest.approx(100.0 / 3.0)


def test_levels_are_what_was_seen() -> None:
    """The last values, oldest first, and the newest of them."""
    level = Level(3)
    for value in (1.0, 2.0, 5.0, 3.0):
        level.look(value)
    assert (list(level.history), level.current) == ([2.0, 5.0, 3.0], 3.0)


@pytest.mark.parametrize(
    ("value", "top"), [(0.0, 1.0), (0.04, 0.05), (1.0, 1.0), (1.1, 1.5), (2.1, 3.0), (4.9, 5.0), (7.1, 10.0), (123456.0, 150000.0)]
)
def test_scales_are_round(value: float, top: float) -> None:
    """The next of a few figures times a power of ten."""
    assert ceiling(value) == pytest.approx(top)


def test_a_chart_lies_in_its_picture() -> None:
    """The largest value stays below the top, zero is the lower edge."""
    drawn = chart([0.0, 5.0, 10.0])
    points = [tuple(map(float, point.split(","))) for point in drawn.line.removeprefix("M").split()]
    assert points[0] == (0.0, HEIGHT)
    assert all(0.0 < y <= HEIGHT for _, y in points)
    assert drawn.top == 10.0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (page.in_bytes(0), "0 B"),
        (page.in_bytes(1536), "1.5 KiB"),
        (page.in_bytes(3 << 30), "3.0 GiB"),
        (page.in_bytes(5 << 40), "5.0 TiB"),
        (page.amount(0.25), "0.2"),
        (page.amount(950), "950"),
        (page.amount(12345), "12.3 k"),
        (page.amount(4_560_000), "4.56 M"),
        (page.amount(2e9), "2 G"),
        (page.duration(0.4), "0\N{NO-BREAK SPACE}s"),
        (page.duration(3725), "1\N{NO-BREAK SPACE}h 2\N{NO-BREAK SPACE}min"),
        (page.duration(90_000), "1\N{NO-BREAK SPACE}d 1\N{NO-BREAK SPACE}h"),
        (page.brief(0.31), "0.3\N{NO-BREAK SPACE}s"),
        (page.brief(60), "1\N{NO-BREAK SPACE}min"),
        (page.milliseconds(0.1234), "0.12"),
        (page.milliseconds(12.34), "12.3"),
        (page.milliseconds(12345.0), "12,345"),
    ],
)
def test_figures_are_for_people(said: str, expected: str) -> None:
    """Sizes, amounts and times in a few digits."""
    assert said == expected


def test_everything_shown_is_escaped() -> None:
    """Names, ids and messages of hostile clients stay text."""
    evil = "<script>alert('x')</script>\"'&"
    calls, recent = CallCounts(), RecentCalls()
    recent.call_ended(finished(request_id=evil, caller=evil, status="INVALID_ARGUMENT", message=evil))
    view = view_of("idle", datasets=[entry(evil, evil, 8)])
    shown = page.Page(view, calls, recent, page.Throughput(view, calls)).whole()
    assert "<script>alert" not in shown
    assert shown.count("&lt;script&gt;alert") == 7


def test_a_cluster_has_workers_elsewhere() -> None:
    """With a Dask cluster the page names it, and says of its workers what is known here: no processes, and no number that there should be."""
    view, calls = view_of("busy", "idle"), CallCounts()
    census = Census(tuple(WorkerCensus(number, 0, "idle", 0, 1 << 20) for number in range(3)), 0, 0, Totals())
    view.settings, view.pool = Settings(executor="tcp://scheduler:8786"), Standing(census=census)
    shown = page.Page(view, calls, RecentCalls(), page.Throughput(view, calls)).live()
    assert "3, of the cluster tcp://scheduler:8786" in shown
    assert shown.count("1.0 MiB") == 3
    assert not any(word in shown for word in ("process 0", "0 shards", "<meter"))


# Access.


class OneToken:
    """Knows one token."""

    def principal(self, metadata: Any) -> Principal:
        if dict(metadata).get("authorization") != "Bearer right":
            raise UnauthenticatedError("no")
        return Principal("alice", scopes=frozenset({"read"}))


@pytest.mark.parametrize("header", ["Bearer right", "Basic dTpyaWdodA==", "basic OnJpZ2h0"])
def test_tokens_come_as_bearer_or_password(header: str) -> None:
    """Both forms name the same token; its scopes decide."""
    access.require(OneToken(), header, "read")
    with pytest.raises(PermissionDeniedError):
        access.require(OneToken(), header, "admin")


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic right", "Basic dTp3cm9uZw==", "Basic \xff", "right"])
def test_other_headers_open_nothing(header: str) -> None:
    """No token, a wrong one, and what is no header of this kind."""
    with pytest.raises(UnauthenticatedError):
        access.require(OneToken(), header, "read")


def test_paths_and_their_scopes() -> None:
    """Health and the page's own files are for all, metrics for readers, everything else for administrators."""
    paths = ("/healthz", "/static/style.css", "/metrics", "/", "/live", "/graphs/x", "/nothing", "/healthz/", "//healthz")
    assert [access.scope_of(path) for path in paths] == [None, None, "read", *["admin"] * 6]
    assert EVERYBODY.scopes >= {"read", "admin"}


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1:8080", True),
        ("localhost", True),
        ("localhost:1", True),
        ("[::1]:8080", True),
        ("[::1]", True),
        ("evil.example:8080", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_names_that_are_this_machine(host: str, ours: bool) -> None:
    """Addresses and localhost; any other name may be somebody's who wants to read with a visitor's browser."""
    assert access.names_this_machine(host) is ours
