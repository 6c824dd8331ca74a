"""The server ends under load: told to, it drains; killed, it comes back with its state, and clients go on by themselves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
import sumgrad
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import load, support
from sumgrad_tests.requests import logistic, samples, upload
from sumgrad_tests.served import kill, served

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("load")]

OBJECTIVE = logistic()
DATA = samples(5000)


def test_drains_under_load(tmp_path: Path) -> None:
    """After SIGTERM what runs is finished with the right bits, what comes is UNAVAILABLE, the exit code is 0, and nothing is left behind."""
    objective, data = support.slow_objective(), support.slow_samples(1200)
    with served(tmp_path, "--workers", "2", "--grace", "60", graceful=False) as server:
        client = load.Client(server.address)
        graph_id = client.register(objective.graph)
        mix = load.questions(client)
        calls = [client.gradient_future(graph_id, objective.params, data) for _ in range(3)]
        support.wait_until(lambda: client.status().active_requests == 3, "the long requests to run")
        with load.running(server.address, mix) as ledger:
            ledger.wait_for(10)
            assert not any(call.done() for call in calls)
            server.process.send_signal(signal.SIGTERM)
            for call in calls:
                support.assert_same_bits(client.result(call.result()), objective.value_and_grad(objective.params, data))
            assert server.process.wait(support.PATIENCE) == 0
        client.close()
        ledger.check(10, allowed=["DRAINING", ""])
        assert any(load.reason_of(asked.error) == "DRAINING" for asked in ledger.refused)
        assert server.workers() == []


@contextmanager
def restarted(server: Any, folder: Path, *flags: str) -> Iterator[Any]:
    """Another server in the place of one that was killed: the same address, the same state."""
    with served(folder, "--address", server.address, *flags) as made:
        yield made


class Asking:
    """Threads that ask by the client library, of inline and of resident samples, for as long as the block runs."""

    def __init__(self, address: str, graph_id: str, threads: int = 3) -> None:
        self._retry = sumgrad.Retry(attempts=1000, first=0.05, longest=0.2)
        self._address, self._graph_id = address, graph_id
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(threads)]
        self.answered, self.wrong = 0, list[str]()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(support.PATIENCE)
        assert self.wrong == []

    def wait_for(self, more: int) -> None:
        before = self.answered
        support.wait_until(lambda: bool(self.wrong) or self.answered >= before + more, f"{more} answers")
        assert self.wrong == []

    def _ask_on(self) -> None:
        expected = OBJECTIVE.value_and_grad(OBJECTIVE.params, DATA)
        with sumgrad.connect(self._address, timeout=support.PATIENCE, retry=self._retry) as service:
            while not self._enough.is_set():
                try:
                    support.assert_same_bits(service.value_and_grad(OBJECTIVE, OBJECTIVE.params, DATA), expected)
                    self.answered += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
                    self.wrong.append(repr(error))


def test_killed_server_comes_back_with_its_state(tmp_path: Path) -> None:
    """After kill -9 and a restart graphs and datasets are there, workers of the dead one are gone, and clients go on by themselves."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    flags = ("--workers", "2", "--state-dir", str(tmp_path / "state"))
    with served(tmp_path / "first", *flags, graceful=False) as server:
        client, workers = load.Client(server.address), server.workers()
        graph_id = client.register(OBJECTIVE.graph)
        stored = client.upload(upload("kept", DATA)).dataset
        answer = client.unary("Gradient", resident(graph_id), wire.GradientResponse)
        with Asking(server.address, graph_id) as asking:
            asking.wait_for(20)
            kill(server.pid)
            server.process.wait()
            support.wait_until(lambda: not any(map(support.is_alive, workers)), "the workers to go")
            with restarted(server, tmp_path / "second", *flags) as again:
                asking.wait_for(50)
                found = client.unary("Gradient", resident(graph_id), wire.GradientResponse)
                assert (found.value, found.gradients, found.metrics) == (answer.value, answer.gradients, answer.metrics)
                listed = client.unary("ListDatasets", wire.ListDatasetsRequest(), wire.ListDatasetsResponse)
                assert list(listed.datasets) == [stored]
                assert not set(workers) & set(again.workers())
                asking.__exit__()
        client.close()


def resident(graph_id: str) -> wire.GradientRequest:
    return wire.GradientRequest(graph_id=graph_id, parameters=support.named(OBJECTIVE.params), dataset="kept")


def test_upload_that_a_crash_broke_off_leaves_nothing_half_visible(tmp_path: Path) -> None:
    """After kill -9 in mid-upload no dataset is listed; the upload goes on from what was stored, and then the dataset is right."""
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    flags = ("--workers", "1", "--state-dir", str(tmp_path / "state"))
    requests = upload("broken", DATA, piece=1 << 14)
    with served(tmp_path / "first", *flags, graceful=False) as server:
        client, sent = load.Client(server.address), threading.Event()

        def half() -> Iterator[wire.UploadDatasetRequest]:
            yield from requests[: len(requests) // 2]
            sent.wait(support.PATIENCE)

        path = load.SERVICE + "UploadDataset"
        send = client.channel.stream_unary(path, wire.UploadDatasetRequest.SerializeToString, wire.UploadDatasetResponse.FromString)
        call = send.future(half(), timeout=support.PATIENCE)
        support.wait_until(lambda: sum(received(client)) > 0, "something of the upload to be stored")
        kill(server.pid)
        assert call.exception().code() is grpc.StatusCode.UNAVAILABLE
        sent.set()
        server.process.wait()
        with restarted(server, tmp_path / "second", *flags):
            client.channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=support.PATIENCE, wait_for_ready=True)
            assert list(client.unary("ListDatasets", wire.ListDatasetsRequest(), wire.ListDatasetsResponse).datasets) == []
            stored = received(client)
            rest = [request for request in requests if not request.HasField("chunk") or later(request.chunk, stored)]
            client.upload(rest)
            graph_id = client.register(OBJECTIVE.graph)
            found = client.unary(
                "Gradient",
                wire.GradientRequest(graph_id=graph_id, parameters=support.named(OBJECTIVE.params), dataset="broken"),
                wire.GradientResponse,
            )
            support.assert_same_bits(client.result(found), OBJECTIVE.value_and_grad(OBJECTIVE.params, DATA))
            client.close()


def received(client: load.Client) -> list[int]:
    """How much of each column is stored; nothing if the upload is not known."""
    request = wire.DescribeUploadRequest(upload_id="upload of broken")
    call = client.future("DescribeUpload", request, wire.DescribeUploadResponse)
    return [0, 0] if call.code() is grpc.StatusCode.NOT_FOUND else list(call.result().received)


def later(chunk: wire.UploadChunk, stored: list[int]) -> bool:
    """Whether a chunk begins at or after what is stored. Pieces are stored whole."""
    return chunk.offset >= stored[chunk.column]
