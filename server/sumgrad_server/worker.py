"""A worker process: takes shards from its channel, one at a time, and computes them into shared memory.

It knows no gRPC, and has one thread beside the main one, which ends the process at once when the front is gone. The front starts it as
`python -m sumgrad_server.worker FD`, where FD is its end of the channel.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import socket
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from sumgrad_engine import native
from sumgrad_engine.blocks import BLOCK, block_count
from sumgrad_engine.errors import GraphError, LimitError, SumgradError
from sumgrad_engine.ir import Builder, Graph
from sumgrad_engine.program import EvaluateProgram, GradientProgram, Layout, backward_all, gradient_layout
from sumgrad_engine.types import Array

from .arena import Arena, attach
from .channel import Channel
from .codec import parse_graph
from .settings import Settings
from .tasks import (
    CANCEL_FLAG,
    Backward,
    Describe,
    Done,
    Evaluate,
    Failed,
    Gradient,
    Memory,
    Ready,
    Run,
    Signature,
    Slot,
    Task,
)

Program = TypeVar("Program")
Answer: TypeAlias = tuple[Any, Arena | None]
"""What doesn't lie in the job's arena, and a new arena to hand over."""


class Programs:
    """Prepared programs, the least recently used dropped first: preparing differentiates, and may take seconds."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[[], Program]) -> Program:
        """The program of this key, made if it is not here."""
        if key not in self._kept:
            program = make()
            while len(self._kept) >= self._most:
                self._kept.popitem(last=False)
            self._kept[key] = program
        self._kept.move_to_end(key)
        kept: Program = self._kept[key]
        return kept

    def clear(self) -> None:
        """Forgets them all."""
        self._kept.clear()


@dataclass(frozen=True, eq=False)
class Shard:
    """What is at hand to compute one shard."""

    number: int
    graph_id: str
    memory: Memory
    read_graph: Callable[[], Graph]
    programs: Programs
    allowed_bytes: int
    """Memory of this worker."""

    def should_stop(self) -> bool:
        """Whether the job was cancelled."""
        return bool(self.memory[CANCEL_FLAG])

    def arrays(self, slots: tuple[Slot, ...]) -> dict[str, Array]:
        """The arrays in these slots, by name."""
        return {slot.name: slot.view(self.memory) for slot in slots}

    def program(self, kind: Callable[..., Program], *options: Any) -> Program:
        """The graph's program of this kind."""
        return self.programs.get((self.graph_id, kind, *options), lambda: kind(self.read_graph(), *options))


def describe(_: Describe, shard: Shard) -> Answer:
    """Checks a graph and says what it takes and gives."""
    graph = shard.read_graph()
    outputs = tuple((name, graph.types[node]) for name, node in graph.outputs.items())
    return Signature(graph.node_count, _leaves(graph), outputs, _objective(graph)), None


def _leaves(graph: Graph) -> Graph:
    builder = Builder()
    for node in graph.leaves:
        builder.copy_leaf(graph, node)
    return builder.graph({})


def _objective(graph: Graph) -> Layout | GraphError:
    try:
        return gradient_layout(graph)
    except GraphError as error:
        return error


def backward(_: Backward, shard: Shard) -> Answer:
    """Data and gradient of every node, in an arena of their own: how long they are was not known before."""
    data, gradients = backward_all(shard.read_graph())
    arena = Arena(max(1, data.nbytes + gradients.nbytes))
    arena.bytes[: data.nbytes] = data.view(np.uint8)
    arena.bytes[data.nbytes : data.nbytes + gradients.nbytes] = gradients.view(np.uint8)
    return (data.nbytes, gradients.nbytes, arena.nbytes), arena


def gradient(task: Gradient, shard: Shard) -> Answer:
    """One row: the sum over the shard's blocks, or the penalty. In debug mode one shard does all, so that the first error is the first."""
    program = shard.program(GradientProgram, task.wrt, task.options)
    program.check_memory(task.samples, "max_worker_bytes", shard.allowed_bytes)
    parameters, rows = shard.arrays(task.parameters), task.rows.view(shard.memory)
    if shard.number < task.data_shards:
        first = shard.number * task.shard_blocks
        count = min(task.shard_blocks, block_count(task.samples) - first)
        rows[shard.number] = program.partial(parameters, shard.arrays(task.inputs), first, count, task.samples, shard.should_stop)
    if shard.number == task.data_shards or (task.options.debug and len(rows) > task.data_shards):
        rows[task.data_shards] = program.penalty(parameters)
    return program.evaluator, None


def evaluate(task: Evaluate, shard: Shard) -> Answer:
    """The outputs of the shard's samples."""
    program = shard.program(EvaluateProgram, task.options)
    program.check_memory(task.samples, "max_worker_bytes", shard.allowed_bytes)
    start = shard.number * task.shard_blocks * BLOCK
    stop = min(start + task.shard_blocks * BLOCK, task.samples)
    found = program.run(shard.arrays(task.parameters), shard.arrays(task.inputs), start, stop, shard.should_stop)
    for slot in task.columns:
        slot.view(shard.memory)[start:stop] = found[slot.name]
    return program.evaluator, None


KINDS: dict[type[Any], Callable[[Any, Shard], Answer]] = {
    Describe: describe,
    Backward: backward,
    Gradient: gradient,
    Evaluate: evaluate,
}


class Worker:
    """The loop, and what is kept from one shard to the next: mapped arenas, the task at hand, prepared programs."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self._arenas: dict[int, Memory] = {}
        self._task: tuple[int, Task] | None = None
        self._programs = Programs(settings.max_programs)

    def serve(self) -> None:
        """Works until the front is gone, which is an EOFError."""
        self._channel.send(Ready())
        while True:
            run, fds = self._channel.receive()
            try:
                self._answer(run, *fds)
            finally:
                for fd in fds:
                    os.close(fd)

    def _answer(self, run: Run, arena_fd: int, graph_fd: int) -> None:
        try:
            value, arena = self._compute(run, arena_fd, graph_fd)
        except Exception as error:  # noqa: BLE001 - whatever it is, the front decides
            self._channel.send(self._failed(run, error))
        else:
            self._channel.send(Done(run.job, run.shard, value), [arena.fd] if arena else [])

    def _compute(self, run: Run, arena_fd: int, graph_fd: int) -> Answer:
        memory = self._memory(run, arena_fd)
        task = self._task_of(run, memory)

        def read_graph() -> Graph:
            ref = run.graph
            data = attach(graph_fd, ref.nbytes)
            return parse_graph(*ref.split(data), self._settings)

        return KINDS[type(task)](task, Shard(run.shard, run.graph.id, memory, read_graph, self._programs, self._settings.max_worker_bytes))

    def _memory(self, run: Run, fd: int) -> Memory:
        for arena in run.forget:
            self._arenas.pop(arena, None)
        if run.arena not in self._arenas:
            self._arenas[run.arena] = attach(fd, run.arena_bytes)
        return self._arenas[run.arena]

    def _task_of(self, run: Run, memory: Memory) -> Task:
        if self._task is None or self._task[0] != run.job:
            task: Task = pickle.loads(memory[run.task_offset : run.task_offset + run.task_bytes].data)  # noqa: S301 - from our own front
            self._task = run.job, task
        return self._task[1]

    def _failed(self, run: Run, error: Exception) -> Failed:
        """The error as the front can take it: errors that are not sumgrad's may not pickle, and their traceback belongs in the log."""
        if isinstance(error, SumgradError):
            return Failed(run.job, run.shard, error)
        if isinstance(error, MemoryError):
            self._programs.clear()
            return Failed(run.job, run.shard, _out_of_memory(self._settings))
        return Failed(run.job, run.shard, RuntimeError(f"{type(error).__name__}: {error}"[:1000]), traceback.format_exc())


def _out_of_memory(settings: Settings) -> LimitError:
    allowed = settings.max_worker_bytes
    message = f"the computation needs more memory than a worker has (max_worker_bytes is {allowed}): cut the graph or its arrays"
    return LimitError(message, limit="max_worker_bytes", allowed=allowed)


def _end_with_front(fd: int) -> None:
    """Ends this process, whatever it is doing, when the other end of the socket closes: nobody wants its results any more."""
    poll = select.poll()
    poll.register(fd, 0)  # hang-ups are reported unasked
    poll.poll()
    os._exit(0)


def _limit_memory(nbytes: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit is in force already
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))


def main(fd: int) -> None:
    """Serves the front at the other end of this socket."""
    # Control-C and a service manager's SIGTERM go to the front too: it drains, and needs its workers for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_front, args=[fd], daemon=True).start()
    channel = Channel(socket.socket(fileno=fd))
    with contextlib.suppress(EOFError, BrokenPipeError):
        settings, _ = channel.receive()
        _limit_memory(settings.max_worker_bytes)
        if settings.cache_dir is not None:  # empty: nothing is kept on disk
            os.environ["SUMGRAD_CACHE"] = settings.cache_dir
        native.configure(max_seconds=settings.max_compile_seconds)
        Worker(channel, settings).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
