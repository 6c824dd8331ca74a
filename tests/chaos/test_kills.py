"""Processes die at the worst moment: results keep their bits, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.program import Result
from sumgrad_engine.trace import trace

pytestmark = pytest.mark.chaos

BLOCKS = 600
LONG = 8000
"""Blocks that take more than anybody waits for."""


@pytest.fixture(scope="module")
def objective(support: Any) -> sg.Objective:
    made: sg.Objective = support.slow_objective()
    return made


@pytest.fixture(scope="module")
def data(support: Any) -> dict[str, Any]:
    made: dict[str, Any] = support.slow_samples(BLOCKS)
    return made


@pytest.fixture(scope="module")
def expected(objective: sg.Objective, data: dict[str, Any]) -> Result:
    """The undisturbed sum, in this process."""
    return objective.value_and_grad(objective.params, data)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_bits_do_not_depend_on_the_workers(support: Any, objective: sg.Objective, data: Any, expected: Result, workers: int) -> None:
    """The same minibatch gives the same bits with any number of workers, and in process."""
    with support.running("--workers", str(workers)) as server:
        assert len(server.workers()) == workers
        graph_id = server.client.register(objective.graph)
        support.assert_same_bits(server.client.gradient(graph_id, objective.params, data), expected)


def test_killed_workers_cost_time_and_no_bit(support: Any, objective: sg.Objective, data: Any, expected: Result) -> None:
    """Workers killed one after the other in the middle of a sum are replaced, and the sum has the bits of the undisturbed one."""
    with support.running("--workers", "3") as server:
        graph_id = server.client.register(objective.graph)
        call = server.client.gradient_future(graph_id, objective.params, data)
        killed = []
        for _ in range(4):
            server.wait_for_work(0.05)
            assert not call.done(), "the sum was over too soon to be disturbed"
            killed.append(server.workers()[0])
            os.kill(killed[-1], signal.SIGKILL)
            support.wait_until(lambda: not support.is_alive(killed[-1]), "the worker to die")
        support.assert_same_bits(server.client.result(call.result()), expected)
        support.wait_until(lambda: len(server.workers()) == 3, "replacements")
        assert not set(killed) & set(server.workers())


def test_all_workers_killed_at_once(support: Any, objective: sg.Objective, data: Any, expected: Result) -> None:
    """When every worker dies, the work waits for new ones, and has the same bits."""
    with support.running("--workers", "2") as server:
        graph_id = server.client.register(objective.graph)
        call = server.client.gradient_future(graph_id, objective.params, data)
        server.wait_for_work()
        for worker in server.workers():
            os.kill(worker, signal.SIGKILL)
        assert not call.done()
        support.assert_same_bits(server.client.result(call.result()), expected)


def test_deadly_request_is_given_up(support: Any, objective: sg.Objective, data: Any) -> None:
    """A request whose part has killed three workers is refused, naming its graph; the service goes on."""
    with support.running("--workers", "1") as server:
        graph_id = server.client.register(objective.graph)
        call = server.client.gradient_future(graph_id, objective.params, support.slow_samples(LONG))
        server.wait_for_work()
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        for _ in range(2):
            # The next worker's first shard is the one of which the last one died.
            support.wait_until(lambda: any(maps_an_arena(pid) for pid in server.workers() if pid != worker), "the next worker to have it")  # noqa: B023
            (worker,) = server.workers()
            os.kill(worker, signal.SIGKILL)
        code, details, _ = support.refused(call.result)
        assert (code, details["reason"], details["graph_id"]) == (grpc.StatusCode.INTERNAL, "WORKERS_LOST", graph_id)
        assert server.client.gradient(graph_id, objective.params, support.slow_samples(1)).count == 412


def maps_an_arena(pid: int) -> bool:
    """Whether a worker has a job's arena mapped: it has been sent a shard. Until its exec a new process has the front's command and mappings."""
    try:
        executed = "sumgrad_server.worker" in Path(f"/proc/{pid}/cmdline").read_text()
        return executed and "memfd:sumgrad" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it is gone
        return False


@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_a_killed_server(support: Any, objective: sg.Objective, data: Any, busy: bool) -> None:
    """After kill -9 of the front, idle and busy workers exit, and no shared memory is left."""
    before = set(os.listdir("/dev/shm"))
    with support.running("--workers", "2") as server:
        graph_id = server.client.register(objective.graph)
        workers = server.workers()
        call = server.client.gradient_future(graph_id, objective.params, data) if busy else None
        if busy:
            server.wait_for_work()
        os.kill(server.pid, signal.SIGKILL)
        support.wait_until(lambda: not any(map(support.is_alive, workers)), "the workers to exit")
        if call is not None:
            with pytest.raises(grpc.RpcError):
                call.result()
    assert set(os.listdir("/dev/shm")) <= before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain_finishes_what_runs(support: Any, objective: sg.Objective, data: Any, expected: Result, number: signal.Signals) -> None:
    """On SIGTERM or SIGINT a running request is finished with its bits, the workers go, and the exit code is 0."""
    with support.running("--workers", "2", "--grace", "60") as server:
        graph_id, workers = server.client.register(objective.graph), server.workers()
        call = server.client.gradient_future(graph_id, objective.params, data)
        server.wait_for_work()
        server.process.send_signal(number)
        support.wait_until(lambda: "draining" in server.said(), "the server to drain")
        assert not call.done()
        late = support.Client(server.address)
        with pytest.raises(grpc.RpcError) as refused:
            late.gradient(graph_id, objective.params, support.slow_samples(1))
        late.close()
        assert (refused.value.code(), support.details_of(refused.value)["reason"]) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        support.assert_same_bits(server.client.result(call.result()), expected)
        assert server.process.wait(support.PATIENCE) == 0
        assert not any(map(support.is_alive, workers))


def test_drain_ends_with_the_grace(support: Any, objective: sg.Objective) -> None:
    """What takes longer than the grace is given up, and the exit code is 0 all the same."""
    with support.running("--workers", "2", "--grace", "0.1") as server:
        graph_id, workers = server.client.register(objective.graph), server.workers()
        call = server.client.gradient_future(graph_id, objective.params, support.slow_samples(LONG))
        server.wait_for_work()
        assert server.terminate() == 0
        assert not any(map(support.is_alive, workers))
        code, details, _ = support.refused(call.result)
        assert (code, details["reason"]) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


def test_server_ends_with_its_parent(support: Any) -> None:
    """With --exit-with-parent, the end of stdin ends server and workers."""
    with support.running("--workers", "2", "--exit-with-parent", stdin=subprocess.PIPE) as server:
        workers = server.workers()
        server.process.stdin.close()
        assert server.process.wait(support.PATIENCE) == 0
        assert not any(map(support.is_alive, workers))


def succeeds(call: Any) -> bool:
    """Whether a call gets through; if not, it must be a limit that is in its way."""
    error = call.exception()
    assert error is None or error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return error is None


def test_cancelled_request_stops_and_frees_its_memory(support: Any, objective: sg.Objective) -> None:
    """A cancelled sum stops in the workers, which stay, and its memory serves the next request."""
    data = support.slow_samples(LONG)
    room = str(int(data["x"].nbytes * 1.6))
    with support.running("--workers", "2", "--max-shared-bytes", room) as server:
        graph_id, workers = server.client.register(objective.graph), server.workers()
        quick = server.client.register(trace({"loss": sg.input("x")}))
        for _ in range(2):
            call = server.client.gradient_future(graph_id, objective.params, data)
            server.wait_for_work()
            code, details, _ = support.refused(lambda: server.client.gradient(quick, {}, data))
            assert (code, details["limit"], details["retry"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_shared_bytes", 1.0)
            call.cancel()
            support.wait_until(lambda: succeeds(server.client.gradient_future(quick, {}, data)), "the memory to be free")
        assert server.workers() == workers


def test_expired_deadline_stops_the_work(support: Any, objective: sg.Objective) -> None:
    """A request whose deadline passes is stopped in the workers, and one worker is enough for the next."""
    with support.running("--workers", "1") as server:
        graph_id, workers = server.client.register(objective.graph), server.workers()
        call = server.client.gradient_future(graph_id, objective.params, support.slow_samples(LONG), timeout=0.5)
        assert call.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert server.client.gradient(graph_id, objective.params, support.slow_samples(1)).count == 412
        assert server.workers() == workers


def test_worker_that_does_not_look_up_is_replaced(support: Any, objective: sg.Objective) -> None:
    """A cancelled request whose worker is stuck has it replaced, and the next request is served."""
    with support.running("--workers", "1", "--cancel-seconds", "0.2") as server:
        graph_id = server.client.register(objective.graph)
        (worker,) = server.workers()
        call = server.client.gradient_future(graph_id, objective.params, support.slow_samples(LONG))
        server.wait_for_work()
        os.kill(worker, signal.SIGSTOP)
        call.cancel()
        support.wait_until(lambda: not support.is_alive(worker), "the stuck worker to be killed")
        assert server.client.gradient(graph_id, objective.params, support.slow_samples(1)).count == 412


def test_other_addresses_need_insecure() -> None:
    """An address that other machines reach is refused without --insecure, and the error says so."""
    command = [sys.executable, "-m", "sumgrad_server", "--address", "0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "--insecure" in done.stderr


def test_taken_port_is_an_error(support: Any) -> None:
    """A second server on the same port says what is wrong and exits with 1."""
    with support.running("--workers", "1") as server:
        command = [sys.executable, "-m", "sumgrad_server", "--workers", "1", "--address", server.address]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert f"can't listen on {server.address}" in done.stderr


def test_workers_that_cannot_start_are_an_error(tmp_path: Any) -> None:
    """Where workers die at once, the server says so and exits with 1 instead of spawning for ever."""
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif 'sumgrad_server.worker' in sys.orig_argv: os._exit(3)\n")
    command = [sys.executable, "-m", "sumgrad_server", "--workers", "2", "--address", "127.0.0.1:0"]
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 1
    assert "workers die before they are ready" in done.stderr


def test_health_says_that_it_goes(support: Any, objective: sg.Objective, data: Any) -> None:
    """While it drains, an open health watch sees NOT_SERVING."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with support.running("--workers", "1", "--grace", "60") as server:
        graph_id = server.client.register(objective.graph)
        watch = health_pb2_grpc.HealthStub(server.client.channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        call = server.client.gradient_future(graph_id, objective.params, data)
        server.wait_for_work()
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        assert np.isfinite(call.result().value)
        assert server.process.wait(support.PATIENCE) == 0
