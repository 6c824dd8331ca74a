"""The methods of training runs on a real server, by nothing but messages: names, limits, seats, turns, errors and their reasons, restarts."""

from __future__ import annotations

import contextlib
import queue
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from google.rpc import error_details_pb2, status_pb2
from sumgrad_engine import optim
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server import tokens
from sumgrad_tests import support
from sumgrad_tests.mounts import needs_mounts, seen_by, with_mount

SERVICE = "/sumgrad.v1.GradientService"
X, W = sg.input("x"), sg.param("w", np.array([0.5, -0.25]))
LOSS = sg.sum((X - W) * (X - W))
OBJECTIVE = sg.Objective(LOSS, penalty=0.25 * sg.sum(W * W), metrics={"positive": X > 0.0})
SAMPLES = {"a": np.array([1.0, -2.0, 0.3]), "b": np.array([0.7, 11.0])}
ABORTED = grpc.StatusCode.ABORTED
LEASE = 3600.0


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A server with small limits, shared by tests that leave it whole."""
    limits = ("--max-runs", "60", "--max-run-members", "4", "--max-run-names", "6", "--max-run-parameters", "100", "--max-run-history", "5")
    with support.running("--workers", "1", *limits) as running:
        yield running


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return str(request.node.name)


def sgd() -> wire.Optimizer:
    return wire.Optimizer(sgd=wire.SGD(momentum=0.5), learning_rate=wire.Schedule(rate=0.125))


def specification(server: Any, **fields: Any) -> wire.RunSpecification:
    """Of a run with the objective and an optimiser, whose leases do not run out."""
    given = {"graph_id": server.client.register(OBJECTIVE.graph), "lease_seconds": LEASE, "optimizer": sgd(), **fields}
    return wire.RunSpecification(**given)


def create(server: Any, name: str, parameters: Any = None, **fields: Any) -> wire.CreateRunResponse:
    """Makes a run."""
    arrays = support.named(OBJECTIVE.params if parameters is None else parameters)
    request = wire.CreateRunRequest(request_id="create", name=name, specification=specification(server, **fields), parameters=arrays)
    found: wire.CreateRunResponse = server.client.unary("CreateRun", request, wire.CreateRunResponse)
    return found


def join(server: Any, name: str, member: str = "a") -> wire.JoinRunResponse:
    """Takes a seat."""
    request = wire.JoinRunRequest(request_id="join", run=name, member=member)
    found: wire.JoinRunResponse = server.client.unary("JoinRun", request, wire.JoinRunResponse)
    return found


def get(server: Any, name: str, **fields: Any) -> wire.GetRunResponse:
    """How a run stands."""
    found: wire.GetRunResponse = server.client.unary("GetRun", wire.GetRunRequest(run=name, **fields), wire.GetRunResponse)
    return found


def stop(server: Any, name: str, *, forget: bool = False) -> wire.Run:
    """Ends a run."""
    request = wire.StopRunRequest(request_id="stop", run=name, forget=forget)
    found: wire.Run = server.client.unary("StopRun", request, wire.StopRunResponse).run
    return found


def listed(server: Any) -> list[str]:
    """Names of all runs."""
    found = server.client.unary("ListRuns", wire.ListRunsRequest(), wire.ListRunsResponse)
    return [run.name for run in found.runs]


def watch(server: Any, name: str, from_step: int = 0) -> Any:
    """What one who watches is told."""
    call = server.client.channel.unary_stream(f"{SERVICE}/WatchRun", wire.WatchRunRequest.SerializeToString, wire.RunProgress.FromString)
    return call(wire.WatchRunRequest(request_id="watch", run=name, from_step=from_step), timeout=support.PATIENCE)


class Seat:
    """A member's stream."""

    def __init__(self, server: Any, run: str, member: str = "a", *, session: str | None = None, number: int | None = None) -> None:
        """Joins, unless it is said which seat there is, and attaches."""
        if session is None or number is None:
            joined = join(server, run, member)
            session, number = joined.session, joined.number
        self.session, self.number = session, number
        self._requests: queue.SimpleQueue[wire.StepRequest | None] = queue.SimpleQueue()
        self.send(wire.StepRequest(attach=wire.Attach(run=run, number=number, session=session)))
        method = server.client.channel.stream_stream(f"{SERVICE}/Step", wire.StepRequest.SerializeToString, wire.StepResponse.FromString)
        self._call = method(iter(self._requests.get, None), timeout=support.PATIENCE)

    def send(self, request: wire.StepRequest | None) -> None:
        self._requests.put(request)

    def next(self) -> wire.StepResponse:
        found: wire.StepResponse = next(self._call)
        return found

    def turn(self, *, anew: bool = False) -> wire.Turn:
        """The next response, which must be a turn. If the step begins anew, it may be said before that the contribution to it was void."""
        response = self.next()
        if anew and response.WhichOneof("response") == "error":
            assert said(response.error)[1] == "STALE_STEP"
            response = self.next()
        assert response.WhichOneof("response") == "turn", response
        return response.turn

    def contribute(self, turn: Any, **part: Any) -> None:
        self.send(wire.StepRequest(contribution=wire.Contribution(step=turn.step, attempt=turn.attempt, **part)))

    def samples(self, turn: Any, values: Any) -> None:
        """Contributes a minibatch."""
        self.contribute(turn, minibatch=wire.Minibatch(inputs=support.named({"x": values})))

    def refused(self) -> tuple[grpc.StatusCode, str, list[str]]:
        """The next response, which must be an error: its code, reason and fields."""
        response = self.next()
        assert response.WhichOneof("response") == "error", response
        return said(response.error)

    def ended(self) -> wire.Ended:
        """The last response, behind which the stream ends well."""
        response = self.next()
        assert response.WhichOneof("response") == "ended", response
        assert list(self._call) == []
        return response.ended

    def broken(self) -> tuple[grpc.StatusCode, str]:
        """Code and reason of the error that the stream ends with."""
        code, details, _ = support.refused(lambda: list(self._call))
        return code, details["reason"]

    def close(self) -> None:
        """Goes away without a word."""
        self.send(None)
        self._call.cancel()


def said(error: wire.StreamError) -> tuple[grpc.StatusCode, str, list[str]]:
    """Code, reason and fields of an error in a stream."""
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    fields: list[str] = []
    for part in status_pb2.Status.FromString(error.details).details:
        part.Unpack(info)
        if part.Unpack(request):
            fields = [violation.field for violation in request.field_violations]
    return next(code for code in grpc.StatusCode if code.value[0] == error.code), info.reason, fields


def reason(call: Callable[[], Any]) -> tuple[str, str]:
    """Code and reason of a call that must be refused."""
    code, details, _ = support.refused(call)
    return code.name, details["reason"]


def test_the_first_makes_a_run_and_the_others_get_it(server: Any, name: str) -> None:
    """One who asks for the same run gets it, whatever parameters it has; the defaults are filled in."""
    made = create(server, name)
    again = create(server, name, {"w": np.ones(2)})
    assert (made.already_known, again.already_known) == (False, True)
    assert made.run == again.run
    assert made.request_id == "create"
    wanted = made.run.specification
    assert (wanted.members, wanted.min_members, wanted.step_timeout_seconds, wanted.lease_seconds) == (1, 1, 600.0, LEASE)
    assert [(entry.name, list(entry.array.shape), entry.array.data) for entry in made.run.parameters] == [("w", [2], b"")]
    assert made.run.state == wire.RUN_STATE_WAITING
    for known in (name, made.run.id):
        found = get(server, known, parameters=True)
        assert found.run == made.run
        assert support.array_of(found.parameters[0].array).tolist() == [0.5, -0.25]
    assert name in listed(server)


def test_a_run_without_a_name_is_called_by_its_id(server: Any) -> None:
    """Two runs without names are two runs."""
    first, second = (create(server, "").run for _ in range(2))
    assert first.id != second.id
    assert first.name == first.id
    for run in (first, second):
        stop(server, run.id, forget=True)


def test_a_name_stands_for_one_specification(server: Any, name: str) -> None:
    """Another specification under the same name is refused, and it is said in what they differ."""
    create(server, name, members=2)
    code, details, message = support.refused(lambda: create(server, name, members=3, max_steps=7))
    assert (code, details["reason"]) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert "another members and max_steps" in message


NOT_SPECIFICATIONS = {
    "a graph that is not known": ({"graph_id": "0" * 64}, "NOT_FOUND", None),
    "more members to go on than to start": ({"members": 2, "min_members": 3}, "INVALID_ARGUMENT", "specification.min_members"),
    "too many members": ({"members": 5}, "INVALID_ARGUMENT", "specification.members"),
    "a negative lease": ({"lease_seconds": -1.0}, "INVALID_ARGUMENT", "specification.lease_seconds"),
    "a lease that is no number": ({"lease_seconds": float("nan")}, "INVALID_ARGUMENT", "specification.lease_seconds"),
    "a step that waits for ever": ({"step_timeout_seconds": float("inf")}, "INVALID_ARGUMENT", "specification.step_timeout_seconds"),
    "an optimiser without a rule": ({"optimizer": wire.Optimizer()}, "INVALID_ARGUMENT", "specification.optimizer.rule"),
    "a rate that is no number": (
        {"optimizer": wire.Optimizer(sgd=wire.SGD(), learning_rate=wire.Schedule(rate=float("nan")))},
        "INVALID_ARGUMENT",
        "specification.optimizer",
    ),
    "a schedule of no steps": (
        {"optimizer": wire.Optimizer(sgd=wire.SGD(), learning_rate=wire.Schedule(rate=1.0, cosine=wire.CosineDecay()))},
        "INVALID_ARGUMENT",
        "specification.optimizer",
    ),
    "a norm below nothing": (
        {"optimizer": wire.Optimizer(sgd=wire.SGD(), learning_rate=wire.Schedule(rate=1.0), clip_norm=-1.0)},
        "INVALID_ARGUMENT",
        "specification.optimizer",
    ),
    "an unknown reduction": ({"reduction": 9}, "INVALID_ARGUMENT", "specification.reduction"),
    "an unknown evaluator": ({"evaluator": 9}, "INVALID_ARGUMENT", None),
    "an unknown precision": ({"precision": 9}, "INVALID_ARGUMENT", None),
}


@pytest.mark.parametrize(("fields", "code", "field"), NOT_SPECIFICATIONS.values(), ids=NOT_SPECIFICATIONS.keys())
def test_wrong_specifications_are_refused(server: Any, name: str, fields: Any, code: str, field: str | None) -> None:
    """What can't be followed is named by its field, and makes no run."""
    found, details, _ = support.refused(lambda: create(server, name, **fields))
    assert found.name == code
    if field is not None:
        assert details["violations"] == [field]
    assert name not in listed(server)


NOT_PARAMETERS = {
    "none": ({}, "INVALID_ARGUMENT"),
    "another shape": ({"w": np.ones(3)}, "INVALID_ARGUMENT"),
    "integers": ({"w": np.ones(2, np.int64)}, "INVALID_ARGUMENT"),
    "one too many": ({"w": np.ones(2), "v": np.ones(2)}, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize(("parameters", "code"), NOT_PARAMETERS.values(), ids=NOT_PARAMETERS.keys())
def test_wrong_parameters_are_refused(server: Any, name: str, parameters: Any, code: str) -> None:
    """Parameters that are not those of the graph make no run."""
    assert reason(lambda: create(server, name, parameters))[0] == code
    assert name not in listed(server)


@pytest.mark.parametrize("length", [0, 101])
def test_runs_without_a_graph_have_some_parameters_and_not_too_many(server: Any, name: str, length: int) -> None:
    """The limit is named."""
    _, details, _ = support.refused(lambda: create(server, name, {"w": np.ones(length)}, graph_id=""))
    assert (details["reason"], details["limit"]) == ("LIMIT_EXCEEDED", "max_run_parameters")


@pytest.mark.parametrize("wrong", ["x" * 257, "a\nb"])
def test_wrong_names_are_refused(server: Any, wrong: str) -> None:
    """Of runs and of members."""
    assert reason(lambda: create(server, wrong))[0] == "INVALID_ARGUMENT"
    create(server, "names")
    for member in (wrong, ""):
        assert reason(lambda m=member: join(server, "names", m))[0] == "INVALID_ARGUMENT"  # type: ignore[misc]


def test_runs_that_are_not_there(server: Any) -> None:
    """Every method says that there is no such run."""
    for call in (
        lambda: join(server, "nobody's"),
        lambda: get(server, "nobody's"),
        lambda: stop(server, "nobody's"),
        lambda: list(watch(server, "nobody's")),
    ):
        assert reason(call) == ("NOT_FOUND", "UNKNOWN_RUN")
    assert Seat(server, "nobody's", number=0, session="s").broken() == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_RUN")


def expected_steps(steps: int, *, mean: bool = False) -> list[bytes]:
    """The flat vector of the parameters after each step that a and b make together: by the engine, member by member."""
    optimizer, params = optim.SGD(0.125, momentum=0.5), dict(OBJECTIVE.params)
    found = []
    for _ in range(steps):
        sums = [sg.Objective(LOSS).value_and_grad(params, {"x": SAMPLES[member]}).grads["w"] for member in "ab"]
        total = sums[0] + sums[1]
        slope = (total / 5 if mean else total) + 0.5 * params["w"]
        params = optimizer.step(params, {"w": slope})
        found.append(params["w"].tobytes())
    return found


@pytest.mark.parametrize("mean", [False, True])
def test_two_members_train(server: Any, name: str, mean: bool) -> None:
    """Turns, the ledger, the parameters and the progress are those of two members whose sums are added in order."""
    create(server, name, members=2, max_steps=7, reduction=wire.REDUCTION_MEAN if mean else wire.REDUCTION_SUM)
    watched = watch(server, name)
    a, b = Seat(server, name, "a"), Seat(server, name, "b")
    for step, params in enumerate([OBJECTIVE.params["w"].tobytes(), *expected_steps(6, mean=mean)]):
        turns = [seat.turn() for seat in (b, a)]
        assert turns[0] == turns[1]
        assert (turns[0].step, turns[0].attempt, list(turns[0].members), turns[0].parameters) == (step, 0, [0, 1], params)
        assert turns[0].HasField("committed") == (step > 0)
        b.samples(turns[0], SAMPLES["b"])
        a.samples(turns[1], SAMPLES["a"])
    for seat in (a, b):
        assert (seat.ended().state, seat.number) == (wire.RUN_STATE_FINISHED, (a, b).index(seat))
    found = get(server, name, parameters=True, ledger_from=0)
    assert found.parameters[0].array.data == expected_steps(7, mean=mean)[-1]
    assert [(line.step, list(line.members), list(line.member_samples)) for line in found.ledger] == [
        (s, [0, 1], [3, 2]) for s in range(2, 7)
    ]
    assert [(member.name, member.steps, member.sample_count) for member in found.run.members] == [("a", 7, 21), ("b", 7, 14)]
    told = list(watched)
    steps = [line.step for part in told for line in part.steps]
    assert steps == sorted(set(steps))
    assert steps[-5:] == list(range(2, 7))  # five are kept for one who is not asking just now
    assert told[-1].run.state == wire.RUN_STATE_FINISHED
    assert [line.step for part in watch(server, name, 4) for line in part.steps] == [4, 5, 6]


def test_a_ledger_from_beyond_its_end_is_empty(server: Any, name: str) -> None:
    """From any number on that the wire can hold."""
    create(server, name)
    seat = Seat(server, name)
    seat.samples(seat.turn(), SAMPLES["a"])
    assert seat.turn().step == 1
    for first in (1, 2, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
        assert not get(server, name, ledger_from=first).ledger
        watched = watch(server, name, first)
        assert not next(watched).steps
        watched.cancel()
    assert len(get(server, name, ledger_from=0).ledger) == 1


def test_a_seat_is_taken_over(server: Any, name: str) -> None:
    """Who joins under a name that is there takes its seat: the stream before ends, and its session is worth nothing any more."""
    create(server, name)
    first = Seat(server, name)
    turn = first.turn()
    second = Seat(server, name)
    assert second.number == first.number
    assert first.broken() == (ABORTED, "SUPERSEDED")
    assert Seat(server, name, number=0, session=first.session).broken() == (ABORTED, "SUPERSEDED")
    assert second.turn() == turn
    third = Seat(server, name, number=0, session=second.session)
    assert second.broken() == (ABORTED, "SUPERSEDED")
    third.samples(third.turn(), SAMPLES["a"])
    assert third.turn().step == 1


@pytest.mark.parametrize("session", ["x" * 15, "x" * 65, "é" * 20, "a\n" * 10])
def test_sessions_that_are_none_are_refused(server: Any, name: str, session: str) -> None:
    """What others might guess, or what can't be shown."""
    create(server, name)
    request = wire.JoinRunRequest(request_id="join", run=name, member="a", session=session)
    assert reason(lambda: server.client.unary("JoinRun", request, wire.JoinRunResponse)) == ("INVALID_ARGUMENT", "BAD_INPUT")


def test_a_seat_that_is_asked_for_twice_keeps_its_stream(server: Any, name: str) -> None:
    """With the session that the member has made."""
    create(server, name)
    request = wire.JoinRunRequest(request_id="join", run=name, member="a", session="mine" * 4)
    joined, again = (server.client.unary("JoinRun", request, wire.JoinRunResponse) for _ in range(2))
    assert (joined.number, joined.session) == (again.number, again.session) == (0, "mine" * 4)
    seat = Seat(server, name, session=joined.session, number=joined.number)
    begun = seat.turn()
    server.client.unary("JoinRun", request, wire.JoinRunResponse)
    seat.samples(begun, SAMPLES["a"])
    assert seat.turn().step == 1


def test_a_silent_member_is_left_behind(server: Any, name: str) -> None:
    """Without a word for a lease, the seat is given up: the others go on with another attempt, and who joins again has the number again."""
    create(server, name, members=2, lease_seconds=2.0)
    silent, other = Seat(server, name, "a"), Seat(server, name, "b")
    turn = silent.turn()
    other.samples(other.turn(), SAMPLES["b"])

    def left() -> bool:
        other.send(wire.StepRequest(heartbeat=wire.Heartbeat()))
        return get(server, name).run.members[0].state == wire.MEMBER_STATE_LEFT

    support.wait_until(left, "the seat to be given up")
    assert silent.broken() == (ABORTED, "LEFT_BEHIND")
    found = other.turn(anew=True)
    assert (found.step, found.attempt, list(found.members)) == (turn.step, 1, [1])
    assert Seat(server, name, number=0, session=silent.session).broken() == (ABORTED, "LEFT_BEHIND")
    assert join(server, name, "a").number == 0


def test_no_more_members_than_allowed(server: Any, name: str) -> None:
    """The fifth member is refused, and the limit named; one that has a seat gets it again, and a seat that is given up is free."""
    create(server, name)
    seats = [Seat(server, name, member) for member in "abcd"]
    code, details, _ = support.refused(lambda: join(server, name, "e"))
    assert (details["reason"], details["limit"]) == ("LIMIT_EXCEEDED", "max_run_members"), code
    assert join(server, name, "d").number == 3
    seats[1].send(wire.StepRequest(leave=wire.Leave()))
    seats[1].ended()
    assert join(server, name, "e").number == 4


def test_no_more_names_than_allowed(server: Any, name: str) -> None:
    """Members that come and go under ever new names are refused at last; who was there may come back."""
    create(server, name, members=2)
    for member in "abcdef":
        seat = Seat(server, name, member)
        seat.send(wire.StepRequest(leave=wire.Leave()))
        seat.ended()
    _, details, _ = support.refused(lambda: join(server, name, "g"))
    assert (details["reason"], details["limit"]) == ("LIMIT_EXCEEDED", "max_run_names")
    assert join(server, name, "b").number == 1


def test_a_member_leaves(server: Any, name: str) -> None:
    """Its stream ends well; the step begins anew with the others, and with none of them the run waits."""
    create(server, name, members=2, min_members=1)
    a, b = Seat(server, name, "a"), Seat(server, name, "b")
    b.samples(b.turn(), SAMPLES["b"])
    support.wait_until(lambda: get(server, name).run.members[1].state == wire.MEMBER_STATE_DONE, "the contribution to be there")
    a.turn()
    a.send(wire.StepRequest(leave=wire.Leave()))
    assert a.ended().state in (wire.RUN_STATE_RUNNING, wire.RUN_STATE_WAITING)
    turn = b.turn(anew=True)
    assert (turn.step, turn.attempt, list(turn.members)) == (0, 1, [1])
    b.send(wire.StepRequest(leave=wire.Leave()))
    b.ended()
    support.wait_until(lambda: get(server, name).run.state == wire.RUN_STATE_WAITING, "the run to wait")
    assert [member.state for member in get(server, name).run.members] == [wire.MEMBER_STATE_LEFT] * 2


def test_stale_contributions_are_refused_with_the_turn(server: Any, name: str) -> None:
    """To another step or attempt: the stream goes on with the reason, and with the turn that it is; one that comes twice counts once."""
    create(server, name)
    seat = Seat(server, name)
    turn = seat.turn()
    for step, attempt in ((1, 0), (0, 1)):
        seat.samples(wire.Turn(step=step, attempt=attempt), SAMPLES["a"])
        assert seat.refused() == (ABORTED, "STALE_STEP", [])
        assert seat.turn() == turn
    for _ in range(2):
        seat.samples(turn, SAMPLES["a"])
    assert seat.turn().step == 1
    assert seat.refused()[1] == "STALE_STEP"
    assert seat.turn().step == 1
    assert get(server, name).run.sample_count == 3


NOT_CONTRIBUTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing said": ({}, "contribution.part"),
    "no inputs": ({"minibatch": wire.Minibatch()}, ""),
    "an input that the graph has not": ({"minibatch": wire.Minibatch(inputs=support.named({"y": np.ones(2)}))}, ""),
    "a gradient of another length": ({"gradient": wire.OwnGradient(gradient=bytes(24))}, "contribution.gradient.gradient"),
    "a gradient without metrics": ({"gradient": wire.OwnGradient(gradient=bytes(16))}, "contribution.gradient.metrics"),
    "a gradient of too many samples": (
        {"gradient": wire.OwnGradient(gradient=bytes(16), sample_count=(1 << 64) - 1, metrics=support.named({"positive": np.array(0.0)}))},
        "contribution.gradient.sample_count",
    ),
    "a gradient of no samples": (
        {"gradient": wire.OwnGradient(value=7.0, gradient=bytes(16), metrics=support.named({"positive": np.array(0.0)}))},
        "contribution.gradient.sample_count",
    ),
    "a dataset that is not there": ({"rows": wire.ResidentRows(dataset="nowhere")}, ""),
    "parameters that it has not asked for": ({"nothing": wire.Nothing(), "parameters": bytes(16)}, "contribution.parameters"),
}


def test_wrong_contributions_are_refused(server: Any, name: str) -> None:
    """Each is told and does not count; the stream goes on with the same turn, and a good one is taken."""
    create(server, name)
    seat = Seat(server, name)
    turn = seat.turn()
    for case, (part, field) in NOT_CONTRIBUTIONS.items():
        seat.contribute(turn, **part)
        code, _, fields = seat.refused()
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), case
        assert not field or fields == [field], case
        assert seat.turn() == turn
    seat.send(wire.StepRequest(attach=wire.Attach(run=name)))
    assert seat.refused() == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT", ["attach"])
    seat.samples(turn, SAMPLES["a"])
    assert seat.turn().step == 1
    assert get(server, name).run.sample_count == 3


def test_numbers_that_are_none_are_what_they_are(server: Any, name: str) -> None:
    """A gradient of infinities and NaN is a step like any other."""
    create(server, name, {"w": np.ones(2)}, graph_id="")
    seat = Seat(server, name)
    gradient = np.array([np.nan, -np.inf]).tobytes()
    seat.contribute(seat.turn(), gradient=wire.OwnGradient(value=np.inf, gradient=gradient, sample_count=1 << 32))
    turn = seat.turn()
    assert turn.committed.record.value == np.inf
    params = np.frombuffer(turn.parameters)
    assert np.isnan(params[0])
    assert params[1] == np.inf
    assert get(server, name).run.sample_count == 1 << 32


def test_a_stream_begins_with_attach(server: Any) -> None:
    """Nothing else begins it, nor does nothing at all."""
    method = server.client.channel.stream_stream(f"{SERVICE}/Step", wire.StepRequest.SerializeToString, wire.StepResponse.FromString)
    for requests in ([], [wire.StepRequest()], [wire.StepRequest(heartbeat=wire.Heartbeat())]):
        assert reason(lambda r=requests: list(method(iter(r), timeout=support.PATIENCE))) == ("INVALID_ARGUMENT", "BAD_INPUT")  # type: ignore[misc]


def test_members_that_update_parameters_themselves(server: Any, name: str) -> None:
    """Without an optimiser they get the gradient of the sum at the parameters that all of them have sent."""
    create(server, name, members=2, optimizer=None)
    a, b = Seat(server, name, "a"), Seat(server, name, "b")
    turn = a.turn()
    b.turn()
    at = np.array([0.25, 4.0])
    for seat, values in ((a, SAMPLES["a"]), (b, SAMPLES["b"])):
        seat.contribute(turn, minibatch=wire.Minibatch(inputs=support.named({"x": values})), parameters=at.tobytes())
    told = a.turn()
    assert told == b.turn()
    assert told.parameters == at.tobytes()
    whole = OBJECTIVE.value_and_grad({"w": at}, {"x": np.concatenate([SAMPLES["a"], SAMPLES["b"]])})
    np.testing.assert_allclose(np.frombuffer(told.committed.gradient), whole.grads["w"], rtol=1e-14)
    a.contribute(told, nothing=wire.Nothing(), parameters=at.tobytes())
    support.wait_until(lambda: get(server, name).run.members[0].state == wire.MEMBER_STATE_DONE, "the first contribution to be there")
    b.contribute(told, nothing=wire.Nothing(), parameters=(at + 1).tobytes())
    assert b.refused() == (grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT", ["contribution.parameters"])


def test_a_run_is_stopped_and_forgotten(server: Any, name: str) -> None:
    """Members are told what it has come to; a run that is stopped can be looked at, and one that is forgotten can't: its name is free."""
    create(server, name)
    seat, watched = Seat(server, name), watch(server, name)
    seat.samples(seat.turn(), SAMPLES["a"])
    turn = seat.turn()
    assert stop(server, name).state == wire.RUN_STATE_STOPPED
    ended = seat.ended()
    assert (ended.state, ended.step, ended.parameters) == (wire.RUN_STATE_STOPPED, 1, turn.parameters)
    assert list(watched)[-1].run.state == wire.RUN_STATE_STOPPED
    assert join(server, name).session == ""
    assert Seat(server, name, number=0, session="").ended() == ended
    assert stop(server, name, forget=True).step == 1
    assert reason(lambda: get(server, name)) == ("NOT_FOUND", "UNKNOWN_RUN")
    assert not create(server, name).already_known


def test_a_run_that_goes_on_is_forgotten(server: Any, name: str) -> None:
    """It ends first, for its members as for who watches."""
    create(server, name)
    seat, watched = Seat(server, name), watch(server, name)
    seat.turn()
    next(watched)
    stop(server, name, forget=True)
    assert seat.ended().state == wire.RUN_STATE_STOPPED
    try:
        assert list(watched)[-1].run.state == wire.RUN_STATE_STOPPED
    except grpc.RpcError as error:
        assert support.details_of(error)["reason"] == "UNKNOWN_RUN"  # noqa: PT017 - it may be gone before it was looked at


def test_runs_that_have_ended_make_way() -> None:
    """With as many runs as allowed, the oldest one that has ended goes; if all go on, the limit is named."""
    with support.running("--workers", "1", "--max-runs", "3") as small:
        for run in ("one", "two", "three"):
            create(small, run)
        code, details, _ = support.refused(lambda: create(small, "four"))
        assert (details["reason"], details["limit"]) == ("LIMIT_EXCEEDED", "max_runs"), code
        stop(small, "two")
        create(small, "four")
        assert listed(small) == ["four", "one", "three"]


def test_a_restarted_server_goes_on(tmp_path: Path) -> None:
    """After SIGKILL seats, sessions, turns and parameters are as they were, and the run ends with the bits of one that nobody has disturbed."""
    flags = ("--workers", "1", "--state-dir", str(tmp_path / "state"))
    seats: list[Seat] = []
    for turn in range(7):
        with support.running(*flags) as server:
            if turn == 0:
                create(server, "run", members=2, max_steps=7)
                seats = [Seat(server, "run", member) for member in "ab"]
            else:
                seats = [Seat(server, "run", number=seat.number, session=seat.session) for seat in seats]
            turns = [seat.turn() for seat in seats]
            assert [(found.step, found.attempt) for found in turns] == [(turn, 0)] * 2
            for seat, found, member in zip(seats, turns, "ab", strict=True):
                seat.samples(found, SAMPLES[member])
            if turn < 6:
                assert seats[0].turn().step == turn + 1
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
            else:
                assert [seat.ended().parameters for seat in seats] == [expected_steps(7)[-1]] * 2
    with support.running(*flags) as server:
        found = get(server, "run", parameters=True, ledger_from=0)
        assert found.run.state == wire.RUN_STATE_FINISHED
        assert [line.step for line in found.ledger] == list(range(7))
        assert found.parameters[0].array.data == expected_steps(7)[-1]
        stop(server, "run", forget=True)
    with support.running(*flags) as server:
        assert listed(server) == []


def test_a_server_that_drains_ends_streams(tmp_path: Path) -> None:
    """Members and those who watch are told to come back, and the server goes at once."""
    with support.running("--workers", "1", "--state-dir", str(tmp_path / "state")) as server:
        create(server, "run")
        seat, watched = Seat(server, "run"), watch(server, "run")
        seat.turn()
        next(watched)
        assert server.terminate() == 0
        assert seat.broken() == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert reason(lambda: list(watched)) == ("UNAVAILABLE", "DRAINING")


def test_a_rate_without_bound_ends_no_server(tmp_path: Path) -> None:
    """A learning rate that outgrows all numbers makes bad parameters, and nothing else: the run goes on, and so does a restarted server."""
    flags = ("--workers", "1", "--state-dir", str(tmp_path / "state"))
    rate = wire.Schedule(rate=1.0, exponential=wire.ExponentialDecay(factor=1e200))
    with support.running(*flags) as server:
        create(server, "run", optimizer=wire.Optimizer(sgd=wire.SGD(), learning_rate=rate))
        seat = Seat(server, "run")
        for _ in range(4):
            seat.samples(seat.turn(), SAMPLES["a"])
        last = seat.turn()
        assert last.step == 4
        assert not np.isfinite(np.frombuffer(last.parameters)).any()
    with support.running(*flags) as server:
        assert get(server, "run").run.step == 4


def test_what_no_message_can_carry_is_refused_at_once() -> None:
    """Parameters that a turn would have no room for, with the gradient beside them where members update, make no run that stands still."""
    with support.running("--workers", "1", "--max-message-bytes", str(1 << 20), "--max-run-members", "16") as server:
        for optimizer, most in ((sgd(), 130_000), (None, 65_000)):
            code, details, message = support.refused(
                lambda width=most + 1_000, optimizer=optimizer: create(
                    server, "run", {"w": np.zeros(width)}, graph_id="", optimizer=optimizer
                )  # type: ignore[misc]
            )
            assert (code, details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_message_bytes")
            assert f"with {most + 1_000:,} numbers to train" in message
            create(server, "run", {"w": np.zeros(most)}, graph_id="", optimizer=optimizer)
            seat = Seat(server, "run")
            for _ in range(2):
                seat.contribute(seat.turn(), gradient=wire.OwnGradient(gradient=bytes(8 * most), sample_count=1))
            assert seat.turn().step == 2
            stop(server, "run", forget=True)


def test_where_a_penalty_is_counted_is_said(server: Any, name: str) -> None:
    """Where members update the parameters, the first one says at which the penalty is to be counted, whoever else has said so before."""
    create(server, name, members=2, optimizer=None)
    first, second = Seat(server, name, "a"), Seat(server, name, "b")
    turn = first.turn()
    second.turn()
    own = wire.OwnGradient(sample_count=1, gradient=bytes(16), metrics=support.named({"positive": np.array(0.0)}))
    at = np.array([10.0, 20.0])
    second.contribute(turn, minibatch=wire.Minibatch(inputs=support.named({"x": np.array([1.0, 2.0])})), parameters=at.tobytes())
    support.wait_until(lambda: get(server, name).run.members[1].state == wire.MEMBER_STATE_DONE, "the second contribution")
    first.contribute(turn, gradient=own)
    code, _, fields = first.refused()
    assert (code, fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["contribution.parameters"])
    first.contribute(first.turn(), gradient=own, parameters=at.tobytes())
    gradient = np.frombuffer(first.turn().committed.gradient)
    assert gradient.tolist() == (2.0 * (2.0 * at - 3.0) + 0.5 * at).tolist()


@needs_mounts
def test_a_full_disk_stops_nobody_who_looks(tmp_path: Path) -> None:
    """While a run waits for room it can be looked at, others can be listed, and a server that is told to go goes."""
    state, width = tmp_path / "state", 16_384
    state.mkdir(mode=0o700)
    with support.running("--workers", "1", "--state-dir", str(state), prefix=with_mount(state, 16 << 20)) as server:
        create(server, "run", {"w": np.zeros(width)}, graph_id="")
        seat, filler = Seat(server, "run"), seen_by(server.pid, state) / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)) == 1 << 16:
                pass
        step = 0
        while "waits for its journal" not in server.said():
            seat.contribute(seat.turn(), gradient=wire.OwnGradient(gradient=np.ones(width).tobytes(), sample_count=1))
            support.wait_until(
                lambda: get(server, "run").run.step > step or "waits for its journal" in server.said(),  # noqa: B023 - called in this turn
                "a step, or no room for it",
            )
            step = get(server, "run").run.step
        assert step > 0
        assert listed(server) == ["run"]
        assert server.terminate() == 0
        assert seat.broken() == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


def test_a_namespace_sees_its_own_runs(tmp_path: Path) -> None:
    """A run of one namespace is not there for another, which may have one of the same name; whoever may only read makes none."""
    made = {}
    for who, scope in (("ours", "compute"), ("theirs", "compute"), ("reader", "read")):
        made[who], entry = tokens.create(who, "ours" if who == "reader" else who, ["read", scope])
        tokens.TokenFile(tmp_path / "tokens").add(entry)
    with support.running("--workers", "1", "--tokens", str(tmp_path / "tokens")) as server:

        def call(who: str, method: str, request: Any, response: Any) -> Any:
            function = server.client.channel.unary_unary(f"{SERVICE}/{method}", type(request).SerializeToString, response.FromString)
            return function(request, metadata=[("authorization", f"Bearer {made[who]}")], timeout=support.PATIENCE)

        def create_as(who: str) -> Any:
            request = wire.CreateRunRequest(
                name="run", parameters=[graph_pb2.NamedArray(name="w", array=support.array_message(np.ones(2)))]
            )
            return call(who, "CreateRun", request, wire.CreateRunResponse).run

        ours = create_as("ours")
        assert reason(lambda: create_as("reader"))[0] == "PERMISSION_DENIED"
        for known in ("run", ours.id):
            assert call("reader", "GetRun", wire.GetRunRequest(run=known), wire.GetRunResponse).run == ours
            assert reason(lambda k=known: call("theirs", "GetRun", wire.GetRunRequest(run=k), wire.GetRunResponse)) == ("NOT_FOUND", "UNKNOWN_RUN")  # type: ignore[misc]  # fmt: skip
        theirs = create_as("theirs")
        assert theirs.id != ours.id
        found = call("ours", "ListRuns", wire.ListRunsRequest(), wire.ListRunsResponse)
        assert [run.id for run in found.runs] == [ours.id]
