"""The server ends under load: told to, it drains; killed, it comes back with its state, and clients go on by themselves."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sumgrad_tests import load, support
from sumgrad_tests.requests import logistic, samples
from sumgrad_tests.served import served

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

OBJECTIVE = logistic()
DATA = samples(5000)


def test_drains_under_load(tmp_path: Path) -> None:
    """After SIGTERM what runs is finished with the right bits, what comes is UNAVAILABLE, the exit code is 0, and nothing is left behind."""
    objective, data = support.slow_objective(), support.slow_samples(600)
    with served(tmp_path, "--workers", "2", "--grace", "60", graceful=False) as server:
        client = load.Client(server.address)
        graph_id = client.register(objective.graph)
        mix = load.questions(client)
        calls = [client.gradient_future(graph_id, objective.params, data) for _ in range(3)]
        support.wait_until(lambda: client.status().active_requests == 3, "the long requests to run")
        with load.running(server.address, mix) as ledger:
            ledger.wait_for(30)
            assert not any(call.done() for call in calls)
            server.process.send_signal(signal.SIGTERM)
            for call in calls:
                support.assert_same_bits(client.result(call.result()), objective.value_and_grad(objective.params, data))
            assert server.process.wait(support.PATIENCE) == 0
        client.close()
        ledger.check(30, allowed=["DRAINING", ""])
        assert any(load.reason_of(asked.error) == "DRAINING" for asked in ledger.refused)
        assert server.workers() == []
