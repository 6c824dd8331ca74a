"""Faults while many clients ask: every answer has the right bits, every refusal is one of the table, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import load, support
from sumgrad_tests.processes import anonymous_bytes
from sumgrad_tests.served import kill, served

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("load")]

LONG = 8000
"""Blocks that take more than anybody waits for."""
FLOOR = 200


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """A server that loses patience with its workers late: a busy machine is not a fault."""
    with served(tmp_path, "--workers", "3", "--stall-seconds", "30", "--cancel-seconds", "30") as made:
        yield made


@pytest.fixture
def client(server: Any) -> Iterator[load.Client]:
    made = load.Client(server.address)
    yield made
    made.close()


def whole(client: load.Client) -> bool:
    """All workers are there and can work."""
    workers = client.status().workers
    return len(workers) == 3 and all(worker.state != wire.WORKER_STATE_STARTING for worker in workers)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_workers_fail(server: Any, client: load.Client, number: signal.Signals) -> None:
    """Workers that are killed or crash one after the other are replaced; every question is answered."""
    dice, failed = Random(7), []
    with load.running(server.address, load.questions(client)) as ledger:
        for _ in range(8):
            ledger.wait_for(10)
            failed.append(dice.choice(server.workers()))
            kill(failed[-1], number)
            support.wait_until(lambda: not support.is_alive(failed[-1]), "the worker to go")
            support.wait_until(lambda: whole(client), "another worker")
        ledger.reach(FLOOR)
    ledger.check(FLOOR)
    assert not set(failed) & set(server.workers())
    assert client.status().worker_restarts == len(failed)


def test_workers_stop(tmp_path: Path) -> None:
    """Workers that are stopped, and so neither answer nor end, are noticed by their pulse and replaced; every question is answered."""
    with served(tmp_path, "--workers", "3", "--stall-seconds", "2") as server:
        client, stopped = load.Client(server.address), []
        with load.running(server.address, load.questions(client)) as ledger:
            for _ in range(2):
                ledger.wait_for(10)
                stopped.append(server.workers()[0])
                kill(stopped[-1], signal.SIGSTOP)
                support.wait_until(lambda: not support.is_alive(stopped[-1]), "the worker to be replaced")
                support.wait_until(lambda: whole(client), "another worker")
            ledger.reach(FLOOR)
        ledger.check(FLOOR)
        assert client.status().worker_restarts >= len(stopped)
        client.close()


def test_all_workers_fail_at_once(server: Any, client: load.Client) -> None:
    """When all workers are killed in the same moment, three times, questions wait for new ones and are answered."""
    with load.running(server.address, load.questions(client)) as ledger:
        for _ in range(3):
            ledger.wait_for(30)
            for worker in server.workers():
                kill(worker)
            support.wait_until(lambda: whole(client), "other workers")
        ledger.reach(FLOOR)
    # A part that was in work each time may have met three deaths; that can't be told from one that brings them.
    ledger.check(FLOOR, allowed=["WORKERS_LOST"])
    assert len(ledger.refused) <= 6


def test_deadly_part_fails_its_request_only(server: Any, client: load.Client) -> None:
    """The request whose part takes three workers with it is refused, naming its graph; all others are answered."""
    objective = support.slow_objective()
    graph_id = client.register(objective.graph)
    # In debug mode a request is one part, so whoever works on it has all of it.
    request = wire.GradientRequest(
        graph_id=graph_id,
        parameters=support.named(objective.params),
        inputs=support.named(support.slow_samples(LONG)),
        debug=True,
    )
    with load.running(server.address, load.questions(client)) as ledger:
        ledger.wait_for(30)
        call = client.future("Gradient", request, wire.GradientResponse)
        for _ in range(3):
            kill(stuck_worker(client))
        code, details, _ = support.refused(call.result)
        assert (code, details["reason"], details["graph_id"]) == (grpc.StatusCode.INTERNAL, "WORKERS_LOST", graph_id)
        ledger.reach(FLOOR)
    ledger.check(FLOOR)
    assert client.status().worker_restarts == 3


def stuck_worker(client: load.Client) -> int:
    """The worker that has been at the same part for as long as all others took to finish a hundred."""
    last: dict[int, tuple[int, int]] = {}  # of each worker: what it has finished, and how much all had when that changed
    stuck: list[int] = []

    def found() -> bool:
        workers = client.status().workers
        total = sum(worker.finished_shards for worker in workers)
        for worker in workers:
            if last.get(worker.process_id, (-1, 0))[0] != worker.finished_shards:
                last[worker.process_id] = worker.finished_shards, total
        busy = [worker.process_id for worker in workers if worker.state == wire.WORKER_STATE_BUSY]
        stuck[:] = [pid for pid in busy if support.is_alive(pid) and total > last[pid][1] + 100]
        return len(stuck) == 1

    support.wait_until(found, "one worker to be stuck while others work")
    return stuck[0]


def test_memory_runs_out_in_a_worker(tmp_path: Path) -> None:
    """Requests that need more memory than a worker has are told so by the limit's name; the workers stay, and others are answered."""
    most = 600 << 20
    with served(tmp_path, "--workers", "3", "--max-worker-bytes", str(most)) as server:
        client = load.Client(server.address)
        request = hungry_request(client)
        workers = server.workers()
        with load.running(server.address, load.questions(client)) as ledger:
            for _ in range(6):
                ledger.wait_for(10)
                code, details, _ = support.refused(lambda: client.unary("Gradient", request, wire.GradientResponse))
                assert (code, details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_worker_bytes")
            ledger.reach(FLOOR)
        ledger.check(FLOOR)
        assert server.workers() == workers, server.said()[-3000:]
        assert all(anonymous_bytes(worker) < most for worker in workers)
        client.close()


def hungry_request(client: load.Client) -> wire.GradientRequest:
    """A small request whose every sample takes 8 MB, of which the reference evaluator holds a block at a time."""
    x, w = sg.input("x"), sg.param("w", 0.5)
    wide = sg.sin(sg.broadcast_to(x * w, (1000, 1000)))
    graph_id = client.register(trace({"loss": sg.sum(wide * sg.exp(wide))}))
    inputs, parameters = support.named({"x": np.ones(512)}), support.named({"w": np.array(0.5)})
    return wire.GradientRequest(graph_id=graph_id, parameters=parameters, inputs=inputs, evaluator=wire.EVALUATOR_REFERENCE)


def test_deadlines_pass(server: Any, client: load.Client) -> None:
    """Requests whose deadline passes are stopped in the workers, which stay; all others are answered."""
    objective, data = support.slow_objective(), support.slow_samples(LONG)
    graph_id, workers = client.register(objective.graph), server.workers()
    with load.running(server.address, load.questions(client)) as ledger:
        for _ in range(8):
            ledger.wait_for(10)
            call = client.gradient_future(graph_id, objective.params, data, timeout=0.3)
            assert call.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        ledger.reach(FLOOR)
    ledger.check(FLOOR)
    support.wait_until(lambda: client.status().active_requests == 0, "the work to stop")
    assert server.workers() == workers, server.said()[-3000:]


VANISHING = """
import sys
sys.path[:0] = {path!r}
from sumgrad_tests import load, support
client = load.Client(sys.argv[1])
objective = support.slow_objective()
graph_id = client.register(objective.graph)
calls = [client.gradient_future(graph_id, objective.params, support.slow_samples({blocks})) for _ in range(4)]
print("asked", flush=True)
[call.result() for call in calls]
"""


def test_clients_vanish(server: Any, client: load.Client) -> None:
    """When a client's process is killed its work stops in the workers, which stay; all others are answered."""
    workers = server.workers()
    with load.running(server.address, load.questions(client)) as ledger:
        for _ in range(3):
            ledger.wait_for(10)
            vanishing = asking(server.address)
            active(client, at_least=4)
            kill(vanishing.pid)
            vanishing.wait()
            ledger.wait_for(30)
        ledger.reach(FLOOR)
    ledger.check(FLOOR)
    support.wait_until(lambda: client.status().active_requests == 0, "the work to stop")
    assert server.workers() == workers, server.said()[-3000:]


def test_vanished_client_stops_the_work_at_once(server: Any, client: load.Client) -> None:
    """How long the workers go on for a client that is gone: printed."""
    objective = support.slow_objective()
    for _ in range(8):  # whoever compiles doesn't look up
        client.gradient(client.register(objective.graph), objective.params, support.slow_samples(30))
    vanishing = asking(server.address)
    active(client, at_least=4)
    server.wait_for_work()
    kill(vanishing.pid)
    vanishing.wait()
    gone = time.perf_counter()
    support.wait_until(lambda: client.status().active_requests == 0, "the work to stop")
    print(f"the work of a client that was killed stopped {1e3 * (time.perf_counter() - gone):.0f} ms after its end")


def asking(address: str) -> subprocess.Popen[bytes]:
    """A process that has asked four long questions."""
    path = [str(Path(load.__file__).parents[1])]
    process = subprocess.Popen([sys.executable, "-c", VANISHING.format(path=path, blocks=LONG), address], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"asked\n"
    process.stdout.close()
    return process


def active(client: load.Client, at_least: int) -> bool:
    """Waits until so many requests are at work."""
    support.wait_until(lambda: client.status().active_requests >= at_least, f"{at_least} requests to be at work")
    return True
