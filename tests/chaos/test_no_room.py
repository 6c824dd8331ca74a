"""No room: shared memory, disk and descriptors run out. Errors say so, what runs goes on, and when there is room again all is as before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import load, support
from sumgrad_tests.mounts import needs_mounts, seen_by, with_mount
from sumgrad_tests.requests import logistic, samples, upload
from sumgrad_tests.served import served

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("load")]

FLOOR = 100
MIB = 1 << 20


@needs_mounts
def test_shared_memory_file_system_is_full(tmp_path: Path) -> None:
    """With a full /dev/shm the server works as ever: it needs no room there."""
    full = with_mount(Path("/dev/shm"), MIB, "{ dd if=/dev/zero of=/dev/shm/full bs=1M count=2 2>/dev/null || true; }")
    with served(tmp_path, "--workers", "2", prefix=full) as server:
        shm = os.statvfs(seen_by(server.pid, Path("/dev/shm")))
        assert shm.f_bavail == 0
        client = load.Client(server.address)
        with load.running(server.address, load.questions(client)) as ledger:
            ledger.reach(FLOOR)
        ledger.check(FLOOR)
        client.close()


def test_shared_memory_can_not_be_had(tmp_path: Path) -> None:
    """Where the system refuses shared memory for a large request, that is told; smaller ones are answered."""
    with served(tmp_path, "--workers", "2", prefix=["prlimit", f"--fsize={4 * MIB}"]) as server:
        client, objective = load.Client(server.address), logistic()
        large = {"x": np.ones((MIB, 2)), "y": np.ones(MIB)}
        with load.running(server.address, load.questions(client)) as ledger:
            for _ in range(3):
                ledger.wait_for(10)
                graph_id = client.register(objective.graph)
                code, details, _ = support.refused(lambda g=graph_id: client.gradient(g, objective.params, large))  # type: ignore[misc]
                assert (code, details["reason"]) in NO_SHARED_MEMORY, details
            ledger.reach(FLOOR)
        ledger.check(FLOOR)
        client.close()


NO_SHARED_MEMORY = {(grpc.StatusCode.RESOURCE_EXHAUSTED, reason) for reason in ("BUSY", "NO_ROOM")}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Any]:
    """A server whose state lies in a file system of 6 MiB."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with served(
        tmp_path, "--workers", "2", "--state-dir", str(state), "--upload-expiry-seconds", "0.2", prefix=with_mount(state, 6 * MIB)
    ) as server:
        yield server


@needs_mounts
def test_state_disk_is_full(small_disk: Any) -> None:
    """Uploads and graphs that find no room are refused as such; what is there is served; what is deleted makes room again."""
    client = load.Client(small_disk.address)
    with load.running(small_disk.address, [*load.questions(client)]) as ledger:
        ledger.wait_for(10)
        for number in range(3):
            code, details, _ = support.refused(lambda n=number: client.upload(upload(f"large {n}", samples(400_000), 1 << 18)))  # type: ignore[misc]
            assert (code, details["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_ROOM")
            ledger.wait_for(10)
        support.wait_until(lambda: fits(client, "fits", 80_000), "what was refused to be gone")
        assert filled_with_graphs(client) > 0
        names = [dataset.name for dataset in client.unary("ListDatasets", wire.ListDatasetsRequest(), wire.ListDatasetsResponse).datasets]
        assert names == ["fits", load.DATASET]
        client.unary("DeleteDataset", wire.DeleteDatasetRequest(dataset="fits"), wire.DeleteDatasetResponse)
        assert fits(client, "fits again", 70_000)
        ledger.reach(FLOOR)
    ledger.check(FLOOR, allowed=["NO_ROOM"])
    client.close()


def fits(client: load.Client, name: str, count: int) -> bool:
    """Whether there is room for a dataset of so many samples; if not, that is what is said."""
    try:
        client.upload(upload(name, samples(count), 1 << 18))
    except grpc.RpcError as error:
        assert load.reason_of(error) == "NO_ROOM"  # noqa: PT017 - that it ends so is what is asked
        return False
    return True


def filled_with_graphs(client: load.Client) -> int:
    """Registers graphs until there is no room for another; how many found some. None may end in a fault of ours."""
    x = sg.input("x")
    for number in range(400):
        constant = sg.Value(np.full(8000, 1.0 + number))
        try:
            client.register(trace({"loss": x * sg.sum(constant)}))
        except grpc.RpcError as error:
            assert load.reason_of(error) == "NO_ROOM"  # noqa: PT017 - that it ends so is what is asked
            return number
    return 400


def test_too_many_open_files(tmp_path: Path) -> None:
    """A server without descriptors for more connections or memory says so, or lets clients wait; those that it has are answered, and later all are."""
    with served(tmp_path, "--workers", "2", prefix=["prlimit", "--nofile=160:160"]) as server:
        client = load.Client(server.address)
        mix = load.questions(client)
        with load.running(server.address, mix) as ledger:
            ledger.wait_for(20)
            crowd = [load.Client(server.address) for _ in range(200)]
            calls = [one.gradient_future(client.register(logistic().graph), logistic().params, samples(), timeout=3.0) for one in crowd]
            codes = {call.code() for call in calls}
            assert codes <= {grpc.StatusCode.OK, *OUT_OF_FILES}, codes
            for one in crowd:
                one.close()
            ledger.wait_for(50)
        ledger.check(FLOOR // 2, allowed=["NO_ROOM", "BUSY", ""])
        with load.running(server.address, mix) as ledger:
            ledger.reach(FLOOR)
        ledger.check(FLOOR, allowed=["NO_ROOM"])
        client.close()


OUT_OF_FILES = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
"""The last two for connections that are not taken in."""
