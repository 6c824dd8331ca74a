"""The seam between the gRPC methods and what computes: here, the processes of this machine. Others may run a shard twice; the ledger decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from sumgrad_engine.blocks import block_count, tree_sum
from sumgrad_engine.errors import GraphError, InputError
from sumgrad_engine.options import DEFAULT, Options
from sumgrad_engine.program import Layout, Result, check_arrays, finish
from sumgrad_engine.types import Array, DType, Leaf

from .arena import attach
from .codec import within
from .graphs import StoredGraph
from .pool import Job, Pool, SharedGraph
from .settings import Settings
from .tasks import HEADER, Backward, Describe, Evaluate, Gradient, Memory, Packer, Signature, Slot
from .threads import unblocking

SHARDS_PER_WORKER = 4
MAX_SHARD_BLOCKS = 64
MAX_SHARDS = 4096
MAX_ROWS_BYTES = 1 << 28
"""Above this, shards of wide gradients grow beyond MAX_SHARD_BLOCKS."""

Columns: TypeAlias = tuple[dict[str, Array], str]
"""Outputs by name, and what evaluated them."""


@dataclass(frozen=True, eq=False)
class GradientCall:
    """What a client asks for: `wrt` None means all parameters, `mean` averages over samples instead of summing."""

    parameters: Mapping[str, Array]
    inputs: Mapping[str, Array]
    wrt: tuple[str, ...] | None = None
    mean: bool = False
    options: Options = DEFAULT


@dataclass(frozen=True, eq=False)
class EvaluateCall:
    """What a client asks for."""

    parameters: Mapping[str, Array]
    inputs: Mapping[str, Array]
    options: Options = DEFAULT


class Executor(Protocol):
    """What computes. Everything raises the engine's errors, BusyError, DrainingError and WorkersLostError, and stops when it is cancelled."""

    async def describe(self, graph: SharedGraph) -> Signature:
        """Checks a graph, which may be hostile."""

    async def gradient(self, graph: StoredGraph, call: GradientCall) -> Result:
        """Sums value, gradient and metrics over samples."""

    def evaluate(self, graph: StoredGraph, call: EvaluateCall) -> AbstractAsyncContextManager[Columns]:
        """The outputs, each of shape (samples, *output shape); views, good until the context is left. And what evaluated them."""

    async def backward(self, graph: SharedGraph) -> tuple[bytes, bytes]:
        """Data and gradients of every node, as BackwardResponse has them."""


def shard_blocks(blocks: int, workers: int, row_bytes: int = 0) -> int:
    """Blocks in a shard: a power of two, so that sums over shards have the bits of the sum over blocks.

    As many as leave every worker some shards, so that all end at about the same time, and not so many that small requests wait long for a turn.
    """
    size = 1
    while size < MAX_SHARD_BLOCKS and -(-blocks // (2 * size)) >= SHARDS_PER_WORKER * workers:
        size *= 2
    while (shards := -(-blocks // size)) > 1 and (shards > MAX_SHARDS or shards * row_bytes > MAX_ROWS_BYTES):
        size *= 2
    return size


class ProcessExecutor:
    """Computes in a pool of worker processes."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self._pool = pool
        self._settings = settings

    async def describe(self, graph: SharedGraph) -> Signature:
        """See Executor."""
        async with self._pool.run(graph, Describe(), 1, HEADER, _nothing) as job:
            signature: Signature = job.values[0]
            return signature

    async def backward(self, graph: SharedGraph) -> tuple[bytes, bytes]:
        """See Executor."""
        async with self._pool.run(graph, Backward(), 1, HEADER, _nothing) as job:
            return await unblocking(job.values[0][2], _handed_bytes, job)

    async def gradient(self, graph: StoredGraph, call: GradientCall) -> Result:
        """See Executor."""
        layout = objective_layout(graph.signature, call.wrt)
        samples, packer = self._sample_count(graph.signature, call), Packer()
        slots = _Slots.of(packer, graph.signature, call)
        size = self._shard_blocks(samples, call.options.debug, 8 * layout.width)
        data_shards = -(-block_count(samples) // size)
        row_count = data_shards + graph.signature.has_penalty
        rows = packer.slot("rows", (row_count, layout.width), DType.FLOAT.numpy)
        wrt = tuple(name for name, _ in layout.grads) if call.wrt else None
        task = Gradient(wrt, call.options, samples, size, data_shards, slots.parameters, slots.inputs, rows)
        shards = 1 if call.options.debug else row_count
        async with self._pool.run(graph.shared, task, shards, packer.nbytes, partial(slots.fill, call)) as job:
            return await unblocking(rows.nbytes, _combine, job.memory, task, layout, call.mean, job.values[0])

    @asynccontextmanager
    async def evaluate(self, graph: StoredGraph, call: EvaluateCall) -> AsyncIterator[Columns]:
        """See Executor."""
        samples, packer = self._sample_count(graph.signature, call), Packer()
        slots = _Slots.of(packer, graph.signature, call)
        size = self._shard_blocks(samples, call.options.debug)
        columns = tuple(packer.slot(name, (samples, *of.shape), numpy_type(of.dtype, call.options)) for name, of in graph.signature.outputs)
        task = Evaluate(call.options, samples, size, slots.parameters, slots.inputs, columns)
        shards = -(-block_count(samples) // size)
        async with self._pool.run(graph.shared, task, shards, packer.nbytes, partial(slots.fill, call)) as job:
            yield {slot.name: slot.view(job.memory) for slot in columns}, job.values[0]

    def _shard_blocks(self, samples: int, debug: bool, row_bytes: int = 0) -> int:
        blocks = block_count(samples)
        if debug:  # one shard: which NaN is the first must not depend on who is faster
            return 1 << (blocks - 1).bit_length()
        return shard_blocks(blocks, self._settings.workers, row_bytes)

    def _sample_count(self, signature: Signature, call: GradientCall | EvaluateCall) -> int:
        samples = check_arrays(signature.leaves, call.parameters, call.inputs)
        within(self._settings.max_samples, "max_samples", samples, "number of samples")
        return samples


def objective_layout(signature: Signature, wrt: Sequence[str] | None) -> Layout:
    """The layout of partial results for these parameters (None: all). Raises GraphError, InputError."""
    if isinstance(signature.objective, GraphError):
        raise signature.objective
    layout, known = signature.objective, {name for name, _ in signature.objective.grads}
    for name in wrt or ():
        if name not in known:
            raise InputError(f"wrt names {name[:80]!r}, which is no parameter of the graph", field=f"wrt.{name[:80]}")
    return Layout(layout.metrics, tuple(entry for entry in layout.grads if not wrt or entry[0] in wrt))


@dataclass(frozen=True)
class _Slots:
    """Where a call's arrays lie in the arena, in the types in which the engine computes."""

    parameters: tuple[Slot, ...]
    inputs: tuple[Slot, ...]

    @classmethod
    def of(cls, packer: Packer, signature: Signature, call: GradientCall | EvaluateCall) -> _Slots:
        def slots(leaves: Sequence[Leaf], arrays: Mapping[str, Array], options: Options) -> tuple[Slot, ...]:
            return tuple(packer.slot(leaf.name, arrays[leaf.name].shape, numpy_type(leaf.dtype, options)) for leaf in leaves)

        # Parameters stay f64: they are rounded once, where they are used.
        return cls(
            slots(signature.leaves.parameters, call.parameters, DEFAULT),
            slots(signature.leaves.inputs, call.inputs, call.options),
        )

    def fill(self, call: GradientCall | EvaluateCall, memory: Memory) -> None:
        """Copies the call's arrays there: one copy, which converts too."""
        for slots, arrays in ((self.parameters, call.parameters), (self.inputs, call.inputs)):
            for slot in slots:
                np.copyto(slot.view(memory), arrays[slot.name], casting="same_kind")


def numpy_type(dtype: DType, options: Options) -> np.dtype[Any]:
    """In what the samples of a kind of element are computed."""
    return np.dtype(np.float32) if dtype is DType.FLOAT and options.precision == "f32" else dtype.numpy


def _combine(memory: Memory, task: Gradient, layout: Layout, mean: bool, evaluator: str) -> Result:
    rows = task.rows.view(memory)
    penalty = rows[task.data_shards] if len(rows) > task.data_shards else None
    return finish(layout, tree_sum(list(rows[: task.data_shards])), penalty, task.samples, mean, evaluator)


def _handed_bytes(job: Job) -> tuple[bytes, bytes]:
    data_bytes, gradient_bytes, nbytes = job.values[0]
    memory = attach(job.handed[0][0], nbytes)
    return memory[:data_bytes].tobytes(), memory[data_bytes : data_bytes + gradient_bytes].tobytes()


def _nothing(_: Memory) -> None:
    """What a task without arrays has to copy."""
