"""Carries out what the dispatcher says: processes, channels and arenas, in one asyncio loop that nothing here blocks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from . import dispatch
from .arena import Arena, ArenaPool, Letter
from .census import Census, Totals, WorkerCensus, resident_bytes
from .channel import MAX_FDS, Channel
from .faults import BusyError, DrainingError, WorkersLostError, out_of_memory
from .hardening import worker_environment
from .jobs import Job, Order, Segment
from .pulse import Effort, Pulse
from .settings import Settings
from .tasks import (
    CANCEL_FLAG,
    FIRST_ROW,
    FIRST_ROW_OFFSET,
    STARVED,
    Done,
    Failed,
    Hello,
    Map,
    Ready,
    Run,
    Segments,
)
from .threads import in_thread, unblocking

log = logging.getLogger(__name__)

LOOKS = 4
"""How often a pulse must have been missed, one after the other."""
START_SECONDS = 60.0
"""How long a worker may take to become ready."""
RESPAWN_SECONDS = 0.1
"""Pause before the next try when the machine can't start a process."""


@dataclass(eq=False)
class Process:
    """A worker's process and this end of its channel."""

    popen: subprocess.Popen[bytes]
    channel: Channel
    pulse: Pulse
    effort: Effort = field(default_factory=Effort)
    known: set[int] = field(default_factory=set)  # segments that it has mapped
    forget: list[int] = field(default_factory=list)  # segments that it should map no more
    tasks: deque[tuple[int, int]] = field(default_factory=deque)  # job and shard of what it was sent and has not answered
    outbox: list[tuple[Run | Segments, list[int]]] = field(default_factory=list)  # what it is to be sent in a moment
    shards: int = 0  # that it has done
    looks: int = 0  # at its pulse, so far
    parting: bool = False  # its channel is closed, its end is awaited


class Pool:
    """The workers of this machine. One loop owns it; everything but copying happens there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dispatcher = dispatch.Dispatcher(settings.workers, settings.max_queue, settings.max_programs)
        self._arenas = ArenaPool(settings.max_shared_bytes)
        self._processes: dict[int, Process] = {}
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._unstarted: set[int] = set()  # workers for which the machine had no room, yet
        self._announced: set[int] = set()  # segments that some worker has heard of
        self._reaping: set[asyncio.Task[None]] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self.totals = Totals()
        self.ready = asyncio.Event()
        """Set when the first worker is ready."""
        self.broken = asyncio.Event()
        """Set when there is no point in spawning more workers."""
        self.stopped = asyncio.Event()
        """Set when the pool is drained and every worker is gone."""
        self._carry_out: dict[type[Any], Callable[[Any], None]] = {
            dispatch.Spawn: self._spawn,
            dispatch.Start: self._start,
            dispatch.Finish: self._finish,
            dispatch.Fail: self._fail,
            dispatch.Reject: self._reject,
            dispatch.Interrupt: self._interrupt,
            dispatch.Release: self._release,
            dispatch.Kill: self._kill,
            dispatch.Stop: self._stop,
            dispatch.Stopped: self._all_stopped,
            dispatch.Broken: self._give_up,
        }

    def start(self) -> None:
        """Spawns the workers. Call it in the loop, before anything else here."""
        self._loop = asyncio.get_running_loop()
        self._obey(self._dispatcher.begin())
        self._look_after()

    def census(self) -> Census:
        """What the workers are doing."""
        workers = tuple(self._census_of(number, process) for number, process in self._processes.items() if not process.parting)
        return Census(workers, self._dispatcher.active, self._arenas.total_bytes, self.totals)

    @property
    def serving(self) -> bool:
        """Whether a worker is ready."""
        return any(self._dispatcher.state(number) != "starting" for number, process in self._processes.items() if not process.parting)

    def _census_of(self, number: int, process: Process) -> WorkerCensus:
        pid = process.popen.pid
        return WorkerCensus(number, pid, self._dispatcher.state(number), process.shards, resident_bytes(pid))

    def drain(self) -> None:
        """No new jobs; `stopped` is set when those at hand and the workers are gone."""
        self._feed(dispatch.Drain())

    def abort(self) -> None:
        """Fails what is not done, and drains."""
        self._feed(dispatch.Abort())

    @asynccontextmanager
    async def run(self, order: Order) -> AsyncIterator[Job]:
        """A job that is done, for reading. Leaving the context closes it. See `submit`."""
        job = await self.submit(order)
        try:
            yield job
        finally:
            self.close(job)

    async def submit(self, order: Order) -> Job:
        """A job that is done, for reading, and then to be closed.

        Being cancelled closes it before, and its memory comes back as soon as no worker touches it. Raises what the shards raise, BusyError,
        DrainingError, WorkersLostError.
        """
        job = await self._prepare(order)
        self._jobs[job.number] = job
        most = order.most if order.most is not None else self._settings.max_client_queue
        self._feed(dispatch.Submit(job.number, order.shards, order.client, most, order.light, order.work))
        try:
            await job.finished
        except BaseException:
            self.close(job)
            raise
        return job

    def close(self, job: Job) -> None:
        """The job's memory is needed no more."""
        self._feed(dispatch.Close(job.number))

    async def _prepare(self, order: Order) -> Job:
        arena = await self._arenas.acquire(order.nbytes + len(order.task))
        try:
            await unblocking(order.nbytes, _fill, arena, order)
        except BaseException:
            self._arenas.release(arena)
            raise
        number = next(self._numbers)
        return Job(number, order.graph, arena, order.columns, order.nbytes, len(order.task), self._loop.create_future())

    def _feed(self, event: dispatch.Event) -> None:
        self._obey(self._dispatcher.handle(event))

    def _obey(self, instructions: list[dispatch.Instruction]) -> None:
        for instruction in instructions:
            self._carry_out[type(instruction)](instruction)

    # Instructions about jobs.

    def _start(self, start: dispatch.Start) -> None:
        job, process = self._jobs[start.job], self._processes[start.worker]
        pieces: tuple[Segment, ...] = (job.arena, job.graph.arena, *job.columns)
        fresh = [piece for piece in pieces if piece.id not in process.known]
        process.tasks.append((start.job, start.shard))
        for piece in fresh:
            self._announce(process, piece)
        process.outbox += self._introductions(process, fresh)
        run = Run(start.job, start.shard, job.arena.id, job.task_offset, job.task_bytes, job.graph.ref)
        process.outbox.append((run, []))
        if len(process.tasks) == 1:
            self._send(start.worker, process)
        else:  # it has something to do: more may come in this moment, and go along
            self._loop.call_soon(self._send, start.worker, process)

    def _introductions(self, process: Process, fresh: Sequence[Segment]) -> Iterator[tuple[Segments, list[int]]]:
        """Messages about segments that a worker does not know yet, and about those that are no more."""
        forget, process.forget = tuple(process.forget), []
        for start in range(0, max(len(fresh), bool(forget)), MAX_FDS):
            pieces = fresh[start : start + MAX_FDS]
            maps = tuple(Map(piece.id, piece.nbytes, piece.writable, piece.data if isinstance(piece, Letter) else None) for piece in pieces)
            yield Segments(maps, forget if start == 0 else ()), [piece.fd for piece in pieces if not isinstance(piece, Letter)]

    def _send(self, worker: int, process: Process) -> None:
        messages, process.outbox = process.outbox, []
        if process.parting or not messages:
            return
        try:
            if not process.channel.send_all(messages):  # it reads nothing just now: it computes, or was stopped
                self._loop.add_writer(process.channel.fileno(), self._send_rest, process)
        except OSError as error:  # it is gone, most likely: what else can't be sent must not leave it waiting
            log.warning("worker %d can't be sent its work: %s", worker, error)
            process.popen.kill()  # the end of the channel will be heard in the loop

    def _send_rest(self, process: Process) -> None:
        try:
            done = process.channel.flush()
        except OSError:
            done = True  # the end of the channel will be heard
        if done:
            self._loop.remove_writer(process.channel.fileno())

    def _announce(self, process: Process, piece: Segment) -> None:
        process.known.add(piece.id)
        if piece.id not in self._announced:
            self._announced.add(piece.id)
            weakref.finalize(piece, self._forget, piece.id).atexit = False

    def _forget(self, segment: int) -> None:
        """A segment is no more: workers should give up their mappings, so that its memory, or its place on the disk, is free. In any thread."""
        self._announced.discard(segment)
        for worker, process in list(self._processes.items()):
            if segment in process.known:
                process.known.discard(segment)
                process.forget.append(segment)
                if len(process.forget) == 1 and not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(self._send_forgotten, worker, process)

    def _send_forgotten(self, worker: int, process: Process) -> None:
        process.outbox += self._introductions(process, ())
        self._send(worker, process)

    def _finish(self, finish: dispatch.Finish) -> None:
        self.totals.jobs_finished += 1
        self._tell(finish.job, None)

    def _fail(self, fail: dispatch.Fail) -> None:
        self.totals.jobs_failed += 1
        self._tell(fail.job, fail.error or self._lost(fail))

    def _lost(self, fail: dispatch.Fail) -> Exception:
        if not fail.deaths:
            return DrainingError("the server went down before the work was done")
        graph = self._jobs[fail.job].graph.ref.id
        return WorkersLostError(f"{fail.deaths} workers died, each computing the same part of graph {graph}", graph_id=graph)

    def _reject(self, reject: dispatch.Reject) -> None:
        self._tell(reject.job, DrainingError() if reject.why == "draining" else self._full(reject.why))
        self._release(dispatch.Release(reject.job))

    def _full(self, limit: Literal["max_queue", "max_client_queue"]) -> BusyError:
        allowed = getattr(self._settings, limit)
        whose = "of this client " if limit == "max_client_queue" else ""
        return BusyError(f"as many requests {whose}wait or run already as {limit} allows", limit=limit, value=allowed + 1, allowed=allowed)

    def _tell(self, number: int, error: Exception | None) -> None:
        finished = self._jobs[number].finished
        if finished.done():  # its owner was cancelled
            return
        if error is None:
            finished.set_result(None)
        else:
            finished.set_exception(error)

    def _interrupt(self, interrupt: dispatch.Interrupt) -> None:
        self._jobs[interrupt.job].arena.bytes[CANCEL_FLAG] = 1
        self._loop.call_later(self._settings.cancel_seconds, self._feed, dispatch.Overdue(interrupt.job))

    def _release(self, release: dispatch.Release) -> None:
        job = self._jobs.pop(release.job)
        job.close_handed()
        self._arenas.release(job.arena)

    # Instructions about workers.

    def _spawn(self, spawn: dispatch.Spawn) -> None:
        try:
            process = self._new_process()
        except OSError as error:  # no memory, too many processes, too many open files
            log.error("can't start worker %d: %s", spawn.worker, error)  # noqa: TRY400 - the message is the story
            self._unstarted.add(spawn.worker)
            self._loop.call_later(RESPAWN_SECONDS, self._try_again, spawn)
            return
        self._processes[spawn.worker] = process
        self._loop.add_reader(process.channel.fileno(), self._read, spawn.worker)

    def _try_again(self, spawn: dispatch.Spawn) -> None:
        """A machine that has no room may have some later. If it never had, that counts as a failed start."""
        if spawn.worker in self._unstarted:
            self._unstarted.discard(spawn.worker)
            if self.ready.is_set():
                self._spawn(spawn)
            else:
                self._feed(dispatch.WorkerLost(spawn.worker))

    def _new_process(self) -> Process:
        pulse = Pulse()
        channel, theirs = Channel.pair()
        try:
            process = Process(_start_worker(theirs), channel, pulse)
        except OSError:
            channel.close()
            raise
        finally:
            theirs.close()  # so that the end of the worker is the end of the channel
        channel.unblock()
        channel.send(Hello(self._settings), [pulse.fd])
        return process

    def _kill(self, kill: dispatch.Kill) -> None:
        log.warning("killing worker %d: %s", kill.worker, kill.why)
        if kill.worker in self._processes:  # else its end is known already, and about to be told
            self._processes[kill.worker].popen.kill()

    def _look_after(self) -> None:
        """Looks at the pulse of each worker, again and again. It is time on this loop that counts: while it stands still nobody's pulse is missed."""
        for number, process in list(self._processes.items()):
            process.looks += 1
            if not process.parting and self._is_stalled(number, process):
                self._feed(dispatch.Stalled(number))
        self._watch = self._loop.call_later(self._settings.stall_seconds / LOOKS, self._look_after)

    def _is_stalled(self, number: int, process: Process) -> bool:
        missed, working = process.pulse.missed(), process.effort.shown(process.popen.pid)
        if self._dispatcher.state(number) == "starting":  # the pulse begins when the interpreter has read its modules
            return process.looks * self._settings.stall_seconds > LOOKS * max(START_SECONDS, self._settings.stall_seconds)
        return missed >= LOOKS and not working

    def _stop(self, stop: dispatch.Stop) -> None:
        if stop.worker in self._processes:
            self._part(stop.worker)
        elif stop.worker in self._unstarted:
            self._unstarted.discard(stop.worker)
            self._loop.call_soon(self._feed, dispatch.WorkerLost(stop.worker))

    def _all_stopped(self, _: dispatch.Stopped) -> None:
        self._arenas.close()
        if self._watch:
            self._watch.cancel()
        self.stopped.set()

    def _give_up(self, _: dispatch.Broken) -> None:
        log.critical("workers die before they are ready, again and again: giving up")
        self.broken.set()

    # What workers say.

    def _read(self, worker: int) -> None:
        try:
            messages = self._processes[worker].channel.receive_available()
        except EOFError:
            self._part(worker)
            return
        for message, fds in messages:
            self._hear(worker, message, fds)

    def _hear(self, worker: int, message: Ready | Done | Failed, fds: list[int]) -> None:
        match message:
            case Ready():
                self.ready.set()
                self._feed(dispatch.WorkerReady(worker))
            case Done(number, shard, value, cost):
                self._processes[worker].tasks.popleft()
                job = self._jobs[number]
                job.values[shard] = value
                job.costs.append(cost)
                if fds:
                    job.handed[shard] = fds
                self.totals.count(cost)
                self._processes[worker].shards += 1
                self._feed(dispatch.ShardDone(worker, number, shard))
            case Failed(number, shard, error, traceback):
                self._processes[worker].tasks.popleft()
                if traceback:
                    log.error("worker %d, graph %s: %s", worker, self._jobs[number].graph.ref.id, traceback)
                self._feed(dispatch.ShardFailed(worker, number, shard, error))

    def _part(self, worker: int) -> None:
        """The channel is at its end, or we end it: the process goes, and when it is gone for certain the dispatcher hears."""
        process = self._processes[worker]
        if process.parting:
            return
        process.parting = True
        self._loop.remove_reader(process.channel.fileno())
        self._loop.remove_writer(process.channel.fileno())
        process.channel.close()
        reaping = self._loop.create_task(self._reap(worker, process.popen))
        self._reaping.add(reaping)
        reaping.add_done_callback(self._reaping.discard)

    async def _reap(self, worker: int, popen: subprocess.Popen[bytes]) -> None:
        popen.kill()
        code = await in_thread(popen.wait)
        log.info("worker %d (process %d) ended with %d", worker, popen.pid, code)
        process = self._processes.pop(worker)
        self.totals.worker_restarts += 1
        if code == STARVED and len(process.tasks) == 1:  # its shard would starve others too
            self._feed(dispatch.ShardFailed(worker, *process.tasks[0], out_of_memory(self._settings.max_worker_bytes)))
        self._feed(dispatch.WorkerLost(worker))


def _fill(arena: Arena, order: Order) -> None:
    memory = arena.bytes
    if arena.holds is not order.task:  # else the same kind of job used this arena last
        arena.holds = order.task
        arena.views = [slot.view(memory) for slot in order.slots]
        memory[order.nbytes : order.nbytes + len(order.task)] = np.frombuffer(order.task, np.uint8)
    memory[CANCEL_FLAG] = 0
    FIRST_ROW.pack_into(memory.data, FIRST_ROW_OFFSET, order.first_row)
    order.write(arena.views)


def _start_worker(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """A fresh interpreter, never a fork: gRPC's threads would not survive one. It finds modules where this process does."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # one worker is one core's work
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", "sumgrad_server.worker", str(theirs.fileno())],
        env={**worker_environment(os.environ), **threads, "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the front's stdout is for its announcement
        pass_fds=[theirs.fileno()],
    )
