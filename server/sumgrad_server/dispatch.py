"""Who computes what: a state machine without IO. Events go in, instructions come out, and nothing else happens.

A job is cut into shards, numbered from 0. The ledger of a job says which shards are done: one answer for a shard counts, that of the
worker that has it now, and any other is dropped, so nothing is summed twice; the shard of a worker that died goes to another, so nothing
is lost. Clients take turns, and the jobs of each, shard by shard: neither large jobs nor busy clients block others. A worker has one shard at
a time, or some of light jobs, which it does in their order: so the one it died of is known; a shard that three workers died of fails its job.

The owner of a job closes it when it no longer needs its memory: after it read the result, or before the end to cancel it. A job's memory is
released when it is closed and no worker can write into it any more, and not before.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

MAX_DEATHS = 3
"""Workers that a shard may kill before its job fails."""
MAX_LIGHT = 8
"""Light shards that a worker may have at a time: handing one out takes longer than such a shard does."""
MAX_FAILED_STARTS = 10
"""Workers that may die, one after the other and none becoming ready, before the machine gives up."""


@dataclass(frozen=True)
class Submit:
    """A new job of `shards` >= 1 shards, for a client that may have `most` jobs at a time (None: as many as all together).

    A `light` one is known to take next to no time for workers that have the program for its `work` at hand.
    """

    job: int
    shards: int
    client: str = ""
    most: int | None = None
    light: bool = False
    work: Hashable = None


@dataclass(frozen=True)
class Close:
    """The owner of a job needs it no more: cancels what is not done."""

    job: int


@dataclass(frozen=True)
class Overdue:
    """A closed job has had time enough to stop."""

    job: int


@dataclass(frozen=True)
class WorkerReady:
    """A spawned worker can take its first shard."""

    worker: int


@dataclass(frozen=True)
class ShardDone:
    """A worker has written a shard's result."""

    worker: int
    job: int
    shard: int


@dataclass(frozen=True)
class ShardFailed:
    """A shard's computation raised an error, which any worker would raise; or it noticed that its job was closed."""

    worker: int
    job: int
    shard: int
    error: Exception


@dataclass(frozen=True)
class WorkerLost:
    """A worker's process has ended."""

    worker: int


@dataclass(frozen=True)
class Stalled:
    """A worker has shown no sign of life for too long: it was stopped, or it hangs."""

    worker: int


@dataclass(frozen=True)
class Drain:
    """Take no new jobs, end when those at hand are closed."""


@dataclass(frozen=True)
class Abort:
    """Drain, fail what is not done, and don't wait for workers that are busy."""


Event: TypeAlias = Submit | Close | Overdue | WorkerReady | ShardDone | ShardFailed | WorkerLost | Stalled | Drain | Abort


@dataclass(frozen=True)
class Spawn:
    """Start a process for this worker."""

    worker: int


@dataclass(frozen=True)
class Start:
    """Send this shard to this worker."""

    worker: int
    job: int
    shard: int


@dataclass(frozen=True)
class Finish:
    """Every shard is done: tell the owner, who reads and closes."""

    job: int


@dataclass(frozen=True)
class Fail:
    """Tell the owner, who closes. `error` is the shard's own; None stands for `deaths` workers lost, or if that is 0 for an abort."""

    job: int
    error: Exception | None
    deaths: int = 0


@dataclass(frozen=True)
class Reject:
    """The job was not taken: the queue is full, or what the client may have in it, or the server drains. There is nothing to close."""

    job: int
    why: Literal["draining", "max_queue", "max_client_queue"]


@dataclass(frozen=True)
class Interrupt:
    """Ask the workers that run this job to stop."""

    job: int


@dataclass(frozen=True)
class Release:
    """No worker touches the job's memory any more, and the owner doesn't either."""

    job: int


@dataclass(frozen=True)
class Kill:
    """End this worker's process by force."""

    worker: int
    why: str


@dataclass(frozen=True)
class Stop:
    """End this idle worker's process."""

    worker: int


@dataclass(frozen=True)
class Stopped:
    """Drained, and every worker is gone."""


@dataclass(frozen=True)
class Broken:
    """Workers die before they are ready, again and again: there is no point in spawning more."""


Instruction: TypeAlias = Spawn | Start | Finish | Fail | Reject | Interrupt | Release | Kill | Stop | Stopped | Broken


@dataclass
class _Job:
    """The ledger of one job. A shard is waiting, running on workers, or done; when the job has ended the rest no longer matters."""

    client: str
    shards: int
    light: bool
    work: Hashable
    waiting: deque[int]
    done: set[int] = field(default_factory=set)
    deaths: dict[int, int] = field(default_factory=dict)
    running: int = 0  # workers that may touch its memory
    ended: bool = False  # the owner was told
    closed: bool = False  # the owner is done with it


@dataclass
class _Worker:
    ready: bool = False
    tasks: deque[tuple[int, int]] = field(default_factory=deque)  # job and shard of each, in the order in which it does them
    light: bool = False  # all of them are, and it has their programs
    programs: OrderedDict[Hashable, None] = field(
        default_factory=OrderedDict
    )  # the works whose programs it has, those used last at the end
    stopping: bool = False


class Dispatcher:
    """The state machine. `handle` takes one event and says what to do, in order; `check` verifies the invariants."""

    def __init__(self, workers: int, max_jobs: int, max_programs: int = 32) -> None:
        self._size = workers
        self._max_programs = max_programs
        self._max_jobs = max_jobs
        self._jobs: dict[int, _Job] = {}
        self._turns: OrderedDict[str, deque[int]] = OrderedDict()  # clients, and of each the jobs with waiting shards, whose turn is first
        self._jobs_of: Counter[str] = Counter()
        self._workers: dict[int, _Worker] = {}
        self._next_worker = 0
        self._failed_starts = 0
        self._draining = False
        self._broken = False
        self._stopped = False
        self._handlers: dict[type[Any], Callable[[Any], Iterator[Instruction]]] = {
            Submit: self._submit,
            Close: self._close,
            Overdue: self._overdue,
            WorkerReady: self._worker_ready,
            ShardDone: self._shard_done,
            ShardFailed: self._shard_failed,
            WorkerLost: self._worker_lost,
            Stalled: self._stalled,
            Drain: self._drain,
            Abort: self._abort,
        }

    def begin(self) -> list[Instruction]:
        """What to do at the start: spawn the workers."""
        return [self._spawn() for _ in range(self._size)]

    def handle(self, event: Event) -> list[Instruction]:
        """What to do about this event."""
        instructions = list(self._handlers[type(event)](event))
        instructions += self._assign()
        instructions += self._wind_up()
        return instructions

    def _submit(self, event: Submit) -> Iterator[Instruction]:
        if self._draining or self._broken:
            yield Reject(event.job, "draining")
        elif len(self._jobs) >= self._max_jobs:
            yield Reject(event.job, "max_queue")
        elif event.most is not None and self._jobs_of[event.client] >= event.most:
            yield Reject(event.job, "max_client_queue")
        else:
            self._jobs[event.job] = _Job(event.client, event.shards, event.light, event.work, deque(range(event.shards)))
            self._jobs_of[event.client] += 1
            self._turns.setdefault(event.client, deque()).append(event.job)

    def _close(self, event: Close) -> Iterator[Instruction]:
        job = self._jobs.get(event.job)
        if job is None or job.closed:
            return
        job.closed = True
        self._end(job)
        if job.running:
            yield Interrupt(event.job)
        yield from self._release_if_free(event.job, job)

    def _overdue(self, event: Overdue) -> Iterator[Instruction]:
        job = self._jobs.get(event.job)
        if job is None or not job.closed:
            return
        stuck = [name for name, worker in self._workers.items() if worker.tasks and worker.tasks[0][0] == event.job]
        yield from (Kill(name, "it does not stop a cancelled request") for name in stuck)
        if not stuck:  # it waits behind others for its turn to be given up
            yield Interrupt(event.job)

    def _worker_ready(self, event: WorkerReady) -> Iterator[Instruction]:
        worker = self._workers.get(event.worker)
        if worker is not None:
            worker.ready = True
            self._failed_starts = 0
        yield from ()

    def _shard_done(self, event: ShardDone) -> Iterator[Instruction]:
        job = self._answered(event.worker, event.job, event.shard)
        if job is None:
            return
        if not job.ended:
            job.done.add(event.shard)
            if len(job.done) == job.shards:
                self._end(job)
                yield Finish(event.job)
        yield from self._release_if_free(event.job, job)

    def _shard_failed(self, event: ShardFailed) -> Iterator[Instruction]:
        job = self._answered(event.worker, event.job, event.shard)
        if job is None:
            return
        if not job.ended:
            yield from self._fail(event.job, job, Fail(event.job, event.error))
        yield from self._release_if_free(event.job, job)

    def _worker_lost(self, event: WorkerLost) -> Iterator[Instruction]:
        worker = self._workers.pop(event.worker, None)
        if worker is None:
            return
        if not worker.ready:
            self._failed_starts += 1
        blamed = len(worker.tasks) == 1
        while worker.tasks:  # from the last to the first, which so waits before the others again
            job, shard = worker.tasks.pop()
            self._jobs[job].light &= blamed  # of a line, nobody knows whose fault it was: next time each goes by itself
            yield from self._give_back(job, shard, blamed=blamed)
        if self._failed_starts >= MAX_FAILED_STARTS and not self._broken:
            self._broken = True
            yield Broken()
            yield from self._fail_all()
        if not worker.stopping and self._needs_workers():
            yield self._spawn()

    def _stalled(self, event: Stalled) -> Iterator[Instruction]:
        if event.worker in self._workers:
            yield Kill(event.worker, "it shows no sign of life")

    def _needs_workers(self) -> bool:
        return not self._broken and (not self._draining or any(not job.ended for job in self._jobs.values()))

    def _drain(self, _: Drain) -> Iterator[Instruction]:
        self._draining = True
        yield from ()

    def _abort(self, _: Abort) -> Iterator[Instruction]:
        self._draining = True
        yield from self._fail_all()
        yield from (Kill(name, "the server goes down") for name, worker in self._workers.items() if worker.tasks)

    def _fail_all(self) -> Iterator[Instruction]:
        for name, job in self._jobs.items():
            if not job.ended:
                yield from self._fail(name, job, Fail(name, None))

    def _fail(self, name: int, job: _Job, verdict: Fail) -> Iterator[Instruction]:
        self._end(job)
        if job.running:
            yield Interrupt(name)
        yield verdict

    def _give_back(self, name: int, shard: int, *, blamed: bool) -> Iterator[Instruction]:
        """A worker died that had this shard: another one has to do it, unless too many died of it."""
        job = self._jobs[name]
        job.running -= 1
        if not job.ended:
            deaths = job.deaths[shard] = job.deaths.get(shard, 0) + blamed
            if deaths >= MAX_DEATHS:
                yield from self._fail(name, job, Fail(name, None, deaths))
            else:
                self._wait_again(name, job, shard)
        yield from self._release_if_free(name, job)

    def _wait_again(self, name: int, job: _Job, shard: int) -> None:
        if not job.waiting:
            self._turns.setdefault(job.client, deque()).appendleft(name)
            self._turns.move_to_end(job.client, last=False)
        job.waiting.appendleft(shard)

    def _answered(self, worker: int, job: int, shard: int) -> _Job | None:
        """The job of an answer, if this worker has that shard now; the worker is free again."""
        asked = self._workers.get(worker)
        if asked is None or not asked.tasks or asked.tasks[0] != (job, shard):
            return None
        asked.tasks.popleft()
        self._jobs[job].running -= 1
        return self._jobs[job]

    def _end(self, job: _Job) -> None:
        job.ended = True
        job.waiting.clear()

    def _release_if_free(self, name: int, job: _Job) -> Iterator[Instruction]:
        if job.closed and not job.running:
            del self._jobs[name]
            self._jobs_of[job.client] -= 1
            if not self._jobs_of[job.client]:
                del self._jobs_of[job.client]
            yield Release(name)

    def _spawn(self) -> Spawn:
        name = self._next_worker
        self._next_worker += 1
        self._workers[name] = _Worker()
        return Spawn(name)

    def _assign(self) -> Iterator[Instruction]:
        for name, worker in self._workers.items():
            if worker.ready and not worker.tasks and not worker.stopping:
                task = self._next_task()
                if task is None:
                    return
                yield self._started(name, worker, task)
        while self._turns:
            found = self._least_busy(self._next_work())
            task = self._next_task() if found is not None else None
            if found is None or task is None:
                return
            yield self._started(found, self._workers[found], task)

    def _started(self, name: int, worker: _Worker, task: tuple[int, int]) -> Start:
        job = self._jobs[task[0]]
        worker.light = job.light and job.work in worker.programs
        worker.programs[job.work] = None  # it will have it; as the worker itself does, it drops the one that was not used for longest
        worker.programs.move_to_end(job.work)
        if len(worker.programs) > self._max_programs:
            worker.programs.popitem(last=False)
        worker.tasks.append(task)
        return Start(name, *task)

    def _next_work(self) -> Hashable:
        """The work of the job whose turn it is, if it is light; else None."""
        job = self._jobs.get(next(iter(self._turns.values()))[0])
        return job.work if job and job.light and job.waiting else None

    def _least_busy(self, work: Hashable) -> int | None:
        """The worker with the fewest light shards, if it may have one of this work too."""
        found, fewest = None, MAX_LIGHT if work is not None else 0
        for name, worker in self._workers.items():
            if worker.ready and worker.light and not worker.stopping and work in worker.programs and len(worker.tasks) < fewest:
                found, fewest = name, len(worker.tasks)
        return found

    def _next_task(self) -> tuple[int, int] | None:
        while self._turns:
            client, jobs = self._turns.popitem(last=False)
            name = jobs.popleft()
            job = self._jobs.get(name)
            task = (name, job.waiting.popleft()) if job and job.waiting else None  # else it ended since it queued
            if job and job.waiting:
                jobs.append(name)
            if jobs:
                self._turns[client] = jobs
                self._turns.move_to_end(client, last=task is not None)
            if job and task:
                job.running += 1
                return task
        return None

    @property
    def active(self) -> int:
        """Jobs that wait or run, or whose memory is still in use."""
        return len(self._jobs)

    def state(self, worker: int) -> Literal["starting", "idle", "busy"]:
        """What a worker is doing."""
        known = self._workers.get(worker)
        return "starting" if known is None or not known.ready else "busy" if known.tasks else "idle"

    def _wind_up(self) -> Iterator[Instruction]:
        if not (self._draining or self._broken) or self._jobs or self._stopped:
            return
        for name, worker in self._workers.items():
            if not worker.stopping:
                worker.stopping = True
                yield Stop(name)
        if not self._workers:
            self._stopped = True
            yield Stopped()

    def check(self) -> None:
        """Raises AssertionError if the state contradicts itself: for tests, after every event."""
        tasks = [task for worker in self._workers.values() for task in worker.tasks]
        for name, job in self._jobs.items():
            running = [shard for owner, shard in tasks if owner == name]
            assert job.running == len(running), f"job {name} counts {job.running} workers, {running} run"
            assert not (job.closed and not job.running), f"job {name} is closed and free, but was not released"
            assert not job.closed or job.ended, f"job {name} is closed and not ended"
            if not job.ended:
                parts = sorted([*job.done, *job.waiting, *running])
                assert parts == list(range(job.shards)), f"job {name}: each shard must be done, waiting or running, once: {parts}"
                assert len(job.done) < job.shards, f"job {name} is done and was not finished"
                assert not job.waiting or name in self._turns.get(job.client, ()), f"job {name} waits and is never to have a turn"
        assert all(owner in self._jobs for owner, _ in tasks), "a worker runs a job that is gone"
        idle = [name for name, worker in self._workers.items() if worker.ready and not worker.tasks and not worker.stopping]
        assert not (idle and any(job.waiting for job in self._jobs.values())), f"workers {idle} are idle while work waits"
        assert not self._needs_workers() or len(self._workers) == self._size, "workers are missing"
        for name, worker in self._workers.items():
            assert len(worker.tasks) <= 1 or (worker.light and len(worker.tasks) <= MAX_LIGHT), f"worker {name} has {worker.tasks}"
        assert len(self._jobs) <= self._max_jobs, "the queue is over its limit"
        assert self._jobs_of == Counter(job.client for job in self._jobs.values()), "the jobs of clients are counted wrongly"
