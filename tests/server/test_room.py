"""Where the machine has no room: too many open files, a worker that never becomes ready."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_server import pool as pool_module
from sumgrad_server import status
from sumgrad_server.faults import ROOM_ERRORS
from sumgrad_server.settings import Settings


@pytest.mark.parametrize("number", sorted(ROOM_ERRORS))
def test_full_machines_are_named(number: int) -> None:
    """An error of the system that says that something is full is RESOURCE_EXHAUSTED, and says what."""
    refusal = status.refusal(OSError(number, os.strerror(number)), "", 1.0)
    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert os.strerror(number) in refusal.message


def test_other_errors_of_the_system_are_our_fault() -> None:
    """Anything else that the system says is for the log."""
    assert status.refusal(OSError(errno.EBADF, "bad"), "", 1.0).code is grpc.StatusCode.INTERNAL


def graphs(count: int, constant: Any) -> list[sg.Objective]:
    """Objectives that differ."""
    return [sg.Objective(sg.sum(sg.input("x") * sg.param("w", 1.0) * constant) + number) for number in range(count)]


def test_more_graphs_than_open_files(support: Any) -> None:
    """Small graphs take no descriptors; when large ones have taken all, requests are told so, and the server goes on."""
    most = 160
    with support.running("--workers", "1", prefix=["prlimit", f"--nofile={most}:{most}"]) as server:
        small = [server.client.register(objective.graph) for objective in graphs(2 * most, 1.0)]
        large = graphs(most, np.linspace(0.0, 1.0, 10_000))
        code, details, _ = support.refused(lambda: [server.client.register(objective.graph) for objective in large])
        assert (code, details["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_ROOM")
        answer = server.client.gradient(small[3], {"w": np.array(1.0)}, {"x": np.ones(2)})
        assert answer.value == 2.0 + 2 * 3


def test_a_worker_that_is_stopped_before_it_is_ready_is_replaced(support: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker stays behind for ever while it starts: after a while it is killed, and another one takes its place."""
    monkeypatch.setattr(pool_module, "START_SECONDS", 6.0)
    stopped: list[subprocess.Popen[bytes]] = []
    start = pool_module._start_worker

    def first_stopped(theirs: Any) -> subprocess.Popen[bytes]:
        popen = start(theirs)
        if not stopped:
            stopped.append(popen)
            os.kill(popen.pid, signal.SIGSTOP)
        return popen

    monkeypatch.setattr(pool_module, "_start_worker", first_stopped)

    async def run() -> int:
        pool = pool_module.Pool(Settings(workers=1, cache_dir="", stall_seconds=0.2))
        pool.start()
        await asyncio.wait_for(pool.ready.wait(), support.PATIENCE)
        ready = pool.census().workers[0].pid
        pool.abort()
        await pool.stopped.wait()
        return ready

    assert asyncio.run(run()) != stopped[0].pid
