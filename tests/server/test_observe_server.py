"""A real server, as those see it who watch it: HTTP, health, status, logs and traces."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.graphs import StoredGraph, graph_id
from sumgrad_server.jobs import SharedGraph
from sumgrad_server.observe import connections, drawing, drawings
from sumgrad_server.observe.connections import MOST_CONNECTIONS
from sumgrad_server.tasks import Signature
from sumgrad_tests.requests import upload

SERVICES = ("", "sumgrad.v1.GradientService")
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def watched(support: Any) -> Iterator[Any]:
    """A server with its metrics address, for tests that leave it whole."""
    with support.running("--workers", "2", "--metrics-address", "127.0.0.1:0") as made:
        yield made


def ask(server: Any, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection(server.metrics, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def metric(server: Any, line: str) -> float:
    """The value of a metric with its labels."""
    (found,) = re.findall(rf"^{re.escape(line)} (\S+)$", ask(server, "/metrics")[2], re.MULTILINE)
    return float(found)


def status(server: Any) -> wire.GetStatusResponse:
    """What GetStatus says."""
    answer: wire.GetStatusResponse = server.client.unary("GetStatus", wire.GetStatusRequest(request_id="s"), wire.GetStatusResponse)
    return answer


def health(server: Any, service: str = "") -> int:
    """What the health service says of a service."""
    answer = health_pb2_grpc.HealthStub(server.client.channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
    return int(answer.status)


# HTTP.


def test_calls_come_to_be_counted(support: Any, watched: Any) -> None:
    """A gradient raises the counters of its method, of jobs and of samples."""
    objective = support.slow_objective(2)
    name = watched.client.register(objective.graph)
    before = metric(watched, "sumgrad_summed_samples_total"), metric(watched, 'sumgrad_jobs_total{outcome="finished"}')
    watched.client.gradient(name, objective.params, support.slow_samples(2))
    assert metric(watched, "sumgrad_summed_samples_total") == before[0] + 924
    assert metric(watched, 'sumgrad_jobs_total{outcome="finished"}') == before[1] + 1
    assert metric(watched, 'sumgrad_requests_total{method="Gradient",status="OK"}') >= 1
    assert metric(watched, 'sumgrad_requests_in_flight{method="Gradient"}') == 0
    assert metric(watched, "sumgrad_serving") == 1


def test_requests_of_a_stream_are_counted(support: Any, watched: Any) -> None:
    """Each as a call of its own, with its status, its id in the list of errors; and the stream once, with all bytes."""
    objective = support.slow_objective(2)
    name = watched.client.register(objective.graph)
    call = watched.client.channel.stream_stream(
        "/sumgrad.v1.GradientService/GradientStream", wire.GradientRequest.SerializeToString, wire.GradientStreamResponse.FromString
    )
    parameters, inputs = support.named(objective.params), support.named(support.slow_samples(1))
    good = wire.GradientRequest(graph_id=name, parameters=parameters, inputs=inputs)
    answers = list(call(iter([good, wire.GradientRequest(request_id="streamed", graph_id="none"), good]), timeout=60))
    assert [answer.WhichOneof("answer") for answer in answers] == ["gradient", "error", "gradient"]
    part = 'sumgrad_requests_total{{method="GradientStream.Gradient",status="{}"}}'
    assert (metric(watched, part.format("OK")), metric(watched, part.format("NOT_FOUND"))) == (2, 1)
    support.wait_until(lambda: 'sumgrad_requests_total{method="GradientStream",status="OK"} 1.0' in ask(watched, "/metrics")[2], "its end")
    assert metric(watched, 'sumgrad_requests_in_flight{method="GradientStream.Gradient"}') == 0
    assert metric(watched, 'sumgrad_received_bytes_total{method="GradientStream",status="OK"}') > 2 * 412 * 8
    support.wait_until(lambda: ">streamed<" in ask(watched, "/live")[2], "the error")


def test_metrics_say_what_they_are(watched: Any) -> None:
    """The type that Prometheus expects."""
    code, headers, _ = ask(watched, "/metrics")
    assert (code, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")


def test_health_over_http(watched: Any) -> None:
    """200 while a worker is ready."""
    assert ask(watched, "/healthz")[::2] == (200, "serving\n")


@pytest.mark.parametrize("path", ["/", "/live", "/static/page.js", "/metrics", "/nothing", f"/graphs/{'0' * 64}"])
def test_pages_are_locked_up(watched: Any, path: str) -> None:
    """Every answer, errors too, forbids scripts and styles from elsewhere, guessing of types, and frames."""
    _, headers, _ = ask(watched, path)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"], headers["Referrer-Policy"]) == ("nosniff", "DENY", "no-referrer")
    assert "aiohttp" not in headers["Server"]


def test_the_page_needs_nothing_from_elsewhere(watched: Any) -> None:
    """No address of another host, no inline script or style in what is served."""
    _, _, page = ask(watched, "/")
    assert re.findall(r'(?:src|href)="(?!/)[^"]*"', page) == []
    assert re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", page) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nothing", 404),
        ("/static/nothing.css", 404),
        ("/static/..%2f..%2fapp.py", 404),
        ("/static/../page.py", 404),
        ("/graphs/short", 404),
        (f"/graphs/{'0' * 64}", 404),
    ],
)
def test_what_is_not_there(watched: Any, path: str, expected: int) -> None:
    """Unknown paths, files and graphs; the page's own folder is no way out to others."""
    code, _, page = ask(watched, path)
    assert code == expected
    assert "<h1>404: Not Found</h1>" in page


@pytest.mark.parametrize(
    "sent", [b"no HTTP\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n"]
)
def test_what_is_no_request_is_refused_quietly(watched: Any, sent: bytes) -> None:
    """400, and not a line in the log, which strangers could fill otherwise."""
    before = watched.said()
    host, _, port = watched.metrics.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).startswith(b"HTTP/1.0 400")
    assert watched.said() == before


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_for_reading(watched: Any, method: str) -> None:
    """Nothing can be changed here."""
    assert ask(watched, "/", method)[0] == 405


@pytest.mark.parametrize(("host", "expected"), [("localhost:1", 200), ("[::1]", 200), ("evil.example", 403), ("", 403)])
def test_other_names_are_refused(watched: Any, host: str, expected: int) -> None:
    """A page elsewhere that gives its name this machine's address reads nothing."""
    assert ask(watched, "/", Host=host)[0] == expected


def test_connections_are_bounded(watched: Any) -> None:
    """Beyond so many, a connection is ended at once; when they are gone, there is room again."""
    host, _, port = watched.metrics.rpartition(":")
    with contextlib.ExitStack() as held:
        for _ in range(MOST_CONNECTIONS):
            connection = held.enter_context(socket.create_connection((host, int(port))))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        with socket.create_connection((host, int(port))) as one_more:
            assert one_more.recv(1) == b""
    assert _asked_again(watched) == 200


def _asked_again(server: Any) -> int:
    while True:  # the server hears of the ends one by one
        with contextlib.suppress(OSError, http.client.HTTPException):
            return ask(server, "/healthz")[0]


def test_silent_connections_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends nothing, or half a request, is ended after a while; one that has asked for something is not."""
    monkeypatch.setattr(connections, "SILENT_SECONDS", 5.0)

    async def look() -> tuple[bytes, bytes, bytes]:
        runner = web.AppRunner(web.Application(), handle_signals=False)
        await runner.setup()
        ours = connections.Connections(runner)
        server = await asyncio.get_running_loop().create_server(ours.accept, "127.0.0.1", 0)
        lines = [await asyncio.open_connection(*server.sockets[0].getsockname()) for _ in range(3)]
        lines[1][1].write(b"GET / HTTP/1.1\r\nHost: lo")
        while len(runner.server.connections) < 3:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
        ours.look(100.0)
        ours.heard(_of(runner, lines[2][1]))
        ours.look(106.0)
        lines[2][1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found = (await _rest(lines[0][0]), await _rest(lines[1][0]), await lines[2][0].readline())
        for _, writer in lines:
            writer.close()
        server.close()
        await runner.cleanup()
        return found

    assert asyncio.run(look()) == (b"", b"", b"HTTP/1.1 404 Not Found\r\n")


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What is still to come; what was not read by the other end makes its close a reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def _of(runner: web.AppRunner, writer: asyncio.StreamWriter) -> Any:
    """The server's end of a connection."""
    (found,) = (end for end in runner.server.connections if end.transport.get_extra_info("peername") == writer.get_extra_info("sockname"))
    return found


def test_a_graph_is_drawn(support: Any, watched: Any) -> None:
    """Its page has the picture, with names escaped, and the leaves; the page of the server links to it."""
    name = watched.client.register(sg.Objective(sg.input("<script>") * sg.param("a&b", 1.0)).graph)
    code, _, page = ask(watched, f"/graphs/{name}")
    assert code == 200
    assert page.count("<svg") == 1
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "a&amp;b" in page
    support.wait_until(lambda: f'href="/graphs/{name}"' in ask(watched, "/live")[2], "the link")


def test_graphs_on_the_disk_are_listed_and_drawn(support: Any, tmp_path: Path) -> None:
    """After a restart the page knows the graphs of the state directory, and draws one that nobody has used since."""
    flags = ("--workers", "1", "--metrics-address", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"))
    with support.running(*flags) as server:
        name = server.client.register(support.slow_objective(2).graph)
        server.terminate()
    with support.running(*flags) as server:
        assert (status(server).graphs, metric(server, "sumgrad_graphs")) == (1, 1)
        page = ask(server, "/live")[2]
        assert f'href="/graphs/{name}"' in page
        assert "on the disk" in page
        code, _, page = ask(server, f"/graphs/{name}")
        assert (code, page.count("<svg")) == (200, 1)


def test_a_large_graph_is_told_about(watched: Any) -> None:
    """More nodes than a picture holds: figures alone."""
    value: Any = sg.input("x")
    for _ in range(2100):
        value = sg.sin(value)
    name = watched.client.register(sg.Objective(value).graph)
    code, _, page = ask(watched, f"/graphs/{name}")
    assert (code, "<svg" in page, "more than 2,000 nodes" in page) == (200, False, True)


# Drawing.


def stored(support: Any, graph: Any) -> StoredGraph:
    """A graph as the store has it."""
    data = support.graph_bytes(graph)
    outputs = tuple((name, graph.types[node]) for name, node in graph.outputs.items())
    return StoredGraph(SharedGraph.of(graph_id(data), data, b""), Signature(graph.node_count, graph, outputs, objective=sg.GraphError("")))


def ladder(steps: int) -> Any:
    """A deep graph in which everything needs the input: placing its nodes takes long."""
    x = sg.input("x")
    value = x
    for _ in range(steps):
        value = sg.sin(value) + x
    return sg.Objective(value).graph


@pytest.mark.parametrize(
    ("limit", "expected", "kept"),
    [("SECONDS", drawings.TOO_LONG, True), ("PATIENCE_SECONDS", drawings.BUSY, False)],
    ids=["processor time", "patience"],
)
def test_drawing_is_given_up(support: Any, monkeypatch: pytest.MonkeyPatch, limit: str, expected: Any, kept: bool) -> None:
    """A graph that takes too much time gets no picture, and only if the graph was to blame that is for good; the loop goes on meanwhile."""
    monkeypatch.setattr(drawings, limit, 1)
    graph = stored(support, ladder(900))

    async def draw() -> tuple[drawings.Picture, int, int]:
        made, turns = drawings.Drawings(), 0
        task = asyncio.create_task(made.of(graph))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.01)
        return await task, turns, len(made._kept)

    picture, turns, count = asyncio.run(draw())
    assert picture == expected
    assert count == kept
    assert turns > 20


def test_a_machine_without_room_draws_nothing(support: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no process can be started the page says so, and tries again the next time."""
    graph, limits = stored(support, ladder(3)), resource.getrlimit(resource.RLIMIT_NOFILE)

    async def draw() -> list[drawings.Picture]:
        made = drawings.Drawings()
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), limits[1]))
        try:
            first = await made.of(graph)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        return [first, await made.of(graph)]

    refused, drawn = asyncio.run(draw())
    assert refused == drawings.BUSY
    assert "<svg" in drawn.svg


def test_a_picture_is_drawn_once(support: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks at the same time shares the process, who asks later gets what is kept."""
    started: list[int] = []
    start = drawings._start

    async def counted() -> Any:
        started.append(1)
        return await start()

    monkeypatch.setattr(drawings, "_start", counted)
    graph = stored(support, ladder(3))

    async def draw() -> list[drawings.Picture]:
        made = drawings.Drawings()
        both = await asyncio.gather(made.of(graph), made.of(graph))
        return [*both, await made.of(graph)]

    pictures = asyncio.run(draw())
    assert len(started) == 1
    assert all("<svg" in picture.svg for picture in pictures)


def test_pictures_are_bounded(support: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too large is not shown, and of those that are kept the oldest go."""
    monkeypatch.setattr(drawings, "KEPT", 1)
    first, second = stored(support, ladder(2)), stored(support, ladder(3))

    async def draw() -> tuple[list[str], drawings.Picture]:
        made = drawings.Drawings()
        await made.of(first)
        await made.of(second)
        kept = list(made._kept)
        monkeypatch.setattr(drawings, "MOST_BYTES", 1000)
        return kept, await made.of(first)

    kept, refused = asyncio.run(draw())
    assert kept == [second.shared.ref.id]
    assert refused == drawings.FAILED


def test_names_of_clients_fit_into_boxes() -> None:
    """Long names are cut, control characters replaced."""
    assert drawing.shown("a\x00b\u202ec") == "a\ufffdb\ufffdc"
    assert len(drawing.shown("x" * 10_000)) == drawing.NAME_LENGTH + 1


def test_several_outputs_are_in_one_picture(support: Any) -> None:
    """Loss, penalty and metrics each by name, below a node that takes them all."""
    w = sg.param("w", np.zeros(2))
    objective = sg.Objective(sg.sum(w * sg.input("x")), penalty=sg.sum(w * w), metrics={"size": sg.sum(w)})
    picture = drawing.picture(support.graph_bytes(objective.graph))
    for name in ("loss", "penalty", "metric:size", "outputs"):
        assert f">{name}<" in picture


# Health and status.


def test_health_is_told_by_name(watched: Any) -> None:
    """For the server as a whole and for the service; other names are unknown."""
    assert [health(watched, service) for service in SERVICES] == [SERVING, SERVING]
    with pytest.raises(grpc.RpcError) as refused:
        health(watched, "no.such.Service")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_health_follows_the_workers(support: Any) -> None:
    """NOT_SERVING when all workers were killed, for watchers, for HTTP and in the metrics; SERVING again with their successors."""
    with support.running("--workers", "2", "--metrics-address", "127.0.0.1:0") as server:
        heard: list[int] = []
        call = health_pb2_grpc.HealthStub(server.client.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICES[1]), timeout=60)
        thread = threading.Thread(target=_listen, args=[call, heard])
        thread.start()
        support.wait_until(lambda: heard == [SERVING], "the first health")
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        support.wait_until(lambda: ask(server, "/healthz")[0] == 503, "ill health over HTTP")
        support.wait_until(lambda: heard[1:] == [NOT_SERVING, SERVING], "the health of the successors")
        assert ask(server, "/healthz")[0] == 200
        assert status(server).worker_restarts == 2
        call.cancel()
        thread.join()


def _listen(call: Any, heard: list[int]) -> None:
    with contextlib.suppress(grpc.RpcError):  # cancelled, at the end
        for answer in call:
            heard.append(int(answer.status))  # noqa: PERF401 - each as it comes


def test_workers_that_stand_still_before_they_are_ready(support: Any) -> None:
    """A worker that is being started does not make a server serve: with successors that are stopped, health stays bad until they go on."""
    with support.running("--workers", "1", "--metrics-address", "127.0.0.1:0") as server:
        (first,) = server.workers()
        os.kill(first, signal.SIGKILL)
        support.wait_until(lambda: server.workers() not in ([], [first]), "the successor")
        (second,) = server.workers()
        # Until its exec it has the front's command line, and the front waits for it.
        support.wait_until(lambda: "sumgrad_server.worker" in Path(f"/proc/{second}/cmdline").read_text(), "its program")
        os.kill(second, signal.SIGSTOP)
        support.wait_until(lambda: health(server) == NOT_SERVING, "ill health")
        assert metric(server, "sumgrad_serving") == 0
        assert metric(server, 'sumgrad_workers{state="starting"}') == 1
        assert "Not serving: no worker is ready" in ask(server, "/live")[2]
        os.kill(second, signal.SIGCONT)
        support.wait_until(lambda: health(server) == SERVING, "good health")


def test_a_server_that_drains_says_so(support: Any) -> None:
    """After SIGTERM, while a request still runs: NOT_SERVING, 503, and `draining` in the status."""
    with support.running("--workers", "1", "--metrics-address", "127.0.0.1:0", "--grace", "60") as server:
        objective = support.slow_objective()
        name = server.client.register(objective.graph)
        running = server.client.gradient_future(name, objective.params, support.slow_samples(4_000), evaluator=wire.EVALUATOR_REFERENCE)
        server.wait_for_work()
        server.process.send_signal(signal.SIGTERM)
        support.wait_until(lambda: ask(server, "/healthz")[0] == 503, "the drain")
        assert [health(server, service) for service in SERVICES] == [NOT_SERVING, NOT_SERVING]
        assert status(server).draining
        assert "Draining" in ask(server, "/live")[2]
        running.cancel()
        assert server.process.wait(support.PATIENCE) == 0


def test_status_tells_how_it_stands(support: Any, watched: Any) -> None:
    """Version, workers with their processes and states, totals, and what is held."""
    before = status(watched)
    objective = support.slow_objective(3)
    name = watched.client.register(objective.graph)
    watched.client.gradient(name, objective.params, support.slow_samples(1))
    support.refused(lambda: watched.client.gradient(name, {}, {}))
    after = status(watched)
    assert after.request_id == "s"
    assert re.fullmatch(r"\d+\.\d+\.\d+", after.version)
    assert after.uptime_seconds > before.uptime_seconds > 0.0
    assert sorted(worker.process_id for worker in after.workers) == watched.workers()
    assert {worker.state for worker in after.workers} <= {wire.WORKER_STATE_IDLE, wire.WORKER_STATE_BUSY}
    assert after.summed_samples == before.summed_samples + 412
    assert after.finished_requests == before.finished_requests + 2
    assert (after.graphs, after.datasets, after.draining) == (before.graphs + 1, 0, False)


def test_datasets_are_told_of(support: Any) -> None:
    """By the status, the metrics and the page; content that goes by two names is there once."""
    with support.running("--workers", "1", "--metrics-address", "127.0.0.1:0") as server:
        call = server.client.channel.stream_unary(
            "/sumgrad.v1.GradientService/UploadDataset",
            wire.UploadDatasetRequest.SerializeToString,
            wire.UploadDatasetResponse.FromString,
        )
        for name in ("<b>train</b>", "again"):
            call(iter(upload(name, {"x": np.arange(200.0).reshape(100, 2), "y": np.arange(100)}, 1 << 20)), timeout=60)
        told = status(server)
        assert (told.datasets, told.dataset_bytes) == (2, 2400)
        assert (metric(server, "sumgrad_datasets"), metric(server, "sumgrad_dataset_bytes")) == (2.0, 2400.0)
        page = ask(server, "/")[2]
        assert "&lt;b&gt;train&lt;/b&gt;" in page
        assert "2.3 KiB" in page
        assert metric(server, 'sumgrad_received_bytes_total{method="UploadDataset",status="OK"}') > 2 * 2400


# Logs and traces.


def test_a_log_for_machines(support: Any) -> None:
    """With --log-format json every line is an object, and a refused call is one with its id and what was wrong."""
    with support.running("--workers", "1", "--log-format", "json", "--log-level", "debug") as server:
        support.refused(lambda: server.client.gradient("nothing", {}, {}))
        server.client.unary("GetStatus", wire.GetStatusRequest(request_id="fine"), wire.GetStatusResponse)
        assert server.terminate() == 0
        said = [json.loads(line) for line in server.said().splitlines()]
    (bad,) = [line for line in said if line.get("status") == "NOT_FOUND"]
    (fine,) = [line for line in said if line.get("request_id") == "fine"]
    assert (bad["level"], bad["method"], bad["request_id"]) == ("info", "Gradient", "gradient")
    assert "'nothing'" in bad["error"]
    assert (fine["level"], fine["status"]) == ("debug", "OK")
    assert bad["caller"].startswith("ipv4:127.0.0.1:")
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in said)


def test_a_call_is_traced(support: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OTEL_ variables, a call that came with a traceparent is a span of that trace, with the samples that it summed."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    trace = "0af7651916cd43dd8448eb211c80319c"
    objective = support.slow_objective(1)
    with support.running("--workers", "1") as server:
        name = server.client.register(objective.graph)
        request = wire.GradientRequest(
            request_id="traced", graph_id=name, parameters=support.named(objective.params), inputs=support.named(support.slow_samples(1))
        )
        call = server.client.channel.unary_unary(
            "/sumgrad.v1.GradientService/Gradient", wire.GradientRequest.SerializeToString, wire.GradientResponse.FromString
        )
        call(request, metadata=[("traceparent", f"00-{trace}-b7ad6b7169203331-01")], timeout=60)
        assert server.terminate() == 0
        said = server.said()
    spans = [json.loads(span) for span in re.findall(r"^\{$.*?^\}$", said, re.MULTILINE | re.DOTALL)]
    (traced,) = [span for span in spans if span["attributes"].get("sumgrad.request_id") == "traced"]
    assert (traced["context"]["trace_id"], traced["parent_id"]) == (f"0x{trace}", "0xb7ad6b7169203331")
    assert (traced["attributes"]["sumgrad.samples"], traced["attributes"]["rpc.grpc.status_code"]) == (412, "OK")


@pytest.mark.parametrize("address", ["taken", "unix:/nowhere"])
def test_a_bad_metrics_address_keeps_it_from_starting(watched: Any, address: str) -> None:
    """A port that is taken, and what is none: one line that names it, and exit code 1."""
    wanted = watched.metrics if address == "taken" else address
    command = [sys.executable, "-m", "sumgrad_server", "--address", "127.0.0.1:0", "--workers", "1", "--metrics-address", wanted]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"can't serve metrics on {wanted}" in done.stderr
