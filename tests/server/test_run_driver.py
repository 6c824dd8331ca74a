"""A run at work, without a network: what goes wrong while something is on its way, and what becomes of those that wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from sumgrad_engine.errors import LimitError
from sumgrad_engine.layout import Layout, Vector
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.faults import BrokenRunError, DamagedError, DrainingError, NoRoomError, StaleStepError, SupersededError, UnknownRunError
from sumgrad_server.runs import messages
from sumgrad_server.runs import run as run_module
from sumgrad_server.runs.book import Book, Made
from sumgrad_server.runs.desk import MANY_NOTES, Desk
from sumgrad_server.runs.methods import RunMethods
from sumgrad_server.runs.records import Joined, Stepped, encode
from sumgrad_server.runs.run import Part, Run
from sumgrad_server.runs.runs import Runs
from sumgrad_server.runs.stepping import _Member
from sumgrad_server.settings import Settings
from sumgrad_server.store.journal import Journal
from sumgrad_tests import support

SETTINGS = Settings(retry_seconds=0.01)
PARAMETERS = {"w": np.array([1.0, 2.0])}
LAYOUT = Layout((), (("w", (2,)),))
NAMESPACE, SESSION = "tests", "a session of mine"


def specification(**fields: Any) -> wire.RunSpecification:
    optimizer = wire.Optimizer(sgd=wire.SGD(), learning_rate=wire.Schedule(rate=0.5))
    return wire.RunSpecification(**{"members": 1, "min_members": 1, "lease_seconds": 3600.0, "optimizer": optimizer, **fields})


def during(work: Callable[[Run, Runs], Awaitable[None]], folder: Path | None = None, **fields: Any) -> None:
    """Does something with a run of a server's."""

    async def done() -> None:
        runs = Runs(Journal(folder), SETTINGS)
        await runs.load()
        run, _ = await runs.create(NAMESPACE, "run", specification(**fields), LAYOUT, PARAMETERS)
        try:
            await work(run, runs)
        finally:
            await runs.close()

    asyncio.run(done())


async def turn(desk: Desk) -> wire.Turn:
    """The next message, which is a turn."""
    response = wire.StepResponse.FromString(await desk.next() or b"")
    assert response.WhichOneof("response") == "turn", response
    return response.turn


def give(run: Run, number: int) -> None:
    """A contribution to the step as it is."""
    step, attempt = run.machine.step, run.machine.attempt
    assert run.take(number, step, attempt) == "take"
    run.contributed(number, step, attempt, Part(np.array([1.0, 0.5, 0.5]), 1))


def test_work_for_an_attempt_that_comes_to_nothing_is_given_up() -> None:
    """Another member leaves while a contribution is computed: that is cancelled, and its member hears of the next attempt."""
    stopped = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def work(run: Run, runs: Runs) -> None:
        (a, session), (b, _) = await asyncio.gather(run.join("a", SETTINGS), run.join("b", SETTINGS))
        desk = await run.attach(a, session)
        begun = await turn(desk)
        assert run.take(a, begun.step, begun.attempt) == "take"
        computing = asyncio.ensure_future(run.during_attempt(endless()))
        await asyncio.sleep(0)
        run.leave(b)
        with pytest.raises(StaleStepError):
            await computing
        assert stopped.is_set()
        assert (await turn(desk)).attempt == 1

    during(work, members=2)


def test_one_that_goes_takes_its_work_along() -> None:
    """The stream of a member is cancelled in the middle of its sum."""
    stopped = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def work(run: Run, runs: Runs) -> None:
        await run.join("a", SETTINGS)
        computing = asyncio.ensure_future(run.during_attempt(endless()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        computing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await computing
        assert stopped.is_set()

    during(work)


def test_a_seat_that_is_asked_for_again_is_the_same(tmp_path: Path) -> None:
    """The answer was lost, or the first request comes after the second: nobody is superseded, on this server or the next one."""

    async def work(run: Run, runs: Runs) -> None:
        first, again = await asyncio.gather(run.join("a", SETTINGS, SESSION), run.join("a", SETTINGS, SESSION))
        assert first == again == (0, SESSION)
        desk = await run.attach(*first)
        begun, written = await turn(desk), run.index
        assert await run.join("a", SETTINGS, SESSION) == first
        assert run.index == written
        give(run, 0)
        assert (await turn(desk)).step == begun.step + 1

    async def later(run: Run, runs: Runs) -> None:
        written = run.index
        seat = await run.join("a", SETTINGS, SESSION)
        assert (seat, run.index) == ((0, SESSION), written)
        desk = await run.attach(*seat)
        assert (await turn(desk)).step == 1
        assert (await run.join("a", SETTINGS))[1] != SESSION
        with pytest.raises(SupersededError):
            await desk.next()

    during(work, tmp_path)
    during(later, tmp_path)


def test_asking_again_renews_the_lease() -> None:
    """Who asks is there."""

    async def work(run: Run, runs: Runs) -> None:
        await run.join("a", SETTINGS, SESSION)
        run.machine.seats[0].heard -= 3000.0
        await run.join("a", SETTINGS, SESSION)
        run.machine.tick(time.monotonic() + 1000.0)
        assert run.machine.doing(0) == "working"

    during(work)


def test_a_stream_that_arrives_late_takes_nobodys_place() -> None:
    """It was given up by its member, which has another by now."""

    async def work(run: Run, runs: Runs) -> None:
        seat = await run.join("a", SETTINGS)
        desk = await run.attach(*seat, 2)
        await turn(desk)
        with pytest.raises(SupersededError):
            await run.attach(*seat, 1)
        give(run, 0)
        assert (await turn(desk)).step == 1
        newest = await run.attach(*seat, 3)
        with pytest.raises(SupersededError):
            await desk.next()
        assert (await turn(newest)).step == 1
        again = await run.join("a", SETTINGS)
        assert (await turn(await run.attach(*again, 1))).step == 1

    during(work)


def test_the_server_goes_while_a_seat_is_on_its_way_to_the_disk(tmp_path: Path) -> None:
    """Who joins, then and later, hears that the server goes."""

    async def work(run: Run, runs: Runs) -> None:
        append, reached = runs.journal.append, asyncio.Event()

        async def noticed(*given: Any) -> None:
            reached.set()
            await append(*given)

        runs.journal.append = noticed  # type: ignore[method-assign]
        joining = asyncio.ensure_future(run.join("a", SETTINGS))
        await reached.wait()
        await run.close()
        with pytest.raises(DrainingError):
            await joining
        with pytest.raises(DrainingError):
            await run.join("b", SETTINGS)
        assert not run.broken

    during(work, tmp_path)


def test_a_run_that_a_fault_of_ours_has_ended_can_be_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """Everybody hears of it, and its name is free again."""

    async def work(run: Run, runs: Runs) -> None:
        number, session = await run.join("a", SETTINGS)
        desk = await run.attach(number, session)
        await turn(desk)

        def fault(record: Stepped) -> Vector:
            raise ZeroDivisionError

        run.book.updated = fault  # type: ignore[method-assign]
        give(run, number)
        with pytest.raises(BrokenRunError, match="restart the server, or forget"):
            await desk.next()
        with pytest.raises(BrokenRunError):
            await run.snapshot()
        methods = RunMethods(SETTINGS, runs, cast(Any, None), cast(Any, None))
        call = cast(Any, SimpleNamespace(principal=SimpleNamespace(namespace=NAMESPACE)))
        with pytest.raises(BrokenRunError):
            await methods.stop_run(call, wire.StopRunRequest(run="run"))
        await methods.stop_run(call, wire.StopRunRequest(run="run", forget=True))
        with pytest.raises(UnknownRunError):
            runs.find(NAMESPACE, "run")

    during(work)
    assert "can't go on" in caplog.text


def test_a_record_that_cannot_be_carried_out_names_its_run(tmp_path: Path) -> None:
    """A server that can't resume a run says which, instead of falling over."""

    async def work(run: Run, runs: Runs) -> None:
        await runs.journal.append(run.book.made.id, 1, encode(Joined(0, "a", "session")))
        stepped = Stepped(0, 0, (7,), (1,), 0.0, (), np.zeros(3))
        await runs.journal.append(run.book.made.id, 2, encode(stepped))
        again = Runs(Journal(tmp_path), SETTINGS)
        await runs.close()
        with pytest.raises(DamagedError, match=f"run {run.book.made.id} can't be resumed"):
            await again.load()
        await again.journal.close()

    during(work, tmp_path)


def test_parameters_are_never_half_of_a_step() -> None:
    """A step brings other parameters, and leaves those alone that somebody may be reading."""
    book = Book.new(Made("id", NAMESPACE, "run", specification(), LAYOUT, 0), np.array([1.0, 2.0]), 10)
    book.apply(Joined(0, "a", "session"))
    before = book.vector
    record = Stepped(0, 0, (0,), (1,), 0.0, (0,), np.array([3.0, 1.0, 2.0]))
    updated = book.updated(record)
    assert (book.vector.tolist(), book.step) == ([1.0, 2.0], 0)
    book.apply(record, updated)
    assert (book.vector.tolist(), book.step) == ([0.5, 1.0], 1)
    assert before.tolist() == [1.0, 2.0]


def test_one_who_does_not_read_is_not_listened_to() -> None:
    """What a stream has to say waits for its reader, and a reader lets it go on; so does the end."""

    async def work() -> None:
        desk = Desk(0, "session")
        for _ in range(MANY_NOTES - 1):
            desk.note(b"note")
        await desk.heeded()
        desk.note(b"note")
        waiting = asyncio.ensure_future(desk.heeded())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await desk.next() == b"note"
        await waiting
        desk.note(b"note")
        waiting = asyncio.ensure_future(desk.heeded())
        await asyncio.sleep(0)
        desk.close()
        await waiting

    asyncio.run(work())


def test_a_fault_in_reading_ends_the_stream() -> None:
    """The member hears of it, instead of waiting for a stream that nobody reads any more."""

    class Broken:
        async def part(self, *given: object) -> Part:
            return Part(np.zeros(3), 1)

    async def requests() -> AsyncIterator[wire.StepRequest]:
        yield wire.StepRequest(contribution=wire.Contribution(nothing=wire.Nothing()))

    async def work(run: Run, runs: Runs) -> None:
        number, session = await run.join("a", SETTINGS)
        desk = await run.attach(number, session)
        await turn(desk)

        def fault(*given: object) -> None:
            raise OSError("no memory to share")

        run.contributed = fault  # type: ignore[method-assign]
        call = cast(Any, SimpleNamespace(client="c", principal=SimpleNamespace(max_queue=None), samples=0))
        await _Member(SETTINGS, call, run, desk, cast(Any, Broken())).read(requests())
        with pytest.raises(OSError, match="no memory"):
            await desk.next()

    during(work)


def test_a_step_waits_for_memory() -> None:
    """There is none for the new parameters at first; nobody sees anything between the two steps, and the bits are those of a calm run."""

    async def work(run: Run, runs: Runs) -> None:
        number, session = await run.join("a", SETTINGS)
        desk = await run.attach(number, session)
        await turn(desk)
        assert run.book.optimizer is not None
        update, failures = run.book.optimizer.update, [MemoryError(), MemoryError()]

        def failing(*given: Any) -> Any:
            found = update(*given)
            if failures:
                raise failures.pop()
            return found

        run.book.optimizer.update = failing  # type: ignore[method-assign]
        give(run, number)
        assert (await turn(desk)).step == 1
        assert not failures
        give(run, number)
        assert np.frombuffer((await turn(desk)).parameters).tolist() == [1.0 - 0.25 - 0.375, 2.0 - 0.25 - 0.375]
        assert run.book.optimizer.steps == 2

    momentum = wire.Optimizer(sgd=wire.SGD(momentum=0.5), learning_rate=wire.Schedule(rate=0.5))
    during(work, optimizer=momentum)


def test_the_end_is_told_when_it_is_on_the_disk(tmp_path: Path) -> None:
    """Who comes while a run is being stopped hears nothing until the journal has it."""

    async def work(run: Run, runs: Runs) -> None:
        number, session = await run.join("a", SETTINGS)
        append, reached, room = runs.journal.append, asyncio.Event(), asyncio.Event()

        async def slow(*given: Any) -> None:
            reached.set()
            await room.wait()
            await append(*given)

        runs.journal.append = slow  # type: ignore[method-assign]
        stopping = asyncio.ensure_future(run.stop())
        await reached.wait()
        coming = [asyncio.ensure_future(run.attach(number, session)), asyncio.ensure_future(run.join("b", SETTINGS))]
        await asyncio.sleep(0)
        assert not any(task.done() for task in coming)
        room.set()
        desk, (_, no_session) = [await task for task in coming]
        ended = wire.StepResponse.FromString(await desk.next() or b"").ended
        assert (ended.state, no_session) == (wire.RUN_STATE_STOPPED, "")
        await stopping

    during(work, tmp_path)


def test_a_server_that_goes_makes_no_runs() -> None:
    """What is asked for while it drains, and what was on its way then, is refused or closed."""

    async def work(run: Run, runs: Runs) -> None:
        append, reached = runs.journal.append, asyncio.Event()

        async def noticed(*given: Any) -> None:
            reached.set()
            await append(*given)

        runs.journal.append = noticed  # type: ignore[method-assign]
        making = asyncio.ensure_future(runs.create(NAMESPACE, "other", specification(), LAYOUT, PARAMETERS))
        await reached.wait()
        await runs.drain()
        other, _ = await making
        with pytest.raises(DrainingError):
            await other.join("a", SETTINGS)
        with pytest.raises(DrainingError):
            await runs.create(NAMESPACE, "third", specification(), LAYOUT, PARAMETERS)

    during(work)


def test_a_run_that_is_being_forgotten_is_not_found(tmp_path: Path) -> None:
    """One who asks for a run of its name at that moment gets a new one."""

    async def work(run: Run, runs: Runs) -> None:
        forget, reached = runs.journal.forget, asyncio.Event()

        async def noticed(number: str) -> None:
            reached.set()
            await forget(number)

        runs.journal.forget = noticed  # type: ignore[method-assign]
        forgetting = asyncio.ensure_future(runs.forget(run))
        await reached.wait()
        found, known = await runs.create(NAMESPACE, "run", specification(), LAYOUT, PARAMETERS)
        await forgetting
        assert not known
        assert runs.find(NAMESPACE, "run") is found

    during(work, tmp_path)


def test_runs_have_so_many_bytes_together() -> None:
    """What is too much is refused, unless a run that has ended makes way; what nobody knows in a specification is not kept."""

    async def work() -> None:
        runs = Runs(Journal(None), Settings(max_run_bytes=3 * 8 * 10_000 + 100_000))
        await runs.load()
        layout, parameters = Layout((), (("w", (10_000,)),)), {"w": np.zeros(10_000)}
        adam = wire.Optimizer(adam=wire.Adam(beta1=0.9, beta2=0.99, epsilon=1e-8), learning_rate=wire.Schedule(rate=0.5))
        unknown = wire.RunSpecification.FromString(specification(optimizer=adam).SerializeToString() + b"\xfa\x3f\x04abcd")
        first, _ = await runs.create(NAMESPACE, "first", unknown, layout, parameters)
        assert b"abcd" not in first.book.made.specification.SerializeToString()
        with pytest.raises(LimitError, match="max_run_bytes is 340,000: stop and forget"):
            await runs.create(NAMESPACE, "second", specification(optimizer=adam), layout, parameters)
        await runs.create(NAMESPACE, "small", specification(), LAYOUT, PARAMETERS)
        await first.stop()
        await runs.create(NAMESPACE, "second", specification(optimizer=adam), layout, parameters)
        assert [run.book.made.name for run in runs] == ["second", "small"]
        await runs.close()

    asyncio.run(work())


def test_a_ledger_comes_back_from_a_snapshot() -> None:
    """Lines of members that come and go, to the last number; that of many members takes little more than their counts."""
    many = 1000
    book = Book.new(Made("id", NAMESPACE, "run", specification(), LAYOUT, 0), np.zeros(2), 5 * many)
    for number in range(many):
        book.apply(Joined(number, f"member {number}", "session"))
    random = np.random.default_rng(0)
    teams = [tuple(range(many)), (7,), (0, 3, 999), tuple(range(many))]
    for step in range(many):
        members = teams[step * len(teams) // many]
        samples = tuple(random.integers(0, 1 << 33 if step == 3 else 200, len(members)).tolist())
        book.apply(Stepped(step, step % 3, members, samples, 0.5 * step, (0,), random.normal(size=3)))
    data = b"".join(book.snapshot())
    again = Book.restored(data, 5 * many)
    for mine, theirs in zip(book.ledger, again.ledger, strict=True):
        assert (mine.step, mine.attempt, mine.seconds, mine.sums.tobytes()) == (
            theirs.step,
            theirs.attempt,
            theirs.seconds,
            theirs.sums.tobytes(),
        )
        assert mine.members.tolist() == theirs.members.tolist() == list(teams[mine.step * len(teams) // many])
        assert mine.samples.tolist() == theirs.samples.tolist()
    assert again.tallies == book.tallies
    assert len(data) < 8 * many * many


def test_counts_that_stay_the_same_are_kept_once() -> None:
    """Most members contribute as many samples in each step: then a ledger takes no more than its sums, also after a restart."""
    many = 1000
    book = Book.new(Made("id", NAMESPACE, "run", specification(), LAYOUT, 0), np.zeros(2), 2 * many)
    for number in range(many):
        book.apply(Joined(number, f"member {number}", "session"))

    def steps(first: int) -> None:
        for step in range(first, first + many):
            book.apply(Stepped(step, 0, tuple(range(many)), (300,) * many, 0.5 * step, (0,), np.ones(3)))

    steps(0)
    book = Book.restored(b"".join(book.snapshot()), 2 * many)
    steps(many)
    data = b"".join(book.snapshot())
    assert len(data) < 300 * many
    assert all(line.samples is book.ledger[0].samples for line in book.ledger)
    assert [line.samples.tolist() for line in Book.restored(data, 2 * many).ledger] == [[300] * many] * 2 * many


def test_a_long_ledger_is_told_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the event loop nor the run waits while the lines of many members are written for one who asks or watches."""
    makers: list[tuple[bool, bool]] = []  # whether it was the event loop's thread, and whether the run's book was held

    async def work(run: Run, runs: Runs) -> None:
        many = 300
        for number in range(many):
            run.book.apply(Joined(number, f"member {number}", "session"))
        for step in range(many):
            run.book.apply(Stepped(step, 0, tuple(range(many)), (step,) * many, 0.5, (), np.full(3, step)))
        run.machine = run.book.machine(0.0)
        await run.stop()
        expected = [messages.line(line, LAYOUT) for line in run.book.ledger]
        loop, with_lines = threading.get_ident(), messages.with_lines

        def watched(*given: Any) -> bytes:
            makers.append((threading.get_ident() == loop, run.writing.locked()))
            return with_lines(*given)

        monkeypatch.setattr(messages, "with_lines", watched)
        methods = RunMethods(SETTINGS, runs, cast(Any, None), cast(Any, None))
        sent: list[bytes] = []

        async def send(data: bytes) -> None:
            sent.append(data)

        call = cast(Any, SimpleNamespace(principal=SimpleNamespace(namespace=NAMESPACE), send=send))
        told = wire.GetRunResponse.FromString(await methods.get_run(call, wire.GetRunRequest(request_id="id", run="run", ledger_from=10)))
        assert (told.request_id, told.run.name, list(told.ledger)) == ("id", "run", expected[10:])
        await methods.watch_run(call, wire.WatchRunRequest(run="run"))
        assert list(wire.RunProgress.FromString(sent[0]).steps) == expected

    during(work)
    assert makers == [(False, False)] * 2


async def turns_of_the_loop() -> None:
    """What can happen happens."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ended(runs: Runs, name: str, width: int = 2) -> Run:
    """A run of so many parameters that was stopped."""
    run, _ = await runs.create(NAMESPACE, name, specification(), Layout((), (("w", (width,)),)), {"w": np.zeros(width)})
    await run.stop()
    return run


def names(runs: Runs) -> list[str]:
    """Those of all runs."""
    return sorted(run.book.made.name for run in runs)


def test_results_make_way_for_what_comes_in_and_for_nothing_else(tmp_path: Path) -> None:
    """A run that is refused, too large or for want of room on the disk, takes none along; one that is taken lets as many go as have to."""

    async def work() -> None:
        wide, journal = 10_000, Journal(tmp_path)
        runs = Runs(journal, Settings(max_run_bytes=3 * 90_000))
        await runs.load()
        for name in ("one", "two", "three"):
            (await ended(runs, name, wide)).book.made.__dict__["created"] = len(names(runs))
        with pytest.raises(LimitError, match="beside 0 of those that can't make way"):
            await ended(runs, "large", 10 * wide)
        append = journal.append

        async def full(*given: Any) -> None:
            raise NoRoomError("the disk is full")

        journal.append = full  # type: ignore[method-assign]
        with pytest.raises(NoRoomError):
            await ended(runs, "four", wide)
        assert names(runs) == ["one", "three", "two"]
        journal.append = append  # type: ignore[method-assign]
        await ended(runs, "four", wide)
        assert names(runs) == ["four", "three", "two"]
        await runs.close()

    asyncio.run(work())


@pytest.mark.parametrize(("where", "what"), [(run_module, "combined"), (messages, "turn")])
def test_a_moment_without_memory_is_waited_for(where: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the sum as for the turn: the run goes on when there is some again."""
    real, calls = getattr(where, what), []

    def short(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise MemoryError("for a moment")
        return real(*given)

    async def work(run: Run, runs: Runs) -> None:
        desk = await run.attach(*await run.join("a", SETTINGS))
        await turn(desk)
        monkeypatch.setattr(where, what, short)
        for step in (1, 2, 3):
            give(run, 0)
            assert (await turn(desk)).step == step
        assert not run.broken
        assert run.trouble == ""

    during(work)
    assert len(calls) == 4


def test_who_leaves_hears_so_when_it_is_on_the_disk(tmp_path: Path) -> None:
    """After a crash before that the seat is still there: then nobody has been told that it is given up."""

    async def work(run: Run, runs: Runs) -> None:
        desk = await run.attach(*await run.join("a", SETTINGS))
        await turn(desk)
        append, written = runs.journal.append, asyncio.Event()

        async def slow(*given: Any) -> None:
            await written.wait()
            await append(*given)

        runs.journal.append = slow  # type: ignore[method-assign]
        run.leave(0)
        hearing = asyncio.ensure_future(desk.next())
        await turns_of_the_loop()
        assert not hearing.done()
        assert 0 in run.book.sessions
        written.set()
        assert wire.StepResponse.FromString(await hearing or b"").HasField("ended")
        assert run.book.sessions == {}

    during(work, tmp_path)


def test_who_waits_to_leave_hears_that_the_server_goes(tmp_path: Path) -> None:
    """Where the disk does not answer."""

    async def work(run: Run, runs: Runs) -> None:
        desk = await run.attach(*await run.join("a", SETTINGS))
        await turn(desk)
        append, stuck = runs.journal.append, asyncio.Event()

        async def slow(*given: Any) -> None:
            await stuck.wait()
            await append(*given)

        runs.journal.append = slow  # type: ignore[method-assign]
        run.leave(0)
        closing = asyncio.ensure_future(run.close())
        with pytest.raises(DrainingError):
            await desk.next()
        stuck.set()
        await closing

    during(work, tmp_path)


def test_a_session_has_one_seat() -> None:
    """A JoinRun of a seat that was given up, or taken over, may come late: it takes no other, and leaves no seat that nobody keeps."""

    async def work(run: Run, runs: Runs) -> None:
        first = await run.join("a", SETTINGS, SESSION)
        second = await run.join("a", SETTINGS, f"{SESSION} too")
        desk = await run.attach(*second)
        await turn(desk)
        with pytest.raises(SupersededError, match="make another session"):
            await run.join("a", SETTINGS, first[1])
        give(run, 0)
        assert (await turn(desk)).step == 1
        run.leave(0)
        for _, session in (first, second):
            with pytest.raises(SupersededError, match="make another session"):
                await run.join("a", SETTINGS, session)
        assert run.machine.seats == {}
        assert (await run.join("a", SETTINGS, f"{SESSION} three"))[0] == 0

    during(work)


def test_joins_that_are_given_up_leave_nothing_behind(tmp_path: Path) -> None:
    """While the disk does not answer one of a name is under way; the others wait, for as long as their callers do."""

    async def work(run: Run, runs: Runs) -> None:
        append, working = runs.journal.append, asyncio.Event()

        async def slow(*given: Any) -> None:
            await working.wait()
            await append(*given)

        runs.journal.append = slow  # type: ignore[method-assign]
        joins = [asyncio.ensure_future(run.join("a", SETTINGS)) for _ in range(50)]
        await turns_of_the_loop()
        last = asyncio.ensure_future(run.join("a", SETTINGS))
        for join in joins[1:]:
            join.cancel()
        await asyncio.wait(joins[1:])
        assert len(run.machine.instructions) <= 2
        working.set()
        assert (await joins[0])[0] == 0
        desk = await run.attach(*await last)
        await turn(desk)
        assert len(run.machine.names) == 1

    during(work, tmp_path)


@pytest.mark.parametrize("waits", [False, True])
def test_a_seat_that_nobody_waits_for_is_given_back(tmp_path: Path, waits: bool) -> None:
    """The others would wait for it for a lease. The same session may ask again, or be waiting already."""

    async def work(run: Run, runs: Runs) -> None:
        append, working = runs.journal.append, asyncio.Event()

        async def slow(*given: Any) -> None:
            await working.wait()
            await append(*given)

        runs.journal.append = slow  # type: ignore[method-assign]
        first = asyncio.ensure_future(run.join("a", SETTINGS, SESSION))
        await turns_of_the_loop()
        again = asyncio.ensure_future(run.join("a", SETTINGS, SESSION)) if waits else None
        await turns_of_the_loop()
        first.cancel()
        await asyncio.wait([first])
        working.set()
        if again is None:
            desk = await run.attach(*await run.join("b", SETTINGS))
            assert list((await turn(desk)).members) == [1]
            assert run.machine.seats.keys() == {1}
            again = asyncio.ensure_future(run.join("a", SETTINGS, SESSION))
        desk = await run.attach(*await again)
        assert run.machine.seats[0].session == SESSION

    during(work, tmp_path)


@pytest.mark.parametrize("error", [MemoryError("for a moment"), ZeroDivisionError("a fault of ours")])
def test_a_compaction_that_has_failed_is_tried_again(tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it failed for: the journal does not grow for ever."""
    real, tries = Book.snapshot, []

    def failing(book: Book) -> Any:
        tries.append(book)
        if len(tries) == 1:
            raise error
        return real(book)

    async def work() -> None:
        runs = Runs(Journal(tmp_path, 1000), SETTINGS)
        await runs.load()
        run, _ = await runs.create(NAMESPACE, "run", specification(), LAYOUT, PARAMETERS)
        monkeypatch.setattr(Book, "snapshot", failing)
        desk = await run.attach(*await run.join("a", SETTINGS))
        async with asyncio.timeout(support.PATIENCE):
            while len(tries) < 2 or runs.journal.full:
                await turn(desk)
                give(run, 0)
        await runs.close()

    asyncio.run(work())
    assert list(tmp_path.glob("snapshot-*"))
