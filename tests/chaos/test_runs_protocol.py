"""Members that send everything twice, too late, too early and in any order: what is to be counted is counted once."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import load, support
from sumgrad_tests.served import served

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("load")]

STEPS = 150
WIDTH = 3


@pytest.fixture
def client(tmp_path: Path) -> Iterator[load.Client]:
    with served(tmp_path, "--workers", "1") as server:
        made = load.Client(server.address)
        yield made
        made.close()


def created(client: load.Client, members: int) -> wire.Run:
    """A run whose members send gradients of their own; each step takes the parameters down by the sum of all that was counted."""
    specification = wire.RunSpecification(
        optimizer=wire.Optimizer(sgd=wire.SGD(), learning_rate=wire.Schedule(rate=1.0)), members=members, max_steps=STEPS
    )
    request = wire.CreateRunRequest(name="sums", specification=specification, parameters=support.named({"w": np.zeros(WIDTH)}))
    run: wire.Run = client.unary("CreateRun", request, wire.CreateRunResponse).run
    return run


def gradient(number: int, step: int) -> Any:
    """What a member has to say of a step: integers whose sums tell who was counted how often, when."""
    return np.array([4.0**number, 4.0**number * step, 1.0])


class Line:
    """A stream of Step, as the generated messages have it."""

    def __init__(self, client: load.Client, run: wire.Run, joined: wire.JoinRunResponse) -> None:
        self._outbox: queue.SimpleQueue[wire.StepRequest | None] = queue.SimpleQueue()
        attach = wire.Attach(run=run.id, number=joined.number, session=joined.session)
        self._outbox.put(wire.StepRequest(attach=attach))
        path = load.SERVICE + "Step"
        call = client.channel.stream_stream(path, wire.StepRequest.SerializeToString, wire.StepResponse.FromString)
        self.responses = call(iter(self._outbox.get, None), timeout=support.PATIENCE)

    def contribute(self, number: int, step: int, attempt: int) -> None:
        """Sends a contribution."""
        own = wire.OwnGradient(value=1.0, gradient=gradient(number, step).tobytes(), sample_count=number + 1)
        self._outbox.put(wire.StepRequest(contribution=wire.Contribution(step=step, attempt=attempt, gradient=own)))

    def close(self) -> None:
        """As a connection that is lost."""
        self.responses.cancel()
        self._outbox.put(None)


class Unruly:
    """A member that answers a turn with the right contribution, among others in any order, and loses its connection now and then."""

    def __init__(self, client: load.Client, run: wire.Run, name: str, seed: int) -> None:
        self._client, self._run, self._dice = client, run, Random(seed)
        self.joined = client.unary("JoinRun", wire.JoinRunRequest(run=run.id, member=name), wire.JoinRunResponse)
        self.refused: Counter[str] = Counter()
        self.ended: wire.Ended | None = None

    def work(self) -> None:
        """Until the run has ended."""
        line = Line(self._client, self._run, self.joined)
        while self.ended is None:
            response = next(line.responses)
            match response.WhichOneof("response"):
                case "turn":
                    self._answer(line, response.turn)
                    if self._dice.random() < 0.1:
                        line.close()
                        line = Line(self._client, self._run, self.joined)
                case "error":
                    self._note(response.error)
                case "ended":
                    self.ended = response.ended
        line.close()

    def _answer(self, line: Line, turn: wire.Turn) -> None:
        step, attempt = turn.step, turn.attempt
        wrong = [(max(0, step - 1), attempt), (step + 1, attempt), (step, attempt + 1), (step + 1000, 0), (0, attempt + 7)]
        sent = [(step, attempt), (step, attempt), *self._dice.sample(wrong, self._dice.randrange(len(wrong)))]
        self._dice.shuffle(sent)
        for place in sent:
            line.contribute(self.joined.number, *place)

    def _note(self, error: wire.StreamError) -> None:
        info = error_details_pb2.ErrorInfo()
        assert any(part.Unpack(info) for part in status_pb2.Status.FromString(error.details).details)
        assert (error.code, info.reason) == (grpc.StatusCode.ABORTED.value[0], "STALE_STEP"), error
        assert {"step", "attempt"} <= set(info.metadata), info
        self.refused[info.reason] += 1


def test_each_contribution_counts_once(client: load.Client) -> None:
    """Duplicates, old and future steps, wrong attempts and lost connections: each member is counted once a step, and what is stale is ABORTED."""
    run = created(client, 3)
    members = [Unruly(client, run, name, seed) for seed, name in enumerate(("ada", "bea", "cleo"))]
    with ThreadPoolExecutor(len(members)) as threads:
        for call in [threads.submit(member.work) for member in members]:
            call.result()
    expected = -sum(gradient(number, step) for step in range(STEPS) for number in range(3))
    assert all(member.refused["STALE_STEP"] > STEPS // 2 for member in members)
    for member in members:
        assert member.ended is not None
        assert np.frombuffer(member.ended.parameters).tolist() == expected.tolist()
    found = client.unary("GetRun", wire.GetRunRequest(run=run.id, parameters=True, ledger_from=0), wire.GetRunResponse)
    assert support.array_of(found.parameters[0].array).tolist() == expected.tolist()
    assert [(record.step, list(record.members), list(record.member_samples), record.value) for record in found.ledger] == [
        (step, [0, 1, 2], [1, 2, 3], 3.0) for step in range(STEPS)
    ]


def test_stale_contribution_gets_the_turn_again(client: load.Client) -> None:
    """What a stale contribution is answered with: ABORTED with the step and attempt as they are now, and the turn again; the right one then counts."""
    run = created(client, 1)
    joined = client.unary("JoinRun", wire.JoinRunRequest(run=run.id, member="ada"), wire.JoinRunResponse)
    line = Line(client, run, joined)
    turn = next(line.responses).turn
    line.contribute(0, turn.step + 5, turn.attempt)
    error, again = next(line.responses).error, next(line.responses).turn
    info = error_details_pb2.ErrorInfo()
    assert any(part.Unpack(info) for part in status_pb2.Status.FromString(error.details).details)
    assert (info.reason, info.metadata["step"], info.metadata["attempt"]) == ("STALE_STEP", str(turn.step), str(turn.attempt))
    assert again == turn
    line.contribute(0, turn.step, turn.attempt)
    following = next(line.responses).turn
    assert (following.step, list(following.committed.record.members)) == (turn.step + 1, [0])
    assert np.array_equal(np.frombuffer(following.parameters), -gradient(0, turn.step))
    line.close()


def test_sessions_and_streams_that_are_over_count_nothing(client: load.Client) -> None:
    """What comes from a seat that another process has taken, or with a session that is none, is ABORTED, and nothing of it is counted."""
    run = created(client, 1)
    first, second = (client.unary("JoinRun", wire.JoinRunRequest(run=run.id, member="ada"), wire.JoinRunResponse) for _ in range(2))
    assert first.number == second.number == 0
    assert first.session != second.session
    assert reason(lambda: next(Line(client, run, first).responses)) == "SUPERSEDED"
    forged = wire.JoinRunResponse(run=run, number=7, session=second.session)
    assert reason(lambda: next(Line(client, run, forged).responses)) in ("LEFT_BEHIND", "SUPERSEDED")
    line = Line(client, run, second)
    turn = next(line.responses).turn
    assert (turn.step, list(turn.members)) == (0, [0])
    line.contribute(0, 0, turn.attempt)
    assert np.array_equal(np.frombuffer(next(line.responses).turn.parameters), -gradient(0, 0))
    line.close()


def reason(call: Callable[[], Any]) -> str:
    """Why something is ABORTED."""
    code, details, _ = support.refused(call)
    assert code is grpc.StatusCode.ABORTED, details
    found: str = details["reason"]
    return found
