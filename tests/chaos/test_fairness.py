"""A small request beside a large one: it is answered soon, and the large one is not forgotten. How soon is printed; no test asserts a time.

SUMGRAD_FAIR_ROWS says how many samples the large one has.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import load, support
from sumgrad_tests.requests import logistic, samples, upload
from sumgrad_tests.served import served

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("load")]

ROWS = int(os.environ.get("SUMGRAD_FAIR_ROWS", "1500000"))
CHECKED = 3_000_000
"""Rows up to which the large sum is computed here too."""


def test_small_requests_beside_a_large_one(tmp_path: Path) -> None:
    """While a sum over a large dataset runs, small requests are answered one after the other, and both with the right bits."""
    large, small, data = support.slow_objective(), logistic(), samples()
    column = {"x": np.random.default_rng(3).normal(size=ROWS)}
    with served(tmp_path, "--workers", "2") as server:
        other, client = load.Client(server.address), load.Client(server.address)
        other.upload(upload("large", column, 1 << 20), timeout=600.0)
        request = wire.GradientRequest(graph_id=other.register(large.graph), parameters=support.named(large.params), dataset="large")
        few = wire.GradientRequest(rows=wire.Rows(range=wire.RowRange(start=0, stop=100_000)))
        few.MergeFrom(request)
        other.unary("Gradient", few, wire.GradientResponse)  # compiled from here on
        graph_id, expected = client.register(small.graph), small.value_and_grad(small.params, data)

        def asked() -> float:
            began = time.perf_counter()
            support.assert_same_bits(client.gradient(graph_id, small.params, data), expected)
            return time.perf_counter() - began

        alone = [asked() for _ in range(300)]
        call = other.future("Gradient", request, wire.GradientResponse, timeout=600.0)
        support.wait_until(lambda: client.status().active_requests == 1, "the large sum to run")
        beside = []
        while not call.done():
            beside.append(asked())
        answer = call.result()
        assert len(beside) > 20
        assert answer.sample_count == ROWS
        if ROWS <= CHECKED:
            support.assert_same_bits(other.result(answer), large.value_and_grad(large.params, column))
        other.close()
        client.close()
    print(f"{len(beside)} small requests beside a sum over {ROWS:,} rows: {shown(beside)}; alone: {shown(alone)}; ", end="")
    print(f"ratio of medians {statistics.median(beside) / statistics.median(alone):.1f}")


def shown(seconds: list[float]) -> str:
    """Median and 99th percentile."""
    return f"median {1e3 * statistics.median(seconds):.2f} ms, 99% {1e3 * float(np.quantile(seconds, 0.99)):.2f} ms"
