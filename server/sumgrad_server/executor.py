"""The seam between the gRPC methods and what computes: here, the processes of this machine. Others may run a shard twice; the ledger decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from sumgrad_engine.blocks import BLOCK, block_count
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.options import Options
from sumgrad_engine.program import check_parameters
from sumgrad_engine.types import Array, DType

from .arena import attach
from .census import Census
from .graphs import StoredGraph
from .jobs import Job, Order, SharedGraph
from .planning import (
    KEPT_PLANS,
    LIGHT_SECONDS,
    AnyCall,
    Asker,
    EvaluateCall,
    GradientCall,
    Paces,
    Sum,
    columns_of,
    combined,
    numpy_type,
    objective_layout,
    sample_count,
)
from .pool import Pool
from .recent import Recent
from .resident import Rows
from .settings import Settings
from .tasks import Backward, Column, Describe, Evaluate, Gradient, Inputs, Packer, Penalty, Signature, Slot, pickled
from .threads import unblocking
from .together import TogetherPlan, same_parameters, together_plan

DESCRIBE, BACKWARD = pickled(Describe()), pickled(Backward())

Columns: TypeAlias = tuple[dict[str, Array], str]
"""Outputs by name, and what evaluated them."""


class Workers(Protocol):
    """Those behind an executor: the app starts and ends them. Events are set once; `broken` says that there will never be any."""

    ready: asyncio.Event
    broken: asyncio.Event
    stopped: asyncio.Event

    def start(self) -> None:
        """Begins to have some. Call it in the loop."""

    def drain(self) -> None:
        """No new work."""

    def abort(self) -> None:
        """Fails what is not done, and drains; `stopped` is set when they are gone."""

    @property
    def serving(self) -> bool:
        """Whether one is ready."""

    def census(self) -> Census:
        """What they do now."""


class Executor(Protocol):
    """What computes. Everything raises the engine's errors, BusyError, DrainingError and WorkersLostError, and stops when it is cancelled."""

    async def describe(self, graph: SharedGraph, asker: Asker) -> Signature:
        """Checks a graph, which may be hostile."""

    async def gradient(self, graph: StoredGraph, call: GradientCall) -> Sum:
        """Sums value, gradient and metrics over samples."""

    def is_light(self, graph: StoredGraph, call: GradientCall) -> bool:
        """Whether a sum is known to take less than the way to a worker: then several are better done together. Raises InputError."""

    async def gradients(self, graph: StoredGraph, calls: Sequence[GradientCall]) -> list[Sum]:
        """Several sums at the same parameters, of all of them, each left apart from the penalty."""

    async def penalty(self, graph: StoredGraph, parameters: Mapping[str, Array], options: Options, asker: Asker) -> Vector:
        """Value and gradient of the penalty alone, of a graph that has one: a vector with the layout of a sum."""

    def evaluate(self, graph: StoredGraph, call: EvaluateCall) -> AbstractAsyncContextManager[Columns]:
        """The outputs, each of shape (samples, *output shape); views, good until the context is left. And what evaluated them."""

    async def backward(self, graph: SharedGraph, asker: Asker) -> tuple[bytes, bytes]:
        """Data and gradients of every node, as BackwardResponse has them."""


class ProcessExecutor:
    """Computes in a pool of worker processes."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings
        self._plans: Recent[tuple[Any, ...], Plan] = Recent(KEPT_PLANS)
        self._together: Recent[tuple[Any, ...], TogetherPlan] = Recent(KEPT_PLANS)
        self._paces = Paces()

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
        samples = sample_count(self._settings, graph.signature, call)
        work = (graph.shared.ref.id, call.wrt, call.options)
        size = self._paces.shard_blocks(
            work, samples, self._settings.workers, graph.signature, call.options.debug, 8 * graph.signature.width
        )
        plan = self._plan(graph, call, samples, size, gradient_plan)
        job = await self._pool.submit(self._order(graph, plan, call, work, samples))
        try:
            self._learn(work, samples, job)
            vector, penalty = await unblocking(plan.answer_bytes, combined, job.views[-1], plan.shards, samples, call)
        finally:
            self._pool.close(job)
        assert plan.layout is not None
        return Sum(plan.layout, vector, samples, job.values[0], penalty)

    def is_light(self, graph: StoredGraph, call: GradientCall) -> bool:
        """See Executor."""
        samples = sample_count(self._settings, graph.signature, call)
        return samples <= BLOCK and self._paces.seconds((graph.id, call.wrt, call.options), samples) < LIGHT_SECONDS

    async def gradients(self, graph: StoredGraph, calls: Sequence[GradientCall]) -> list[Sum]:
        """See Executor."""
        if len(calls) == 1 or not same_parameters(calls):
            return [await self.gradient(graph, call) for call in calls]
        samples = [sample_count(self._settings, graph.signature, call) for call in calls]
        plan = self._together_plan(graph, calls, samples)
        files = {column.file.id: column.file for call in calls if call.rows for _, column in columns_of(graph.signature, call.rows)}
        order = Order(
            graph.shared,
            plan.task,
            nbytes=plan.nbytes,
            slots=plan.slots,
            write=partial(plan.write, calls),
            columns=tuple(files.values()),
            client=calls[0].asker.client,
            most=calls[0].asker.most,
            light=True,
            work=(graph.id, None, calls[0].options),
        )
        async with self._pool.run(order) as job:
            self._pool.totals.samples += sum(samples)
            rows = job.views[-len(calls) :]
            sums = zip(rows, samples, calls, strict=True)
            return [_sum_of(plan.layout, row, count, call, job.values[0]) for row, count, call in sums]

    def _together_plan(self, graph: StoredGraph, calls: Sequence[GradientCall], samples: Sequence[int]) -> TogetherPlan:
        sources = tuple(_source(graph.signature, call.rows) for call in calls)
        key = (graph.id, calls[0].options, tuple(samples), sources)
        return self._together.get(key, lambda: together_plan(graph.signature, calls, samples))

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
        samples = sample_count(self._settings, graph.signature, call)
        work = (graph.shared.ref.id, "outputs", call.options)
        size = self._paces.shard_blocks(work, samples, self._settings.workers, graph.signature, call.options.debug)
        plan = self._plan(graph, call, samples, size, evaluate_plan)
        async with self._pool.run(self._order(graph, plan, call, work, samples)) as job:
            self._learn(work, samples, job)
            yield {slot.name: view for slot, view in zip(plan.slots, job.views, strict=True) if slot in plan.answers}, job.values[0]

    def _plan(self, graph: StoredGraph, call: AnyCall, samples: int, size: int, make: Callable[..., Plan]) -> Plan:
        key = (graph.shared.ref.id, make, getattr(call, "wrt", None), call.options, samples, size, _source(graph.signature, call.rows))
        return self._plans.get(key, lambda: make(graph.signature, call, samples, size))

    def _order(self, graph: StoredGraph, plan: Plan, call: AnyCall, work: tuple[Any, ...], samples: int) -> Order:
        files = tuple(column.file for _, column in columns_of(graph.signature, call.rows)) if call.rows else ()
        first, asker = call.rows.first if call.rows else 0, call.asker
        write = partial(_write, plan, call)
        light = plan.shards == 1 and self._paces.seconds(work, samples) < LIGHT_SECONDS
        return Order(
            graph.shared, plan.task, plan.shards, plan.nbytes, plan.slots, write, first, files, asker.client, asker.most, light, work
        )

    def _learn(self, work: tuple[Any, ...], samples: int, job: Job) -> None:
        self._pool.totals.samples += samples
        self._paces.learn(work, samples, sum(cost.compute for cost in job.costs))


def _sum_of(layout: Layout, row: Array, samples: int, call: GradientCall, evaluator: str) -> Sum:
    vector, penalty = combined(row, 1, samples, call)
    return Sum(layout, vector, samples, evaluator, penalty)


def _source(signature: Signature, rows: Rows | None) -> tuple[Any, ...] | None:
    """What tells datasets apart, for a graph. Columns of the same bytes share a file, whatever numbers they stand for."""
    if rows is None:
        return None
    files = [(column.file.id, column.dtype.str) for _, column in columns_of(signature, rows)]
    return rows.dataset.sample_count, rows.indices is not None, *files


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
    columns = tuple(Column(name, column.file.id, (total, *column.shape), column.dtype.str) for name, column in columns_of(signature, rows))
    indices = packer.slot("indices", (samples,), np.dtype(np.int64)) if rows.indices is not None else None
    return parameters, Inputs((), columns, indices)


def _handed_bytes(job: Job) -> tuple[bytes, bytes]:
    data_bytes, gradient_bytes, nbytes = job.values[0]
    memory = attach(job.handed[0][0], nbytes)
    return memory[:data_bytes].tobytes(), memory[data_bytes : data_bytes + gradient_bytes].tobytes()
