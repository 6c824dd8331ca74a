"""Carries out what the dispatcher says: processes, channels and arenas, in one asyncio loop that nothing here blocks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import dispatch
from .arena import Arena, ArenaPool
from .channel import Channel
from .faults import BusyError, DrainingError, WorkersLostError
from .settings import Settings
from .tasks import CANCEL_FLAG, HEADER, Done, Failed, GraphRef, Memory, Ready, Run, Task
from .threads import in_thread, unblocking

log = logging.getLogger(__name__)

RESPAWN_SECONDS = 0.1
"""Pause before the next try when the machine can't start a process."""


@dataclass(frozen=True, eq=False)
class SharedGraph:
    """A graph's bytes and its source map's in shared memory, where workers read them. Freed when it is forgotten."""

    ref: GraphRef
    arena: Arena

    @classmethod
    def of(cls, graph_id: str, graph: bytes, sources: bytes) -> SharedGraph:
        """Copies them there."""
        data = graph + sources
        arena = Arena(max(1, len(data)))
        arena.bytes[: len(data)] = np.frombuffer(data, np.uint8)
        return cls(GraphRef(graph_id, len(graph), len(sources), arena.nbytes), arena)


@dataclass(eq=False)
class Job:
    """A task on its way. `values` has what each shard answered beside what it wrote to the arena."""

    graph: SharedGraph
    arena: Arena
    task_offset: int
    task_bytes: int
    finished: asyncio.Future[None]
    values: dict[int, Any] = field(default_factory=dict)
    handed: dict[int, list[int]] = field(default_factory=dict)  # descriptors that came with the values

    @property
    def memory(self) -> Memory:
        """The arena's bytes."""
        return self.arena.bytes

    def close_handed(self) -> None:
        """Closes descriptors that nobody took."""
        for fd in itertools.chain.from_iterable(self.handed.values()):
            os.close(fd)
        self.handed.clear()


@dataclass(eq=False)
class Process:
    """A worker's process and this end of its channel."""

    popen: subprocess.Popen[bytes]
    channel: Channel
    forget: list[int] = field(default_factory=list)  # arenas that it may still map, and should not
    parting: bool = False  # its channel is closed, its end is awaited


class Pool:
    """The workers of this machine. One loop owns it; everything but copying happens there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._dispatcher = dispatch.Dispatcher(settings.workers, settings.max_queue)
        self._arenas = ArenaPool(settings.max_shared_bytes)
        self._processes: dict[int, Process] = {}
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._reaping: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
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

    def drain(self) -> None:
        """No new jobs; `stopped` is set when those at hand and the workers are gone."""
        self._feed(dispatch.Drain())

    def abort(self) -> None:
        """Fails what is not done, and drains."""
        self._feed(dispatch.Abort())

    @asynccontextmanager
    async def run(self, graph: SharedGraph, task: Task, shards: int, nbytes: int, fill: Callable[[Memory], None]) -> AsyncIterator[Job]:
        """A job that is done, for reading. `nbytes` is what the task's slots need, `fill` writes what goes in.

        Leaving the context, or being cancelled before, gives the memory back as soon as no worker touches it. Raises what the shards raise,
        BusyError, DrainingError, WorkersLostError.
        """
        job = await self._prepare(graph, task, nbytes, fill)
        number = next(self._numbers)
        self._jobs[number] = job
        self._feed(dispatch.Submit(number, shards))
        try:
            await job.finished
            yield job
        finally:
            self._feed(dispatch.Close(number))

    async def _prepare(self, graph: SharedGraph, task: Task, nbytes: int, fill: Callable[[Memory], None]) -> Job:
        pickled = pickle.dumps(task, pickle.HIGHEST_PROTOCOL)
        arena = await self._acquire(nbytes + len(pickled))
        try:
            await unblocking(nbytes, _fill, arena.bytes, nbytes, pickled, fill)
        except BaseException:
            self._arenas.release(arena)
            raise
        return Job(graph, arena, nbytes, len(pickled), self._loop.create_future())

    async def _acquire(self, nbytes: int) -> Arena:
        arena = await self._arenas.acquire(nbytes)
        destroyed, self._arenas.destroyed = self._arenas.destroyed, []
        for process in self._processes.values():
            process.forget += destroyed
        return arena

    def _feed(self, event: dispatch.Event) -> None:
        self._obey(self._dispatcher.handle(event))

    def _obey(self, instructions: list[dispatch.Instruction]) -> None:
        for instruction in instructions:
            self._carry_out[type(instruction)](instruction)

    # Instructions about jobs.

    def _start(self, start: dispatch.Start) -> None:
        job, process = self._jobs[start.job], self._processes[start.worker]
        forget, process.forget = tuple(process.forget), []
        run = Run(start.job, start.shard, job.arena.id, job.arena.nbytes, job.task_offset, job.task_bytes, job.graph.ref, forget)
        try:
            process.channel.send(run, [job.arena.fd, job.graph.arena.fd])
        except OSError:
            log.warning("worker %d is gone", start.worker)  # its end of the channel will say so to the loop

    def _finish(self, finish: dispatch.Finish) -> None:
        self._tell(finish.job, None)

    def _fail(self, fail: dispatch.Fail) -> None:
        self._tell(fail.job, fail.error or self._lost(fail))

    def _lost(self, fail: dispatch.Fail) -> Exception:
        if not fail.deaths:
            return DrainingError("the server went down before the work was done")
        graph = self._jobs[fail.job].graph.ref.id
        return WorkersLostError(f"{fail.deaths} workers died, each computing the same part of graph {graph}", graph_id=graph)

    def _reject(self, reject: dispatch.Reject) -> None:
        allowed = self._settings.max_queue
        full = BusyError(
            f"{allowed} requests wait or run already, which is max_queue", limit="max_queue", value=allowed + 1, allowed=allowed
        )
        self._tell(reject.job, DrainingError() if reject.draining else full)
        self._release(dispatch.Release(reject.job))

    def _tell(self, number: int, error: Exception | None) -> None:
        finished = self._jobs[number].finished
        if finished.done():  # its owner was cancelled
            return
        if error is None:
            finished.set_result(None)
        else:
            finished.set_exception(error)

    def _interrupt(self, interrupt: dispatch.Interrupt) -> None:
        self._jobs[interrupt.job].memory[CANCEL_FLAG] = 1
        self._loop.call_later(self._settings.cancel_seconds, self._feed, dispatch.Overdue(interrupt.job))

    def _release(self, release: dispatch.Release) -> None:
        job = self._jobs.pop(release.job)
        job.close_handed()
        self._arenas.release(job.arena)

    # Instructions about workers.

    def _spawn(self, spawn: dispatch.Spawn) -> None:
        channel, theirs = Channel.pair()
        try:
            popen = _start_worker(theirs)
        except OSError as error:
            log.error("can't start worker %d: %s", spawn.worker, error)  # noqa: TRY400 - the message is the story
            channel.close()
            self._loop.call_later(RESPAWN_SECONDS, self._feed, dispatch.WorkerLost(spawn.worker))
            return
        finally:
            theirs.close()  # so that the end of the worker is the end of the channel
        self._processes[spawn.worker] = Process(popen, channel)
        self._loop.add_reader(channel.fileno(), self._read, spawn.worker)
        channel.send(self._settings)

    def _kill(self, kill: dispatch.Kill) -> None:
        log.warning("worker %d doesn't stop a cancelled request: killing it", kill.worker)
        self._processes[kill.worker].popen.kill()

    def _stop(self, stop: dispatch.Stop) -> None:
        if stop.worker in self._processes:  # else it never started, and that is known soon
            self._part(stop.worker)

    def _all_stopped(self, _: dispatch.Stopped) -> None:
        self._arenas.close()
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
            case Done(number, shard, value):
                self._jobs[number].values[shard] = value
                self._jobs[number].handed[shard] = fds
                self._feed(dispatch.ShardDone(worker, number, shard))
            case Failed(number, shard, error, traceback):
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
        process.channel.close()
        reaping = self._loop.create_task(self._reap(worker, process.popen))
        self._reaping.add(reaping)
        reaping.add_done_callback(self._reaping.discard)

    async def _reap(self, worker: int, popen: subprocess.Popen[bytes]) -> None:
        popen.kill()
        code = await in_thread(popen.wait)
        log.info("worker %d (process %d) ended with %d", worker, popen.pid, code)
        del self._processes[worker]
        self._feed(dispatch.WorkerLost(worker))


def _fill(memory: Memory, offset: int, pickled: bytes, fill: Callable[[Memory], None]) -> None:
    memory[:HEADER] = 0
    fill(memory)
    memory[offset : offset + len(pickled)] = np.frombuffer(pickled, np.uint8)


def _start_worker(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """A fresh interpreter, never a fork: gRPC's threads would not survive one. It finds modules where this process does."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # one worker is one core's work
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-P", "-m", "sumgrad_server.worker", str(theirs.fileno())],
        env={**os.environ, **threads, "PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # the front's stdout is for its announcement
        pass_fds=[theirs.fileno()],
    )
