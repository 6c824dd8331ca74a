"""The state machine: events go in, instructions are compared; and any order of events keeps the invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sumgrad_server.dispatch import (
    MAX_DEATHS,
    MAX_FAILED_STARTS,
    MAX_LIGHT,
    Abort,
    Broken,
    Close,
    Dispatcher,
    Drain,
    Event,
    Fail,
    Finish,
    Instruction,
    Interrupt,
    Kill,
    Overdue,
    Reject,
    Release,
    ShardDone,
    ShardFailed,
    Spawn,
    Stalled,
    Start,
    Stop,
    Stopped,
    Submit,
    WorkerLost,
    WorkerReady,
)


class Checked:
    """A dispatcher whose invariants are checked after every event."""

    def __init__(self, workers: int, max_jobs: int = 100) -> None:
        self.dispatcher = Dispatcher(workers, max_jobs)
        self.begun = self.dispatcher.begin()

    def __call__(self, *events: Event) -> list[Instruction]:
        """The instructions of all these events."""
        instructions: list[Instruction] = []
        for event in events:
            instructions += self.dispatcher.handle(event)
            self.dispatcher.check()
        return instructions


@pytest.fixture
def two() -> Iterator[Checked]:
    """Two workers, both ready; at the end the invariants hold."""
    machine = Checked(2)
    assert machine.begun == [Spawn(0), Spawn(1)]
    assert machine(WorkerReady(0), WorkerReady(1)) == []
    yield machine
    machine.dispatcher.check()


def test_shards_go_to_idle_workers(two: Checked) -> None:
    """Each ready worker gets one shard, and the next when it has answered; the last answer finishes the job."""
    assert two(Submit(1, 3)) == [Start(0, 1, 0), Start(1, 1, 1)]
    assert two(ShardDone(1, 1, 1)) == [Start(1, 1, 2)]
    assert two(ShardDone(0, 1, 0)) == []
    assert two(ShardDone(1, 1, 2)) == [Finish(1)]
    assert two(Close(1)) == [Release(1)]


def test_work_waits_for_the_first_worker() -> None:
    """What is submitted before any worker is ready starts when one is."""
    machine = Checked(1)
    assert machine(Submit(1, 1)) == []
    assert machine(WorkerReady(0)) == [Start(0, 1, 0)]


def test_jobs_take_turns(two: Checked) -> None:
    """A small job is not stuck behind a large one."""
    two(Submit(1, 100))
    assert two(Submit(2, 1)) == []
    assert two(ShardDone(0, 1, 0)) == [Start(0, 1, 2)]
    assert two(ShardDone(1, 1, 1)) == [Start(1, 2, 0)]
    assert two(ShardDone(1, 2, 0)) == [Finish(2), Start(1, 1, 3)]


def test_second_answer_is_dropped(two: Checked) -> None:
    """A shard counts once, however often its answer comes."""
    two(Submit(1, 2))
    two(ShardDone(0, 1, 0))
    assert two(ShardDone(0, 1, 0)) == []
    assert two(ShardDone(1, 1, 0)) == []
    assert two(ShardDone(1, 1, 1)) == [Finish(1)]


def test_dead_workers_shard_goes_to_another(two: Checked) -> None:
    """A lost worker's shard is first in line, a new worker is spawned, and the dead one's late answer is dropped."""
    two(Submit(1, 4))
    assert two(WorkerLost(0)) == [Spawn(2)]
    assert two(ShardDone(0, 1, 0)) == []
    assert two(ShardDone(1, 1, 1)) == [Start(1, 1, 0)]
    assert two(WorkerReady(2)) == [Start(2, 1, 2)]


def test_idle_worker_takes_over_at_once(two: Checked) -> None:
    """If somebody is idle, a dead worker's shard starts again with no delay."""
    two(Submit(1, 1))
    assert two(WorkerLost(0)) == [Spawn(2), Start(1, 1, 0)]


def test_deadly_shard_fails_its_job() -> None:
    """A shard that three workers died of fails its job, and the service goes on."""
    machine = Checked(1)
    machine(WorkerReady(0), Submit(1, 2))
    for worker in range(MAX_DEATHS - 1):
        machine(WorkerLost(worker))
        assert machine(WorkerReady(worker + 1)) == [Start(worker + 1, 1, 0)]
    last = MAX_DEATHS - 1
    assert machine(WorkerLost(last)) == [Fail(1, None, MAX_DEATHS), Spawn(MAX_DEATHS)]
    assert machine(Close(1)) == [Release(1)]
    assert machine(WorkerReady(MAX_DEATHS), Submit(2, 1)) == [Start(MAX_DEATHS, 2, 0)]


def test_error_fails_the_job_and_stops_the_rest(two: Checked) -> None:
    """A shard's error is the job's; other workers are asked to stop, and the memory goes when they have."""
    error = ValueError("log of nothing")
    two(Submit(1, 5))
    assert two(ShardFailed(0, 1, 0, error)) == [Interrupt(1), Fail(1, error)]
    assert two(Close(1)) == [Interrupt(1)]
    assert two(ShardFailed(1, 1, 1, error)) == [Release(1)]


def test_memory_is_kept_while_a_worker_may_write(two: Checked) -> None:
    """A cancelled job's memory is released by the last worker that had it: by its answer or its death."""
    two(Submit(1, 5))
    assert two(Close(1)) == [Interrupt(1)]
    assert two(ShardDone(0, 1, 0)) == []
    assert two(WorkerLost(1)) == [Release(1), Spawn(2)]
    assert two(Submit(2, 1)) == [Start(0, 2, 0)]


def test_waiting_job_is_cancelled_without_a_trace(two: Checked) -> None:
    """Closing a job that has not begun releases it at once."""
    two(Submit(1, 2), Submit(2, 2))
    assert two(Close(2)) == [Release(2)]
    assert two(Close(2)) == []


def light(job: int, client: str = "") -> Submit:
    """A job that takes next to no time."""
    return Submit(job, 1, client, None, light=True, work="known")


def warmed(machine: Checked) -> Checked:
    """The machine when each worker has done some of the work before."""
    workers = len(machine.begun)
    machine(*[Submit(-1 - worker, 1, work="known") for worker in range(workers)])
    machine(*[ShardDone(worker, -1 - worker, 0) for worker in range(workers)], *[Close(-1 - worker) for worker in range(workers)])
    return machine


def test_light_jobs_are_handed_out_in_advance(two: Checked) -> None:
    """Idle workers come first; then light shards line up at the workers that have only such, evenly, and in order."""
    warmed(two)
    assert two(*[light(job) for job in range(1, 6)]) == [Start(0, 1, 0), Start(1, 2, 0), Start(0, 3, 0), Start(1, 4, 0), Start(0, 5, 0)]
    assert two(ShardDone(0, 1, 0)) == [Finish(1)]
    assert two(ShardDone(0, 5, 0)) == []  # not its turn: no answer to what was asked next


def test_light_jobs_line_up_only_where_their_program_is(two: Checked) -> None:
    """A worker that has yet to prepare a program gets no other shard meanwhile, and a light one no worker that would have to prepare it."""
    two(Submit(1, 1, work="other"), ShardDone(0, 1, 0), Close(1))
    assert two(light(2), light(3), light(4)) == [Start(0, 2, 0), Start(1, 3, 0)]
    assert two(ShardDone(1, 3, 0)) == [Finish(3), Start(1, 4, 0)]
    assert two(light(5), light(6)) == [Start(1, 5, 0), Start(1, 6, 0)]
    assert two(Submit(7, 1, light=True, work="unknown")) == []


def test_light_jobs_wait_behind_no_heavy_one(two: Checked) -> None:
    """A worker with a heavy shard gets no light ones, and a heavy job is not overtaken by lining up light ones after it."""
    warmed(two)
    assert two(Submit(1, 2)) == [Start(0, 1, 0), Start(1, 1, 1)]
    assert two(light(2)) == []
    assert two(ShardDone(0, 1, 0)) == [Start(0, 2, 0)]
    assert two(Submit(3, 1)) == []
    assert two(light(4)) == []
    assert two(ShardDone(1, 1, 1)) == [Finish(1), Start(1, 3, 0), Start(0, 4, 0)]


def test_no_more_light_shards_than_may_be() -> None:
    """A worker has at most so many light shards."""
    machine = Checked(1)
    machine(WorkerReady(0))
    warmed(machine)
    started = machine(*[light(job) for job in range(1, 2 * MAX_LIGHT)])
    assert [step.job for step in started if isinstance(step, Start)] == list(range(1, MAX_LIGHT + 1))
    assert machine(ShardDone(0, 1, 0)) == [Finish(1), Start(0, MAX_LIGHT + 1, 0)]


def test_a_line_of_light_shards_is_not_blamed_as_a_whole() -> None:
    """When a worker with several dies, each is done again by itself; the one that kills workers then fails its own job."""
    machine = Checked(1)
    machine(WorkerReady(0))
    warmed(machine)
    machine(*[light(job) for job in range(1, 4)])
    assert machine(WorkerLost(0)) == [Spawn(1)]
    for worker in range(1, MAX_DEATHS):
        assert machine(WorkerReady(worker)) == [Start(worker, 1, 0)]
        assert machine(WorkerLost(worker)) == [Spawn(worker + 1)]
    assert machine(WorkerReady(MAX_DEATHS)) == [Start(MAX_DEATHS, 1, 0)]
    assert machine(WorkerLost(MAX_DEATHS)) == [Fail(1, None, MAX_DEATHS), Spawn(MAX_DEATHS + 1)]
    last = MAX_DEATHS + 1
    assert machine(WorkerReady(last)) == [Start(last, 2, 0)]
    assert machine(ShardDone(last, 2, 0)) == [Finish(2), Start(last, 3, 0)]


def test_a_closed_light_job_behind_others_waits_for_its_turn(two: Checked) -> None:
    """When its time to stop is over and it is not at work yet, it is told again, and nobody is killed."""
    warmed(two)
    two(*[light(job) for job in range(1, 4)])
    assert two(Close(3)) == [Interrupt(3)]
    assert two(Overdue(3)) == [Interrupt(3)]
    assert two(ShardDone(0, 1, 0)) == [Finish(1)]
    assert two(Overdue(3)) == [Kill(0, "it does not stop a cancelled request")]


def test_worker_without_a_sign_of_life_is_killed(two: Any) -> None:
    """A worker that is stalled is killed, and its shard goes to another; one that is gone by then is nobody's business."""
    two(Submit(1, 1))
    assert two(Stalled(0)) == [Kill(0, "it shows no sign of life")]
    assert two(WorkerLost(0)) == [Spawn(2), Start(1, 1, 0)]
    assert two(Stalled(0)) == []


def test_clients_take_turns() -> None:
    """A client with two jobs has as many turns as one with one, and its jobs take turns among themselves."""
    machine = Checked(1)
    (task,) = machine(WorkerReady(0), Submit(1, 3, "busy"), Submit(2, 3, "busy"), Submit(3, 4, "other"))
    jobs = []
    for _ in range(7):
        (task,) = [step for step in machine(ShardDone(0, task.job, task.shard)) if isinstance(step, Start)]
        jobs.append(task.job)
    assert jobs == [1, 3, 2, 3, 1, 3, 2]


def test_a_client_has_its_share_of_the_queue() -> None:
    """A client with as many jobs as it may have is refused another one until one of them is closed; others are not."""
    machine = Checked(1)
    machine(WorkerReady(0), Submit(1, 1, "a", 1))
    assert machine(Submit(2, 1, "a", 1)) == [Reject(2, "max_client_queue")]
    assert machine(Submit(3, 1, "b", 1)) == []
    machine(ShardDone(0, 1, 0), Close(1))
    assert machine(Submit(4, 1, "a", 1)) == []


def test_worker_that_does_not_stop_is_killed(two: Checked) -> None:
    """When a closed job is overdue, the workers that still run it are killed, and only those."""
    two(Submit(1, 1), Submit(2, 1), Close(1))
    assert two(Overdue(1)) == [Kill(0, "it does not stop a cancelled request")]
    assert two(Overdue(2)) == []
    assert two(WorkerLost(0)) == [Release(1), Spawn(2)]
    assert two(Overdue(1)) == []


def test_full_queue_rejects() -> None:
    """Jobs over the limit are rejected, and there is room again when one is released."""
    machine = Checked(1, max_jobs=2)
    machine(WorkerReady(0), Submit(1, 1), Submit(2, 1))
    assert machine(Submit(3, 1)) == [Reject(3, "max_queue")]
    machine(ShardDone(0, 1, 0), Close(1))
    assert machine(Submit(4, 1)) == []


def test_drain_finishes_what_runs(two: Checked) -> None:
    """Draining takes no new jobs, finishes those at hand, and then stops the workers."""
    two(Submit(1, 1))
    assert two(Drain()) == []
    assert two(Submit(2, 1)) == [Reject(2, "draining")]
    assert two(ShardDone(0, 1, 0)) == [Finish(1)]
    assert two(Close(1)) == [Release(1), Stop(0), Stop(1)]
    assert two(WorkerLost(0)) == []
    assert two(WorkerLost(1)) == [Stopped()]


def test_drain_replaces_a_worker_that_is_needed() -> None:
    """A worker that dies while the last job runs is replaced, draining or not."""
    machine = Checked(1)
    machine(WorkerReady(0), Submit(1, 1), Drain())
    assert machine(WorkerLost(0)) == [Spawn(1)]
    assert machine(WorkerReady(1)) == [Start(1, 1, 0)]


def test_abort_fails_what_runs_and_kills(two: Checked) -> None:
    """Aborting fails every job and doesn't wait for busy workers."""
    two(Submit(1, 1), Submit(2, 3))
    assert two(Abort()) == [
        Interrupt(1),
        Fail(1, None),
        Interrupt(2),
        Fail(2, None),
        *(Kill(worker, "the server goes down") for worker in (0, 1)),
    ]
    assert two(Close(1), Close(2)) == [Interrupt(1), Interrupt(2)]
    assert two(WorkerLost(0)) == [Release(1)]
    assert two(WorkerLost(1)) == [Release(2), Stopped()]


def test_workers_that_never_start_are_given_up() -> None:
    """A broken installation doesn't spawn processes for ever."""
    machine = Checked(1)
    machine(Submit(1, 1))
    for worker in range(MAX_FAILED_STARTS - 1):
        assert machine(WorkerLost(worker)) == [Spawn(worker + 1)]
    assert machine(WorkerLost(MAX_FAILED_STARTS - 1)) == [Broken(), Fail(1, None)]
    assert machine(Submit(2, 1)) == [Reject(2, "draining")]
    assert machine(Close(1)) == [Release(1), Stopped()]


class AnyOrder(RuleBasedStateMachine):
    """All orders of events, with a model of the outside: processes, owners, and who may write to which memory."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, list[tuple[int, int]]] = {}  # workers and what they have to compute, in order
        self.light: dict[int, bool] = {}
        self.unready: set[int] = set()
        self.owned: dict[int, int] = {}  # jobs that are not closed, and their shards
        self.told: set[int] = set()
        self.released: set[int] = set()
        self.answers: Counter[tuple[int, int]] = Counter()
        self.numbers = 0
        self.stopped = False

    @initialize(workers=st.integers(1, 4))
    def begin(self, workers: int) -> None:
        self.dispatcher = Dispatcher(workers, max_jobs=6)
        self.obey(self.dispatcher.begin())

    def feed(self, event: Event) -> list[Instruction]:
        instructions = self.dispatcher.handle(event)
        self.obey(instructions)
        return instructions

    def obey(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            assert not self.stopped or isinstance(instruction, Reject), "only refusals come after Stopped"
            self.obey_one(instruction)

    def obey_one(self, instruction: Instruction) -> None:
        match instruction:
            case Spawn(worker):
                assert worker not in self.alive
                self.alive[worker] = []
                self.unready.add(worker)
            case Start(worker, job, shard):
                assert all(self.light[task[0]] for task in [*self.alive[worker], (job, shard)]) or not self.alive[worker], (
                    "one heavy shard at a time"
                )
                assert len(self.alive[worker]) < MAX_LIGHT
                assert worker not in self.unready
                assert job in self.owned, "only jobs that somebody wants are computed"
                assert self.answers[job, shard] == 0, "a shard that is done is not done again"
                self.alive[worker].append((job, shard))
            case Finish(job):
                assert all(self.answers[job, shard] == 1 for shard in range(self.owned[job])), "every shard exactly once"
                self.tell(job)
            case Fail(job):
                self.tell(job)
            case Reject(job):
                del self.owned[job]
            case Release(job):
                assert job not in self.owned, "its owner may still read"
                assert all(task[0] != job for tasks in self.alive.values() for task in tasks), "a worker may still write"
                assert job not in self.released
                self.released.add(job)
            case Stopped():
                assert not self.alive
                self.stopped = True

    def tell(self, job: int) -> None:
        assert job not in self.told, "an owner is told once"
        self.told.add(job)

    def pick(self, data: Any, workers: list[int]) -> int:
        return int(data.draw(st.sampled_from(sorted(workers))))

    @rule(shards=st.integers(1, 5))
    def submit(self, shards: int) -> None:
        self.numbers += 1
        self.owned[self.numbers] = shards
        self.light[self.numbers] = shards == 1
        self.feed(Submit(self.numbers, shards, light=shards == 1, work=shards))

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def close(self, data: Any) -> None:
        job = data.draw(st.sampled_from(sorted(self.owned)))
        del self.owned[job]
        self.feed(Close(job))

    @precondition(lambda self: self.unready)
    @rule(data=st.data())
    def become_ready(self, data: Any) -> None:
        worker = self.pick(data, list(self.unready))
        self.unready.discard(worker)
        self.feed(WorkerReady(worker))

    @precondition(lambda self: any(self.alive.values()))
    @rule(data=st.data(), fails=st.sampled_from([False, False, False, True]))
    def answer(self, data: Any, fails: bool) -> None:
        worker = self.pick(data, [worker for worker, tasks in self.alive.items() if tasks])
        task = self.alive[worker].pop(0)
        if fails:
            self.feed(ShardFailed(worker, *task, ValueError("no")))
        else:
            self.answers[task] += task[0] in self.owned and task[0] not in self.told
            self.feed(ShardDone(worker, *task))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def lose(self, data: Any) -> None:
        worker = self.pick(data, list(self.alive))
        del self.alive[worker]
        self.unready.discard(worker)
        self.feed(WorkerLost(worker))

    @rule(worker=st.integers(0, 30), job=st.integers(0, 30), shard=st.integers(0, 5))
    def hear_a_ghost(self, worker: int, job: int, shard: int) -> None:
        """Answers of workers that were not asked change nothing."""
        if self.alive.get(worker, [])[:1] != [(job, shard)]:
            assert self.feed(ShardDone(worker, job, shard)) == []

    @rule(job=st.integers(0, 30))
    def overdue(self, job: int) -> None:
        for step in self.feed(Overdue(job)):
            assert job not in self.owned
            if isinstance(step, Kill):
                assert self.alive[step.worker][0][0] == job
            else:
                assert step == Interrupt(job)

    @rule(event=st.sampled_from([Drain(), Drain(), Abort()]))
    def drain(self, event: Event) -> None:
        if self.numbers > 3:
            self.feed(event)

    @invariant()
    def is_consistent(self) -> None:
        if hasattr(self, "dispatcher"):
            self.dispatcher.check()

    def teardown(self) -> None:
        """From wherever it is, the machine comes to its end when workers answer and owners close."""
        if not hasattr(self, "dispatcher"):
            return
        while self.unready:
            worker = self.unready.pop()
            self.feed(WorkerReady(worker))
        while any(self.alive.values()):
            worker, tasks = next((worker, tasks) for worker, tasks in self.alive.items() if tasks)
            task = tasks.pop(0)
            self.answers[task] += task[0] in self.owned and task[0] not in self.told
            self.feed(ShardDone(worker, *task))
            self.dispatcher.check()
        assert set(self.owned) <= self.told, "every job comes to an end"
        for job in list(self.owned):
            del self.owned[job]
            self.feed(Close(job))
        self.feed(Drain())
        for worker in list(self.alive):
            del self.alive[worker]
            self.feed(WorkerLost(worker))
        assert self.stopped


AnyOrder.TestCase.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
TestAnyOrder = AnyOrder.TestCase
