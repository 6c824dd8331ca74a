"""A member of a run opposite a server that follows a script: what it says, and does when streams break, seats are lost and answers are late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
import numpy as np
import pytest
import sumgrad as sg
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from sumgrad import calls, codec
from sumgrad.run import Run
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_proto.v1.graph_pb2 import Array, NamedArray
from sumgrad_tests import support

Said: TypeAlias = Iterator[wire.StepRequest]
Stream: TypeAlias = Callable[[Said], Iterator[wire.StepResponse]]
NUMBER, LEASE = 1, 0.3
OBJECTIVE = sg.Objective(sg.param("w", 2.0) * sg.input("x"))
UPDATED = wire.RunSpecification(optimizer=wire.Optimizer(sgd=wire.SGD()), lease_seconds=60)
HERE = wire.RunSpecification(graph_id=codec.EncodedGraph.of(OBJECTIVE.graph).id, lease_seconds=60)


class RefusedError(Exception):
    """What a call of the script ends with."""

    def __init__(self, code: grpc.StatusCode, reason: str = "", **metadata: str) -> None:
        self.status = status(code, reason, **metadata)


def status(code: grpc.StatusCode, reason: str, **metadata: str) -> status_pb2.Status:
    """An error with its reason, as the server sends it."""
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="sumgrad", metadata=metadata))
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=f"{reason} by the script", details=[detail])


class Script(grpc.GenericRpcHandler):
    """Answers one call of Step after the other by the streams that it is given; what it was asked is kept."""

    def __init__(self, streams: tuple[Stream, ...], specification: wire.RunSpecification, ledger: tuple[wire.StepRecord, ...]) -> None:
        self.streams = list(streams)
        self.run = wire.Run(id="id", name="run", specification=specification, parameters=[NamedArray(name="w", array=Array())])
        self.ledger = ledger
        self.asked: list[str] = []
        self.attached: list[wire.Attach] = []
        self.contributions: list[wire.Contribution] = []
        self.sessions: list[str] = []
        self.lost_joins = 0
        self.left = 0
        self.beats = threading.Semaphore(0)

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """What answers a call."""
        method = next(method for method in calls.METHODS if method.path == details.method)
        kind = grpc.stream_stream_rpc_method_handler if method is calls.STEP else grpc.unary_unary_rpc_method_handler
        return kind(getattr(self, method.name), method.request.FromString, method.reply.SerializeToString)

    def JoinRun(self, request: wire.JoinRunRequest, context: grpc.ServicerContext) -> wire.JoinRunResponse:  # noqa: N802 - gRPC's name
        """The same number each time, and the session that is asked for."""
        self.asked.append("JoinRun")
        self.sessions.append(request.session)
        if self.lost_joins:
            self.lost_joins -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "lost by the script")
        return wire.JoinRunResponse(run=self.run, number=NUMBER, session=request.session)

    def RegisterGraph(self, request: wire.RegisterGraphRequest, context: grpc.ServicerContext) -> wire.RegisterGraphResponse:  # noqa: N802
        """Whatever it is."""
        self.asked.append("RegisterGraph")
        return wire.RegisterGraphResponse(graph_id=codec.graph_id(request.graph))

    def GetRun(self, request: wire.GetRunRequest, context: grpc.ServicerContext) -> wire.GetRunResponse:  # noqa: N802
        """The ledger."""
        self.asked.append("GetRun")
        return wire.GetRunResponse(run=self.run, ledger=[line for line in self.ledger if line.step >= request.ledger_from])

    def Step(self, requests: Said, context: grpc.ServicerContext) -> Iterator[wire.StepResponse]:  # noqa: N802
        """The next stream of the script."""
        said = self.kept(requests)
        self.attached.append(next(requests).attach)
        try:
            yield from self.streams.pop(0)(said)
        except RefusedError as error:
            context.set_trailing_metadata((("grpc-status-details-bin", error.status.SerializeToString()),))
            code = next(code for code in grpc.StatusCode if code.value[0] == error.status.code)
            context.abort(code, error.status.message)

    def kept(self, requests: Said) -> Said:
        """What a member says, without its heartbeats."""
        for request in requests:
            if request.HasField("heartbeat"):
                self.beats.release()
                continue
            if request.HasField("contribution"):
                self.contributions.append(request.contribution)
            self.left += request.HasField("leave")
            yield request


@contextmanager
def scripted(
    *streams: Stream, specification: wire.RunSpecification = UPDATED, ledger: tuple[wire.StepRecord, ...] = ()
) -> Iterator[tuple[Any, Script]]:
    """A member's run, and the script behind it."""
    script = Script(streams, specification, ledger)
    server = grpc.server(ThreadPoolExecutor(8), handlers=[script])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with sg.connect(f"127.0.0.1:{port}", tls=False, token="") as service:
            yield Run(service, "run", OBJECTIVE), script
    finally:
        server.stop(None).wait()


def record(step: int, *members: int) -> wire.StepRecord:
    """A line of the ledger: each member has contributed one sample."""
    return wire.StepRecord(step=step, value=10.0 * step, members=members, member_samples=[1] * len(members), sample_count=len(members))


def committed(step: int, *members: int) -> wire.Committed:
    """A step that is on the disk; its gradient is its number."""
    return wire.Committed(record=record(step, *members or (NUMBER,)), gradient=np.array([float(step)]).tobytes())


def turn(step: int, attempt: int = 0, members: tuple[int, ...] = (NUMBER,), last: wire.Committed | None = None) -> wire.StepResponse:
    """It is the turn of these members; the parameter is the step's number."""
    if last is None and step:
        last = committed(step - 1, *members)
    parameters = np.array([float(step)]).tobytes()
    return wire.StepResponse(turn=wire.Turn(step=step, attempt=attempt, members=members, parameters=parameters, committed=last))


def ended(step: int, *members: int) -> wire.StepResponse:
    """The run is over."""
    parameters = np.array([float(step)]).tobytes()
    return wire.StepResponse(
        ended=wire.Ended(state=wire.RUN_STATE_FINISHED, step=step, parameters=parameters, committed=committed(step - 1, *members))
    )


def refusal(code: grpc.StatusCode, reason: str, **metadata: str) -> wire.StepResponse:
    """A contribution did not count."""
    found = status(code, reason, **metadata)
    return wire.StepResponse(error=wire.StreamError(code=found.code, message=found.message, details=found.SerializeToString()))


def until_left(said: Said) -> Iterator[wire.StepResponse]:
    """The rest of a stream: nothing happens until the member leaves."""
    for request in said:
        if request.HasField("leave"):
            yield wire.StepResponse(ended=wire.Ended(state=wire.RUN_STATE_RUNNING))


def lost() -> NoReturn:
    """The connection breaks."""
    raise RefusedError(grpc.StatusCode.UNAVAILABLE)


DATA = {"x": np.array([3.0, 4.0])}


def test_contribution_is_sent_again_over_another_stream() -> None:
    """After a lost stream the member attaches with the same session, and contributes the same again."""

    def breaks(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        lost()

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        yield turn(1)
        yield from until_left(said)

    with scripted(breaks, breaks, works) as (run, script), run.join("ada") as member:
        found = member.step(DATA)
    assert (found.step, found.value, dict(found.samples), float(found.params["w"])) == (0, 0.0, {NUMBER: 1}, 1.0)
    assert [attach.session for attach in script.attached] == script.sessions * 3
    assert len({each.SerializeToString() for each in script.contributions}) == 1
    assert len(script.contributions) == 3
    assert script.left == 1


def test_answer_that_was_lost_comes_with_the_next_turn() -> None:
    """A contribution that has counted before its stream broke is not sent again."""

    def breaks(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(4)
        next(said)
        lost()

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(5)
        yield from until_left(said)

    with scripted(breaks, works) as (run, script), run.join("ada") as member:
        found = member.step(DATA)
        assert (found.step, member.next_step, float(member.last.grads["w"])) == (4, 5, 4.0)
    assert [each.step for each in script.contributions] == [4]


def test_stream_that_just_ends_is_attached_again() -> None:
    """A server that goes down in peace is waited for like one that was killed."""

    def ends(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield ended(1, NUMBER)

    with scripted(ends, works) as (run, script), run.join("ada") as member:
        assert member.step(DATA).step == 0
        assert member.over
        assert member.step(DATA) is None
    assert script.left == 0


def test_a_seat_is_asked_for_with_one_session() -> None:
    """Until there is an answer: a request that was lost can't take the seat from a later one. Each seat has another; streams are counted."""

    def breaks(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        raise RefusedError(grpc.StatusCode.UNAVAILABLE)

    def leaves_behind(said: Said) -> Iterator[wire.StepResponse]:
        script.lost_joins = 2
        raise RefusedError(grpc.StatusCode.ABORTED, "LEFT_BEHIND")
        yield

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        yield turn(1)
        yield from until_left(said)

    with scripted(breaks, leaves_behind, works) as (run, script):
        script.lost_joins = 1
        with run.join("ada") as member:
            assert member.step(DATA).step == 0
    first, second = script.sessions[0], script.sessions[-1]
    assert script.sessions == [first, first, second, second, second]
    assert first != second
    assert [(attach.session, attach.count) for attach in script.attached] == [(first, 1), (first, 2), (second, 3)]


def test_lost_seat_is_taken_again() -> None:
    """Who is left behind joins again, and goes on with the step that the run is at; what it has sent before is another step's."""

    def leaves_behind(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        raise RefusedError(grpc.StatusCode.ABORTED, "LEFT_BEHIND")

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(3, members=(0, 1), last=committed(2, 0))
        next(said)
        yield turn(4, members=(0, 1))
        yield from until_left(said)

    ledger = (record(0, 0), record(1, 0), record(2, 0))
    with scripted(leaves_behind, works, ledger=ledger) as (run, script), run.join("ada") as member:
        found = member.step(DATA)
        assert (found.step, dict(found.samples)) == (3, {0: 1, 1: 1})
    assert [attach.session for attach in script.attached] == script.sessions
    assert len(set(script.sessions)) == 2
    assert [each.step for each in script.contributions] == [0, 3]


def test_missed_step_that_has_counted_is_in_the_ledger() -> None:
    """If a member's contribution has counted, and others have gone on since, the step's figures come from the ledger, and nothing is sent again."""

    def breaks(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(2)
        next(said)
        lost()

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(9, last=committed(8, 0))
        yield from until_left(said)

    with scripted(breaks, works, ledger=(record(2, 0, 1), record(3, 0))) as (run, script), run.join("ada") as member:
        found = member.step(DATA)
        assert (found.step, found.value, dict(found.samples), member.next_step) == (2, 20.0, {0: 1, 1: 1}, 9)
    assert [each.step for each in script.contributions] == [2]


@pytest.mark.parametrize("counted", [True, False])
def test_who_updates_and_misses_a_gradient_is_told(counted: bool) -> None:
    """A member that updates the parameters itself can't go on when gradients have passed it by, whether it had its part in one or not."""

    def breaks(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(2)
        next(said)
        lost()

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(4, last=committed(3, 0))
        next(said)
        yield turn(5)
        yield from until_left(said)

    ledger = (record(2, 0, 1) if counted else record(2, 0), record(3, 0))
    with scripted(breaks, works, specification=HERE, ledger=ledger) as (run, script), run.join("ada") as member:
        with pytest.raises(sg.AbortedError, match="to step 4 without this member"):
            member.value_and_grad(OBJECTIVE, {"w": 1.0}, DATA)
        assert (float(member.last.params["w"]), float(member.last.grads["w"])) == (4.0, 3.0)
        assert float(member.value_and_grad(OBJECTIVE, {"w": 1.0}, DATA).grads["w"]) == 4.0
    assert [each.step for each in script.contributions] == [2, 4]


def test_new_attempt_is_answered_once() -> None:
    """A turn that was on its way while the member contributed to the attempt before is answered once, whatever comes of the one before."""

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0, members=(0, 1, 2))
        next(said)
        yield turn(0, attempt=1, members=(1, 2))
        next(said)
        yield refusal(grpc.StatusCode.ABORTED, "STALE_STEP", step="0", attempt="1")
        yield turn(0, attempt=1, members=(1, 2))
        yield turn(1, members=(1, 2))
        yield from until_left(said)

    data = {"x": np.arange(6.0)}
    with scripted(works) as (run, script), run.join("ada", data=data) as member:
        assert member.step().step == 0
    rows = [codec.decode_arrays(each.minibatch.inputs)["x"].tolist() for each in script.contributions]
    assert [(each.step, each.attempt) for each in script.contributions] == [(0, 0), (0, 1)]
    assert rows == [[2.0, 3.0], [0.0, 1.0, 2.0]]


def test_stale_contribution_is_followed_by_the_turn() -> None:
    """A contribution that came too late is made anew for the attempt that the server then names."""

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        yield refusal(grpc.StatusCode.ABORTED, "STALE_STEP", step="0", attempt="2")
        yield turn(0, attempt=2)
        next(said)
        yield turn(1)
        yield from until_left(said)

    with scripted(works) as (run, script), run.join("ada") as member:
        assert member.step(DATA).step == 0
    assert [(each.step, each.attempt) for each in script.contributions] == [(0, 0), (0, 2)]


def test_lost_graph_is_registered_again() -> None:
    """A server that has lost the run's graph gets it, and the contribution again."""

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        yield refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_GRAPH")
        yield turn(0)
        next(said)
        yield turn(1)
        yield from until_left(said)

    with scripted(works) as (run, script), run.join("ada") as member:
        assert member.step(DATA).step == 0
    assert script.asked == ["JoinRun", "RegisterGraph"]


def test_error_of_a_contribution_leaves_the_next_one_alone() -> None:
    """What was wrong is raised; the turn, which the server then repeats, is answered by the next call once."""

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        yield refusal(grpc.StatusCode.INVALID_ARGUMENT, "WRONG_INPUT")
        yield turn(0)
        next(said)
        yield turn(1)
        yield from until_left(said)

    with scripted(works) as (run, script), run.join("ada") as member:
        with pytest.raises(sg.InvalidArgumentError, match="WRONG_INPUT"):
            member.step({"y": np.ones(1)})
        assert member.step(DATA).step == 0
    assert len(script.contributions) == 2


@pytest.mark.parametrize(
    ("code", "reason", "error", "left"),
    [
        (grpc.StatusCode.ABORTED, "SUPERSEDED", sg.SupersededError, 0),
        (grpc.StatusCode.NOT_FOUND, "UNKNOWN_RUN", sg.NotFoundError, 0),
        (grpc.StatusCode.PERMISSION_DENIED, "", sg.PermissionDeniedError, 1),
    ],
)
def test_errors_that_nothing_mends(code: grpc.StatusCode, reason: str, error: type[Exception], left: int) -> None:
    """A seat that another process has, a run that is gone and a token that does not allow it end the member. Where it may have its seat still it leaves."""

    def refuses(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        raise RefusedError(code, reason)

    with scripted(refuses, until_left) as (run, script), run.join("ada") as member, pytest.raises(error):
        member.step(DATA)
    assert (len(script.attached), script.left, script.asked) == (1 + left, left, ["JoinRun"])


MORE = {"x": np.array([1.0, 2.0, 3.0])}


def brought(script: Script) -> list[tuple[int, int]]:
    """Steps that the member has contributed to, and how many samples."""
    return [(each.step, codec.decode_arrays(each.minibatch.inputs)["x"].size) for each in script.contributions]


def breaks(said: Said) -> Iterator[wire.StepResponse]:
    """After a contribution to step 4, which counts."""
    yield turn(4)
    next(said)
    raise RefusedError(grpc.StatusCode.UNAVAILABLE)


def goes_on(first: wire.StepResponse) -> Stream:
    """A stream of a run that is there, and goes on with each contribution."""

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield first
        for request in said:
            if request.HasField("leave"):
                yield ended(9)
                return
            yield turn(request.contribution.step + 1)

    return works


def refuses_once(said: Said) -> Iterator[wire.StepResponse]:
    """Something is wrong just then: a token, a limit, a proxy."""
    raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    yield


def behind(said: Said) -> Iterator[wire.StepResponse]:
    """The seat is given up."""
    raise RefusedError(grpc.StatusCode.ABORTED, "LEFT_BEHIND")
    yield


@pytest.mark.parametrize("same", [True, False])
def test_a_refused_stream_does_not_lose_samples(same: bool) -> None:
    """What a call has brought may have counted though it got an error: the same call again hears so, another's samples are in the next step."""
    with scripted(breaks, refuses_once, goes_on(turn(5))) as (run, script), run.join("ada") as member:
        with pytest.raises(sg.ResourceExhaustedError):
            member.step(DATA)
        assert member.next_step == 5
        assert member.step(DATA if same else MORE).step == (4 if same else 5)
    assert brought(script) == [(4, 2), *([] if same else [(5, 3)])]
    assert script.left == 1


def test_what_is_owed_is_so_until_its_fate_is_known() -> None:
    """Another call that has heard nothing changes nothing."""
    with scripted(breaks, refuses_once, goes_on(turn(5))) as (run, script), run.join("ada") as member:
        with pytest.raises(sg.ResourceExhaustedError):
            member.step(DATA)
        receive = member._seat.receive

        def late() -> NoReturn:
            raise sg.DeadlineExceededError("late", status="DEADLINE_EXCEEDED")

        member._seat.receive = late
        for samples in (MORE, DATA, MORE):
            with pytest.raises(sg.DeadlineExceededError):
                member.step(samples)
        member._seat.receive = receive
        assert member.step(DATA).step == 4
        assert member.step(MORE).step == 5
    assert brought(script) == [(4, 2), (5, 3)]


@pytest.mark.parametrize("same", [True, False])
def test_what_has_not_counted_is_brought_again_by_the_same_call_alone(same: bool) -> None:
    """The server has not got it, or not taken it: another call's samples take its place."""
    with scripted(breaks, refuses_once, goes_on(turn(4))) as (run, script), run.join("ada") as member:
        with pytest.raises(sg.ResourceExhaustedError):
            member.step(DATA)
        assert member.step(DATA if same else MORE).step == 4
    assert brought(script) == [(4, 2), (4, 2 if same else 3)]


def test_members_that_update_hear_that_a_refused_call_has_counted() -> None:
    """Their next parameters depend on its gradient."""
    with scripted(breaks, refuses_once, goes_on(turn(5)), specification=HERE) as (run, script), run.join("ada") as member:
        with pytest.raises(sg.ResourceExhaustedError):
            member.value_and_grad(OBJECTIVE, {"w": 4.0}, DATA)
        with pytest.raises(sg.AbortedError, match=r"step 4 .* member\.last"):
            member.value_and_grad(OBJECTIVE, {"w": 3.0}, DATA)
        assert member.last.step == 4
        assert member.value_and_grad(OBJECTIVE, {"w": 5.0}, DATA).value == 50.0
    assert brought(script) == [(4, 2), (5, 2)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, sg.DeadlineExceededError("late", status="DEADLINE_EXCEEDED")])
@pytest.mark.parametrize("same", [True, False])
def test_a_question_to_the_ledger_that_fails_counts_nothing_twice(error: Any, same: bool) -> None:
    """The next call asks again."""
    with (
        scripted(breaks, behind, goes_on(turn(9, last=committed(8, 7))), ledger=(record(4, NUMBER),)) as (run, script),
        run.join("ada") as member,
    ):
        ask, failed = member._seat.ask, []

        def failing(steps: Any) -> Any:
            if steps.func.__name__ == "run_ledger" and not failed:
                failed.append(steps)
                raise error
            return ask(steps)

        member._seat.ask = failing
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            member.step(DATA)
        assert member.step(DATA if same else MORE).step == (4 if same else 9)
    assert brought(script) == [(4, 2), *([] if same else [(9, 3)])]


def test_a_ledger_that_is_too_short_says_so() -> None:
    """Nobody knows whether the contribution has counted: it is not brought again unless the caller says so."""
    with (
        scripted(breaks, behind, goes_on(turn(9, last=committed(8, 7))), ledger=(record(8, 7),)) as (run, script),
        run.join("ada") as member,
    ):
        with pytest.raises(sg.AbortedError, match=r"max_run_history.* step 4"):
            member.step(DATA)
        assert brought(script) == [(4, 2)]
        assert member.step(DATA).step == 9
    assert brought(script) == [(4, 2), (9, 2)]


def test_lease_is_kept_by_a_silent_member() -> None:
    """While the user's thread is busy with something else, the server hears from the member; after its end it does not."""
    specification = wire.RunSpecification(optimizer=UPDATED.optimizer, lease_seconds=LEASE)

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        yield from until_left(said)

    with scripted(works, specification=specification) as (run, script):
        with run.join("ada") as member:
            assert member.next_step == 0
            for _ in range(3):
                assert script.beats.acquire(timeout=support.PATIENCE)
        assert not any(thread.name == "sumgrad-lease" for thread in threading.enumerate())


def test_seat_may_be_kept_for_later() -> None:
    """A member that is closed without leaving says nothing of it."""

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        yield from until_left(said)

    with scripted(works) as (run, script):
        member = run.join("ada")
        assert member.next_step == 0
        member.close(leave=False)
        member.close()
    assert script.left == 0


def test_parts_of_a_feed() -> None:
    """Shared data is divided by rank, and a member that gets none of a small batch says so; data of one's own is not divided."""

    def works(said: Said) -> Iterator[wire.StepResponse]:
        for step, members in enumerate([(1,), (1, 2, 3), (0, 1)]):
            yield turn(step, members=members)
            next(said)
        yield turn(3, members=(0, 1))
        yield from until_left(said)

    def parts(**options: Any) -> list[Any]:
        with scripted(works) as (run, script), run.join("ada", data={"x": np.arange(2.0)}, **options) as member:
            member.train(3, progress=False)
        return [
            codec.decode_arrays(each.minibatch.inputs)["x"].tolist() if each.HasField("minibatch") else each.WhichOneof("part")
            for each in script.contributions
        ]

    assert parts() == [[0.0, 1.0], "nothing", [1.0]]
    assert parts(own=True) == [[0.0, 1.0]] * 3


def test_streams_that_break_leave_no_threads() -> None:
    """Each stream's thread ends with it, however often the connection breaks."""

    def breaks(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        lost()

    def works(said: Said) -> Iterator[wire.StepResponse]:
        yield turn(0)
        next(said)
        yield turn(1)
        yield from until_left(said)

    def of_grpc() -> int:
        return sum(thread.name.endswith("(_run)") for thread in threading.enumerate())

    with scripted(breaks, breaks, breaks, works) as (run, _), run.join("ada") as member:
        assert member.next_step == 0
        before = of_grpc()
        assert before > 0
        assert member.step(DATA) is not None
        support.wait_until(lambda: of_grpc() <= before, "the end of the streams' threads")


def test_watching_goes_on_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sends many steps in several messages, each with how the run stands: those that a broken connection has kept back come again."""
    monkeypatch.setattr("sumgrad.run.WATCH_PAUSE", 0.0)
    asked = []

    class Unavailable(grpc.RpcError):
        def trailing_metadata(self) -> tuple[()]:
            return ()

        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return "it broke"

    def news(request: wire.WatchRunRequest) -> Iterator[wire.RunProgress]:
        asked.append(request.from_step)
        for start in range(request.from_step, 5000, 1000):
            steps = [record(step, NUMBER) for step in range(start, start + 1000)]
            yield wire.RunProgress(run=wire.Run(id="id", step=5000, state=wire.RUN_STATE_FINISHED), steps=steps)
            if start == 1000 and len(asked) == 1:
                raise Unavailable

    class Service:
        open_watch = staticmethod(news)

    seen = [line.step for progress in Run(Service(), "run").watch() for line in progress.steps]  # type: ignore[arg-type]
    assert seen == list(range(5000))
    assert asked == [0, 2000]
