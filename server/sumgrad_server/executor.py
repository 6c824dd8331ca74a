"""The seam between the gRPC methods and what computes: here, the processes of this machine. Others may run a shard twice; the ledger decides."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from sumgrad_engine.blocks import BLOCK, block_count, tree_sum
from sumgrad_engine.errors import GraphError, InputError
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.options import DEFAULT, Options
from sumgrad_engine.program import Result, check_arrays, check_parameters, reduced
from sumgrad_engine.types import Array, DType

from .arena import attach
from .codec import within
from .graphs import StoredGraph
from .jobs import Job, Order, SharedGraph
from .pool import Pool
from .recent import Recent
from .resident import ResidentColumn, Rows
from .settings import Settings
from .tasks import Backward, Column, Describe, Evaluate, Gradient, Inputs, Packer, Penalty, Signature, Slot, pickled
from .threads import unblocking

DESCRIBE, BACKWARD = pickled(Describe()), pickled(Backward())

SHARDS_PER_WORKER = 4
MAX_SHARD_BLOCKS = 64
OPERATION_SECONDS = 3e-10
"""What an operation of a graph takes with those of its derivatives, as long as nothing was measured: three of them at 10 GFLOP/s."""
LEAST_SECONDS, MOST_SECONDS = 0.0005, 0.008
"""How long a shard should take: handing one out costs 0.2 ms, and while it runs the next request waits."""
LIGHT_SECONDS = 0.0003
"""A job that takes less is light: handing it out takes as long."""
MAX_SHARDS = 16_384
MAX_ROWS_BYTES = 1 << 28
"""Above this, shards of wide gradients grow beyond what their time says."""
KEPT_PLANS = 1024
PACE_WEIGHT = 0.3
"""Of the newest measurement in the average of how long a block takes."""

Columns: TypeAlias = tuple[dict[str, Array], str]
"""Outputs by name, and what evaluated them."""


@dataclass(frozen=True)
class Asker:
    """Whose request it is: clients get their turns one after the other. `most` is how many requests this one may have at a time."""

    client: str = ""
    most: int | None = None


@dataclass(frozen=True, eq=False)
class GradientCall:
    """What a client asks for, of inputs or of rows. `wrt` None means all parameters, `mean` averages over samples instead of summing.

    `apart` leaves the penalty out of the sum: it has its own vector, and whoever asks for that puts them together.
    """

    parameters: Mapping[str, Array]
    inputs: Mapping[str, Array]
    rows: Rows | None = None
    wrt: tuple[str, ...] | None = None
    mean: bool = False
    options: Options = DEFAULT
    asker: Asker = Asker()
    apart: bool = False


@dataclass(frozen=True, eq=False)
class EvaluateCall:
    """What a client asks for, of inputs or of rows."""

    parameters: Mapping[str, Array]
    inputs: Mapping[str, Array]
    rows: Rows | None = None
    options: Options = DEFAULT
    asker: Asker = Asker()


@dataclass(frozen=True, eq=False)
class Sum:
    """The answer to a GradientCall: one vector of value, metrics and gradients. `penalty` is that of the penalty, if it was wanted apart."""

    layout: Layout
    vector: Vector
    count: int
    evaluator: str
    penalty: Vector | None = None

    @property
    def result(self) -> Result:
        """Value, gradients and metrics apart."""
        value, metrics, grads = self.layout.unpack(self.vector)
        return Result(value, grads, metrics, self.count, self.evaluator)


AnyCall: TypeAlias = GradientCall | EvaluateCall


class Executor(Protocol):
    """What computes. Everything raises the engine's errors, BusyError, DrainingError and WorkersLostError, and stops when it is cancelled."""

    async def describe(self, graph: SharedGraph, asker: Asker) -> Signature:
        """Checks a graph, which may be hostile."""

    async def gradient(self, graph: StoredGraph, call: GradientCall) -> Sum:
        """Sums value, gradient and metrics over samples."""

    async def penalty(self, graph: StoredGraph, parameters: Mapping[str, Array], options: Options, asker: Asker) -> Vector:
        """Value and gradient of the penalty alone, of a graph that has one: a vector with the layout of a sum."""

    def evaluate(self, graph: StoredGraph, call: EvaluateCall) -> AbstractAsyncContextManager[Columns]:
        """The outputs, each of shape (samples, *output shape); views, good until the context is left. And what evaluated them."""

    async def backward(self, graph: SharedGraph, asker: Asker) -> tuple[bytes, bytes]:
        """Data and gradients of every node, as BackwardResponse has them."""


def shard_blocks(blocks: int, workers: int, row_bytes: int = 0, block_seconds: float | None = None) -> int:
    """Blocks in a shard: a power of two, so that sums over shards have the bits of the sum over blocks.

    As many as leave every worker some shards, so that all end at about the same time; not so few that handing them out takes longer than they do,
    and not so many that small requests wait long for a turn.
    """
    least, most = 1.0, float(MAX_SHARD_BLOCKS)
    if block_seconds:
        least, most = LEAST_SECONDS / block_seconds, MOST_SECONDS / block_seconds
    size = 1
    while size < blocks and 2 * size <= most and (size < least or -(-blocks // (2 * size)) >= SHARDS_PER_WORKER * workers):
        size *= 2
    while (shards := -(-blocks // size)) > 1 and (shards > MAX_SHARDS or shards * row_bytes > MAX_ROWS_BYTES):
        size *= 2
    return size


class ProcessExecutor:
    """Computes in a pool of worker processes."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._plans: Recent[tuple[Any, ...], Plan] = Recent(KEPT_PLANS)
        self._paces: Recent[tuple[Any, ...], float] = Recent(KEPT_PLANS)

    async def describe(self, graph: SharedGraph, asker: Asker) -> Signature:
        """See Executor."""
        async with self._pool.run(Order(graph, DESCRIBE, client=asker.client, most=asker.most)) as job:
            signature: Signature = job.values[0]
            return signature

    async def backward(self, graph: SharedGraph, asker: Asker) -> tuple[bytes, bytes]:
        """See Executor."""
        async with self._pool.run(Order(graph, BACKWARD, client=asker.client, most=asker.most)) as job:
            return await unblocking(job.values[0][2], _handed_bytes, job)

    async def gradient(self, graph: StoredGraph, call: GradientCall) -> Sum:
        """See Executor."""
        samples = self._sample_count(graph.signature, call)
        work = (graph.shared.ref.id, call.wrt, call.options)
        size = self._shard_blocks(work, samples, graph.signature, call.options.debug, 8 * graph.signature.width)
        plan = self._plan(graph, call, samples, size, gradient_plan)
        job = await self._pool.submit(self._order(graph, plan, call, work, samples))
        try:
            self._learn(work, samples, job)
            vector, penalty = await unblocking(plan.answer_bytes, _combine, job.views[-1], plan.shards, samples, call)
        finally:
            self._pool.close(job)
        assert plan.layout is not None
        return Sum(plan.layout, vector, samples, job.values[0], penalty)

    async def penalty(self, graph: StoredGraph, parameters: Mapping[str, Array], options: Options, asker: Asker) -> Vector:
        """See Executor."""
        layout = objective_layout(graph.signature, None)
        check_parameters(graph.signature.leaves, parameters)
        packer = Packer()
        slots = tuple(packer.slot(leaf.name, leaf.shape, leaf.dtype.numpy) for leaf in graph.signature.leaves.parameters)
        row = packer.slot("row", (layout.width,), DType.FLOAT.numpy)

        def write(views: list[Array]) -> None:
            for slot, view in zip(slots, views, strict=False):
                np.copyto(view, parameters[slot.name], casting="same_kind")

        task = pickled(Penalty(options, slots, row))
        order = Order(graph.shared, task, 1, packer.nbytes, (*slots, row), write, client=asker.client, most=asker.most)
        async with self._pool.run(order) as job:
            vector: Vector = job.views[-1].copy()
            return vector

    @asynccontextmanager
    async def evaluate(self, graph: StoredGraph, call: EvaluateCall) -> AsyncIterator[Columns]:
        """See Executor."""
        samples = self._sample_count(graph.signature, call)
        work = (graph.shared.ref.id, "outputs", call.options)
        size = self._shard_blocks(work, samples, graph.signature, call.options.debug)
        plan = self._plan(graph, call, samples, size, evaluate_plan)
        async with self._pool.run(self._order(graph, plan, call, work, samples)) as job:
            self._learn(work, samples, job)
            yield {slot.name: view for slot, view in zip(plan.slots, job.views, strict=True) if slot in plan.answers}, job.values[0]

    def _plan(self, graph: StoredGraph, call: AnyCall, samples: int, size: int, make: Callable[..., Plan]) -> Plan:
        key = (graph.shared.ref.id, make, getattr(call, "wrt", None), call.options, samples, size, _source(graph.signature, call.rows))
        return self._plans.get(key, lambda: make(graph.signature, call, samples, size))

    def _order(self, graph: StoredGraph, plan: Plan, call: AnyCall, work: tuple[Any, ...], samples: int) -> Order:
        files = tuple(column.file for _, column in _columns(graph.signature, call.rows)) if call.rows else ()
        first, asker = call.rows.first if call.rows else 0, call.asker
        write = partial(_write, plan, call)
        light = plan.shards == 1 and self._seconds(work, samples) < LIGHT_SECONDS
        return Order(
            graph.shared, plan.task, plan.shards, plan.nbytes, plan.slots, write, first, files, asker.client, asker.most, light, work
        )

    def _seconds(self, work: tuple[Any, ...], samples: int) -> float:
        """How long so many samples should take, for ever if that is not known."""
        if samples < BLOCK:
            return self._paces.find((*work, "part")) or math.inf
        return (self._paces.find(work) or math.inf) * block_count(samples)

    def _shard_blocks(self, work: tuple[Any, ...], samples: int, signature: Signature, debug: bool, row_bytes: int = 0) -> int:
        blocks = block_count(samples)
        if debug:  # one shard: which NaN is the first must not depend on who is faster
            return 1 << (blocks - 1).bit_length()
        if blocks == 1:
            return 1
        pace = self._paces.find(work) or BLOCK * OPERATION_SECONDS * signature.operations
        return shard_blocks(blocks, self._settings.workers, row_bytes, pace)

    def _learn(self, work: tuple[Any, ...], samples: int, job: Job) -> None:
        """Notes how long a block took. What the shards are has no say in the bits, so the clock may have one in what they are."""
        self._pool.totals.samples += samples
        seconds = sum(cost.compute for cost in job.costs)
        if samples < BLOCK:  # most of which may be what a call takes: it says nothing of blocks
            self._average((*work, "part"), seconds)
        else:
            self._average(work, seconds * BLOCK / samples)

    def _average(self, key: tuple[Any, ...], seconds: float) -> None:
        known = self._paces.find(key)
        self._paces.put(key, seconds if known is None else known + PACE_WEIGHT * (seconds - known))

    def _sample_count(self, signature: Signature, call: AnyCall) -> int:
        samples = _plain_count(signature, call)
        if samples is None:
            samples = check_arrays(signature.leaves, call.parameters, call.inputs if call.rows is None else _phantoms(signature, call.rows))
        within(self._settings.max_samples, "max_samples", samples, "number of samples")
        return samples


def _plain_count(signature: Signature, call: AnyCall) -> int | None:
    """The number of samples sent along, if all arrays are just what is expected; None leaves it to the checks that say what is wrong."""
    parameters, inputs = signature.expected
    if call.rows or len(call.parameters) != len(parameters) or not inputs or len(call.inputs) != len(inputs):
        return None
    for name, shape, kind in parameters:
        array = call.parameters.get(name)
        if array is None or array.shape != shape or array.dtype.kind != kind:
            return None
    first = call.inputs.get(inputs[0][0])
    samples = len(first) if first is not None and first.ndim else 0
    for name, shape, kind in inputs:
        array = call.inputs.get(name)
        if array is None or array.shape != (samples, *shape) or array.dtype.kind != kind:
            return None
    return samples or None


def _columns(signature: Signature, rows: Rows) -> list[tuple[str, ResidentColumn]]:
    """The columns that a graph reads, in the order of its inputs. They are there: `_phantoms` has looked."""
    return [(leaf.name, rows.dataset.columns[leaf.name]) for leaf in signature.leaves.inputs]


def _source(signature: Signature, rows: Rows | None) -> tuple[Any, ...] | None:
    """What tells datasets apart, for a graph. Columns of the same bytes share a file, whatever numbers they stand for."""
    if rows is None:
        return None
    files = [(column.file.id, column.dtype.str) for _, column in _columns(signature, rows)]
    return rows.dataset.sample_count, rows.indices is not None, *files


def _phantoms(signature: Signature, rows: Rows) -> dict[str, Array]:
    """Arrays of the types and shapes of the rows that a graph asks for, without memory."""
    columns = rows.dataset.columns
    for leaf in signature.leaves.inputs:
        if leaf.name not in columns:
            said = f"the dataset has no column {leaf.name[:80]!r}, which is an input of the graph; it has {sorted(columns)[:20]}"
            raise InputError(said, field=f"dataset.{leaf.name[:80]}")
    return {name: np.broadcast_to(np.empty((), column.dtype), (rows.count, *column.shape)) for name, column in _columns(signature, rows)}


def objective_layout(signature: Signature, wrt: Sequence[str] | None) -> Layout:
    """The layout of partial results for these parameters (None: all). Raises GraphError, InputError."""
    if isinstance(signature.objective, GraphError):
        raise signature.objective
    layout, known = signature.objective, {name for name, _ in signature.objective.grads}
    for name in wrt or ():
        if name not in known:
            raise InputError(f"wrt names {name[:80]!r}, which is no parameter of the graph", field=f"wrt.{name[:80]}")
    return Layout(layout.metrics, tuple(entry for entry in layout.grads if not wrt or entry[0] in wrt))


@dataclass(frozen=True, eq=False)
class Plan:
    """What all calls of a kind have in common: where their arrays lie (parameters, inputs or indices of rows, answers), and the workers' task."""

    task: bytes
    shards: int
    nbytes: int
    parameters: tuple[Slot, ...]
    inputs: Inputs
    answers: tuple[Slot, ...]
    answer_bytes: int
    layout: Layout | None = None

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """All of them, in order."""
        indices = () if self.inputs.indices is None else (self.inputs.indices,)
        return (*self.parameters, *self.inputs.slots, *indices, *self.answers)


@np.errstate(over="ignore")  # what f32 can't hold is infinite
def _write(plan: Plan, call: AnyCall, views: list[Array]) -> None:
    """Copies the call's arrays to their places: one copy, which converts too."""
    given = [call.parameters[slot.name] for slot in plan.parameters]
    given += [call.inputs[slot.name] for slot in plan.inputs.slots]
    if call.rows is not None and call.rows.indices is not None:
        given.append(call.rows.indices)
    for view, array in zip(views, given, strict=False):
        np.copyto(view, array, casting="same_kind")


def gradient_plan(signature: Signature, call: GradientCall, samples: int, size: int) -> Plan:
    """The plan of a sum. Raises GraphError, InputError."""
    layout, packer = objective_layout(signature, call.wrt), Packer()
    parameters, inputs = _slots(packer, signature, call, samples)
    data_shards = -(-block_count(samples) // size)
    rows = packer.slot("rows", (data_shards + signature.has_penalty, layout.width), DType.FLOAT.numpy)
    wrt = tuple(name for name, _ in layout.grads) if call.wrt else None
    task = Gradient(wrt, call.options, samples, size, data_shards, parameters, inputs, rows)
    return Plan(pickled(task), data_shards, packer.nbytes, parameters, inputs, (rows,), rows.nbytes, layout)


def evaluate_plan(signature: Signature, call: EvaluateCall, samples: int, size: int) -> Plan:
    """The plan of outputs a sample."""
    packer = Packer()
    parameters, inputs = _slots(packer, signature, call, samples)
    columns = tuple(packer.slot(name, (samples, *of.shape), numpy_type(of.dtype, call.options)) for name, of in signature.outputs)
    task = Evaluate(call.options, samples, size, parameters, inputs, columns)
    return Plan(pickled(task), -(-block_count(samples) // size), packer.nbytes, parameters, inputs, columns, 0)


def _slots(packer: Packer, signature: Signature, call: AnyCall, samples: int) -> tuple[tuple[Slot, ...], Inputs]:
    """Where a call's arrays lie, in the types in which the engine computes. Parameters stay f64: they are rounded once, where they are used."""
    parameters = tuple(packer.slot(leaf.name, leaf.shape, leaf.dtype.numpy) for leaf in signature.leaves.parameters)
    leaves, rows = signature.leaves.inputs, call.rows
    if rows is None:
        types = [numpy_type(leaf.dtype, call.options) for leaf in leaves]
        return parameters, Inputs(tuple(packer.slot(leaf.name, (samples, *leaf.shape), of) for leaf, of in zip(leaves, types, strict=True)))
    total = rows.dataset.sample_count
    columns = tuple(Column(name, column.file.id, (total, *column.shape), column.dtype.str) for name, column in _columns(signature, rows))
    indices = packer.slot("indices", (samples,), np.dtype(np.int64)) if rows.indices is not None else None
    return parameters, Inputs((), columns, indices)


def numpy_type(dtype: DType, options: Options) -> np.dtype[Any]:
    """In what the samples of a kind of element are computed."""
    return np.dtype(np.float32) if dtype is DType.FLOAT and options.precision == "f32" else dtype.numpy


def _combine(rows: Array, shards: int, samples: int, call: GradientCall) -> tuple[Vector, Vector | None]:
    """The sum over samples, and the penalty if it is wanted apart."""
    penalty = rows[shards] if len(rows) > shards else None
    total = rows[0].copy() if shards == 1 else tree_sum(list(rows[:shards]))
    if call.apart:
        return total, None if penalty is None else penalty.copy()
    return reduced(total, penalty, samples, call.mean), None


def _handed_bytes(job: Job) -> tuple[bytes, bytes]:
    data_bytes, gradient_bytes, nbytes = job.values[0]
    memory = attach(job.handed[0][0], nbytes)
    return memory[:data_bytes].tobytes(), memory[data_bytes : data_bytes + gradient_bytes].tobytes()
