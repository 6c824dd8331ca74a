"""A worker process: takes shards from its channel, one at a time, and computes them into shared memory.

It knows no gRPC, and has one thread beside the main one, which ends the process at once when the front is gone. The front starts it as
`python -m sumgrad_server.worker FD`, where FD is its end of the channel.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
from sumgrad_engine import native
from sumgrad_engine.blocks import BLOCK, block_count
from sumgrad_engine.errors import GraphError, SumgradError
from sumgrad_engine.ir import Builder, Graph
from sumgrad_engine.ops.contraction import matmul
from sumgrad_engine.program import EvaluateProgram, GradientProgram, Layout, backward_all, gradient_layout
from sumgrad_engine.shapes import size
from sumgrad_engine.types import Array

from .arena import Arena, attach
from .channel import Channel
from .codec import parse_graph
from .faults import NoRoomError, no_room, out_of_memory
from .hardening import harden
from .pulse import Heart
from .recent import Recent
from .samples import Samples, summed
from .settings import Settings
from .tasks import (
    CANCEL_FLAG,
    FIRST_ROW,
    FIRST_ROW_OFFSET,
    STARVED,
    Backward,
    Cost,
    Describe,
    Done,
    Evaluate,
    Failed,
    Gradient,
    Gradients,
    Inputs,
    Memory,
    Penalty,
    Ready,
    Run,
    Segments,
    Signature,
    Slot,
    Task,
)

Program = TypeVar("Program")
ELEMENT_OPERATIONS = 8
KEPT_TASKS = KEPT_VIEWS = 64
RESERVE_BYTES = 16 << 20
"""More memory than the limit, for what has to be done when that is reached."""
BEATS = 10
"""Signs of life within the time after which a worker without them is replaced."""
Answer: TypeAlias = tuple[Any, Arena | None]
"""What doesn't lie in the job's arena, and a new arena to hand over."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Mapped memory, and arrays in it by the slots that they were made for."""

    memory: Memory
    views: dict[int, tuple[tuple[Slot, ...], dict[str, Array]]] = field(default_factory=dict)


class Mapped(dict[int, Segment]):
    """Segments by number. Asking for one that could not be mapped raises what kept it from being."""

    missing: NoRoomError | None = None

    def __missing__(self, segment: int) -> Segment:
        raise self.missing or KeyError(segment)


@dataclass(eq=False)
class Shard:
    """What is at hand to compute one shard."""

    number: int
    graph_id: str
    arena: int
    segments: Mapping[int, Segment]
    read_graph: Callable[[], Graph]
    programs: Recent[tuple[Any, ...], Any]
    allowed_bytes: int
    """Memory of this worker."""
    prepare_seconds: float = 0.0
    """What the program took, if it was not at hand."""

    @cached_property
    def memory(self) -> Memory:
        """The job's arena."""
        return self.segments[self.arena].memory

    def should_stop(self) -> bool:
        """Whether the job was cancelled."""
        return bool(self.memory[CANCEL_FLAG])

    def arrays(self, slots: tuple[Slot, ...]) -> dict[str, Array]:
        """The arrays in these slots, by name. Views are kept with the memory: the next job of the kind may come in the same arena."""
        key = id(slots)
        kept = self.segments[self.arena].views
        if key not in kept or kept[key][0] is not slots:
            if len(kept) >= KEPT_VIEWS:
                kept.clear()
            kept[key] = slots, {slot.name: slot.view(self.memory) for slot in slots}
        return kept[key][1]

    def samples(self, inputs: Inputs, count: int) -> Samples:
        """The samples of a task."""
        if not inputs.columns:
            return Samples(self.arrays(inputs.slots))
        columns = {column.name: column.view(self.segments[column.segment].memory) for column in inputs.columns}
        if inputs.indices is not None:
            return Samples(columns, inputs.indices.view(self.memory))
        (first,) = FIRST_ROW.unpack_from(self.memory.data, FIRST_ROW_OFFSET)
        return Samples({name: column[first : first + count] for name, column in columns.items()})

    def program(self, kind: Callable[..., Program], *options: Any) -> Program:
        """The graph's program of this kind."""
        program: Program = self.programs.get((self.graph_id, kind, *options), partial(self._prepared, kind, *options))
        return program

    def _prepared(self, kind: Callable[..., Program], *options: Any) -> Program:
        began = time.perf_counter()
        try:
            return kind(self.read_graph(), *options)
        finally:
            self.prepare_seconds = time.perf_counter() - began


def describe(_: Describe, shard: Shard) -> Answer:
    """Checks a graph and says what it takes and gives."""
    return signature_of(shard.read_graph()), None


def signature_of(graph: Graph) -> Signature:
    """What a graph takes and gives."""
    outputs = tuple((name, graph.types[node]) for name, node in graph.outputs.items())
    return Signature(graph.node_count, _leaves(graph), outputs, _objective(graph), _operations(graph))


def _operations(graph: Graph) -> int:
    """Roughly how many operations the outputs of one sample take: products by their length, of everything else an element for some."""
    found = 0
    for node, op, operands, _ in graph.rows():
        if graph.per_sample[node]:
            found += size(graph.shape(node)) * (2 * graph.shape(operands[0])[-1] if op is matmul else ELEMENT_OPERATIONS)
    return found


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
    """One row: the sum over the shard's blocks; the first shard adds the penalty's. In debug mode one shard does all: the first error is the first."""
    program = shard.program(GradientProgram, task.wrt, task.options)
    program.check_memory(task.samples, "max_worker_bytes", shard.allowed_bytes)
    parameters, rows = shard.arrays(task.parameters), task.rows.view(shard.memory)
    samples = shard.samples(task.inputs, task.samples)
    first = shard.number * task.shard_blocks
    count = min(task.shard_blocks, block_count(task.samples) - first)
    rows[shard.number] = summed(program, parameters, samples, first, count, task.samples, shard.should_stop)
    if shard.number == 0 and len(rows) > task.data_shards:
        rows[task.data_shards] = program.penalty(parameters)
    return program.evaluator, None


def gradients(task: Gradients, shard: Shard) -> Answer:
    """The rows of all of them."""
    evaluator = ""
    for part in task.parts:
        evaluator, _ = gradient(part, shard)
    return evaluator, None


def penalty(task: Penalty, shard: Shard) -> Answer:
    """The row."""
    program = shard.program(GradientProgram, None, task.options)
    task.row.view(shard.memory)[:] = program.penalty(shard.arrays(task.parameters))
    return program.evaluator, None


def evaluate(task: Evaluate, shard: Shard) -> Answer:
    """The outputs of the shard's samples."""
    program = shard.program(EvaluateProgram, task.options)
    program.check_memory(task.samples, "max_worker_bytes", shard.allowed_bytes)
    start = shard.number * task.shard_blocks * BLOCK
    stop = min(start + task.shard_blocks * BLOCK, task.samples)
    samples = shard.samples(task.inputs, task.samples)
    parameters, targets = shard.arrays(task.parameters), [(slot.name, slot.view(shard.memory)) for slot in task.columns]
    for first, last, arrays, offset in samples.pieces(program, start, stop):
        found = program.run(parameters, arrays, first - offset, last - offset, shard.should_stop, offset)
        for name, target in targets:
            target[first:last] = found[name]
    return program.evaluator, None


KINDS: dict[type[Any], Callable[[Any, Shard], Answer]] = {
    Describe: describe,
    Backward: backward,
    Gradient: gradient,
    Gradients: gradients,
    Penalty: penalty,
    Evaluate: evaluate,
}


class Worker:
    """The loop, and what is kept from one shard to the next: mapped arenas, the task at hand, prepared programs."""

    def __init__(self, channel: Channel, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self._segments = Mapped()
        self._tasks: Recent[bytes, Task] = Recent(KEPT_TASKS)
        self._programs: Recent[tuple[Any, ...], Any] = Recent(settings.max_programs)
        self._answers: list[tuple[Done | Failed, Arena | None]] = []

    def serve(self) -> None:
        """Works until the front is gone, which is an EOFError."""
        self._channel.send(Ready())
        while True:
            message, fds = self._channel.receive()
            if isinstance(message, Run):
                self._answer(message)
                continue
            try:
                self._map(message, fds)
            except OSError as error:  # too many open files, or mappings
                self._segments.missing = no_room(error)
            finally:
                for fd in fds:
                    os.close(fd)
            if self._answers and not self._channel.has_more:
                self._send_answers()

    def _map(self, message: Segments, fds: Sequence[int]) -> None:
        for segment in message.forget:
            self._segments.pop(segment, None)
        descriptors = iter(fds)
        for segment, nbytes, writable, data in message.maps:
            memory = attach(next(descriptors), nbytes, writable=writable) if data is None else np.frombuffer(data, np.uint8)
            self._segments[segment] = Segment(memory)

    def _answer(self, run: Run) -> None:
        try:
            answer, arena = self._computed(run)
            if answer is None:  # the error is gone by now, and what its frames held may go
                answer = self._starved(run)
        except MemoryError:  # even for that there was no room: the front knows the exit code
            os._exit(STARVED)
        self._answers.append((answer, arena))
        if self._segments.missing or not self._channel.has_more:
            self._send_answers()
        if self._segments.missing:  # the front believes that all is mapped: a new worker begins with nothing
            os._exit(0)

    def _send_answers(self) -> None:
        """Sends what was held back so far: answers to light shards go together."""
        self._channel.send_all([(answer, [arena.fd] if arena else []) for answer, arena in self._answers])
        self._answers.clear()

    def _computed(self, run: Run) -> tuple[Done | Failed | None, Arena | None]:
        """The answer; None where memory ran out."""
        began = time.perf_counter()
        try:
            shard = self._shard(run)
            task = self._task_of(run, shard.memory)
            value, arena = KINDS[type(task)](task, shard)
        except MemoryError:
            return None, None
        except SumgradError as error:
            return Failed(run.job, run.shard, error), None
        except Exception as error:  # noqa: BLE001 - it may not pickle, and its story belongs in the log
            return Failed(run.job, run.shard, RuntimeError(f"{type(error).__name__}: {error}"[:1000]), traceback.format_exc()), None
        cost = Cost(shard.prepare_seconds, time.perf_counter() - began - shard.prepare_seconds)
        return Done(run.job, run.shard, value, cost), arena

    def _starved(self, run: Run) -> Failed:
        """Makes room again, with a little more of it for the time that this takes."""
        _limit_memory(self._settings.max_worker_bytes + RESERVE_BYTES)
        self._programs.clear()
        gc.collect()
        _limit_memory(self._settings.max_worker_bytes)
        return Failed(run.job, run.shard, out_of_memory(self._settings.max_worker_bytes))

    def _shard(self, run: Run) -> Shard:
        def read_graph() -> Graph:
            if self._answers:  # what comes now takes its time
                self._send_answers()
            return parse_graph(*run.graph.split(self._segments[run.graph.segment].memory), self._settings)

        allowed = self._settings.max_worker_bytes
        return Shard(run.shard, run.graph.id, run.arena, self._segments, read_graph, self._programs, allowed)

    def _task_of(self, run: Run, memory: Memory) -> Task:
        pickled = memory[run.task_offset : run.task_offset + run.task_bytes].tobytes()
        return self._tasks.get(pickled, lambda: pickle.loads(pickled))  # noqa: S301 - from our own front


def _end_with_front(fd: int, heart: Heart, seconds: float) -> None:
    """Ends this process, whatever it is doing, when the other end of the socket closes: nobody wants its results. Until then the heart beats."""
    poll = select.poll()
    poll.register(fd, 0)  # hang-ups are reported unasked
    while not poll.poll(1000.0 * seconds):
        heart.beat()
    os._exit(0)


def _limit_memory(nbytes: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit is in force already
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, resource.RLIM_INFINITY))


def main(fd: int) -> None:
    """Serves the front at the other end of this socket."""
    # Control-C and a service manager's SIGTERM go to the front too: it drains, and needs its workers for that.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=fd))
    with contextlib.suppress(EOFError, BrokenPipeError):
        hello, (pulse,) = channel.receive()
        settings = hello.settings
        harden(settings)
        beat_seconds = min(1.0, settings.stall_seconds / BEATS)
        threading.Thread(target=_end_with_front, args=[fd, Heart(pulse), beat_seconds], daemon=True).start()
        os.close(pulse)
        _limit_memory(settings.max_worker_bytes)
        if settings.cache_dir is not None:  # empty: nothing is kept on disk
            os.environ["SUMGRAD_CACHE"] = settings.cache_dir
        native.configure(max_seconds=settings.max_compile_seconds)
        Worker(channel, settings).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
