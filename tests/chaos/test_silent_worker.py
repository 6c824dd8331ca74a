"""A worker that reads nothing while more is sent to it than the socket between takes: the front goes on, and replaces it."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from grpc_health.v1 import health_pb2, health_pb2_grpc

pytestmark = pytest.mark.chaos

GRAPHS = 40


def objective(number: int) -> sg.Objective:
    """Objectives that differ, each of some 50 KB."""
    constant, w = np.random.default_rng(number).normal(size=6000), sg.param("w", 1.0)
    return sg.Objective(sg.input("x") * w + sg.sum(w * constant) * 0.0 + number)


def test_a_stopped_worker_stops_nobody_else(support: Any) -> None:
    """With far more on the way to a stopped worker than a socket holds, health is answered, the worker is replaced, and all sums come."""
    with support.running("--workers", "1", "--stall-seconds", "1") as server:
        objectives = [objective(number) for number in range(GRAPHS)]
        graphs = [server.client.register(each.graph) for each in objectives]
        health = health_pb2_grpc.HealthStub(server.client.channel)
        for _ in range(2):  # so that they are known to be light
            for graph_id in graphs:
                server.client.gradient(graph_id, {"w": np.array(1.0)}, {"x": np.ones(3)})
        (worker,) = server.workers()
        os.kill(worker, signal.SIGSTOP)
        calls = [server.client.gradient_future(graph_id, {"w": np.array(1.0)}, {"x": np.ones(3)}) for graph_id in graphs]
        while support.is_alive(worker):
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=support.PATIENCE) is not None
        assert [server.client.result(call.result()).value for call in calls] == [3.0 + 3 * number for number in range(GRAPHS)]
