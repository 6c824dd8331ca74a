"""The executor that computes on a Dask cluster: the shards and their sums are those of the processes of one machine, and so are the bits.

A shard is a task that depends on nothing but what it is sent, and on pieces of datasets that workers hold. Its first answer counts. Dask runs the tasks
of a lost worker again; what was lost with a worker or a scheduler beyond that is placed and submitted again here, as often as it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

import numpy as np
from distributed import Client, Future
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from sumgrad_engine.blocks import BLOCK
from sumgrad_engine.errors import SumgradError
from sumgrad_engine.layout import Vector
from sumgrad_engine.options import Options
from sumgrad_engine.program import check_parameters
from sumgrad_engine.types import Array

from ..executor import Columns
from ..faults import WorkersLostError, out_of_memory
from ..graphs import StoredGraph
from ..jobs import SharedGraph
from ..planning import (
    AnyCall,
    Asker,
    EvaluateCall,
    GradientCall,
    Grain,
    Paces,
    Sum,
    columns_of,
    combined,
    numpy_type,
    objective_layout,
    sample_count,
)
from ..recent import Recent
from ..settings import Settings
from ..tasks import Signature
from ..threads import in_thread, unblocking
from . import work
from .connection import Cluster
from .placement import PIECE_BLOCKS, PIECE_ROWS, Placement, mapped, pieces_of, read_piece
from .work import GraphBytes, Outputs, Row

log = logging.getLogger(__name__)

Submit: TypeAlias = Callable[[Client], Awaitable[Future]]

GRAIN = Grain(least_seconds=0.05, most_seconds=0.5, most_blocks=PIECE_BLOCKS)
"""Handing a shard to a cluster takes milliseconds."""
SMALL_BYTES = 1 << 16
"""What is smaller goes along with each task."""
IN_FLIGHT = 256
"""Shards that the scheduler has at a time."""
TRIES_PAUSE = 0.05
MAX_LOSSES = 6
"""How often a shard may lose what it depends on, with the workers that held it, before its request fails."""
KEPT_GRAPHS = 256
TRANSIENT = (CommClosedError, TimeoutError, asyncio.CancelledError)
"""What a task can't be submitted for while the connection is being lost, or while there are no workers."""


@dataclass(frozen=True, eq=False)
class Given:
    """What all shards of a request share, as tasks take it: themselves if they are small, otherwise held by all workers."""

    graph: GraphBytes
    parameters: Mapping[str, Array]


class DaskExecutor:
    """Computes on a cluster."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster, self._settings = cluster, settings
        self._paces = Paces(GRAIN)
        self._placement = Placement(settings.max_cluster_bytes)
        self._graphs: Recent[str, GraphBytes] = Recent(KEPT_GRAPHS)
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def describe(self, graph: SharedGraph, asker: Asker) -> Signature:
        """See Executor."""
        async with self._cluster.admitted(asker):
            found: Signature = await self._alone(graph, work.describe)
            return found

    async def backward(self, graph: SharedGraph, asker: Asker) -> tuple[bytes, bytes]:
        """See Executor."""
        async with self._cluster.admitted(asker):
            found: tuple[bytes, bytes] = await self._alone(graph, work.backward)
            return found

    async def penalty(self, graph: StoredGraph, parameters: Mapping[str, Array], options: Options, asker: Asker) -> Vector:
        """See Executor."""
        check_parameters(graph.signature.leaves, parameters)

        async def submit(client: Client) -> Future:
            shared, values = await self._shared(client, given)
            return client.submit(work.penalty, shared, options, values, pure=False)

        async with self._cluster.admitted(asker):
            with self._given(graph.shared, parameters) as given:
                found: Vector = await self._answered(given.graph.id, submit, [given.graph, given])
                return found

    async def gradient(self, graph: StoredGraph, call: GradientCall) -> Sum:
        """See Executor."""
        samples = sample_count(self._settings, graph.signature, call)
        layout = objective_layout(graph.signature, call.wrt)
        key = (graph.id, call.wrt, call.options)
        wrt = tuple(name for name, _ in layout.grads) if call.wrt else None

        def task(client: Client, shared: Any, values: Any, pieces: Sequence[Any], start: int, count: int, number: int) -> Future:
            return client.submit(work.row, shared, wrt, call.options, values, pieces, start, count, with_penalty=number == 0, pure=False)

        rows: list[Row] = await self._sharded(graph, call, samples, key, task, 8 * layout.width)
        self._learn(key, samples, rows)
        sums = [row.sums for row in rows]
        penalty = rows[0].penalty
        vectors = np.stack(sums if penalty is None else [*sums, penalty])
        vector, apart = await unblocking(vectors.nbytes, combined, vectors, len(sums), samples, call)
        return Sum(layout, vector, samples, rows[0].evaluator, apart)

    def is_light(self, graph: StoredGraph, call: GradientCall) -> bool:
        """See Executor."""
        return False

    async def gradients(self, graph: StoredGraph, calls: Sequence[GradientCall]) -> list[Sum]:
        """See Executor."""
        return list(await asyncio.gather(*(self.gradient(graph, call) for call in calls)))

    @asynccontextmanager
    async def evaluate(self, graph: StoredGraph, call: EvaluateCall) -> AsyncIterator[Columns]:
        """See Executor."""
        samples = sample_count(self._settings, graph.signature, call)
        key = (graph.id, "outputs", call.options)

        def task(client: Client, shared: Any, values: Any, pieces: Sequence[Any], start: int, count: int, number: int) -> Future:
            return client.submit(work.outputs, shared, call.options, values, pieces, start, count, pure=False)

        parts: list[Outputs] = await self._sharded(graph, call, samples, key, task)
        self._learn(key, samples, parts)
        names = [name for name, _ in graph.signature.outputs]
        columns = await in_thread(lambda: {name: np.concatenate([part.arrays[name] for part in parts]) for name in names})
        yield columns, parts[0].evaluator

    async def _sharded(
        self,
        graph: StoredGraph,
        call: AnyCall,
        samples: int,
        key: tuple[Any, ...],
        task: Callable[..., Future],
        row_bytes: int = 0,
    ) -> list[Any]:
        """The answers of all shards of a call, in order."""
        size = self._paces.shard_blocks(key, samples, self._cluster.size, graph.signature, call.options.debug, row_bytes)
        rows = size * BLOCK
        async with self._cluster.admitted(call.asker):
            source = await self._source(graph.signature, call)
            starts = range(0, samples, rows)
            with self._given(graph.shared, call.parameters) as given:
                try:
                    async with asyncio.TaskGroup() as group:
                        tasks = [
                            group.create_task(self._shard(given, source, task, number, start, min(rows, samples - start)))
                            for number, start in enumerate(starts)
                        ]
                except* SumgradError as errors:
                    raise _first(errors) from None
            return [done.result() for done in tasks]

    async def _shard(self, given: Given, source: Source, task: Callable[..., Future], number: int, start: int, count: int) -> Any:
        async def submit(client: Client) -> Future:
            shared, values = await self._shared(client, given)
            pieces, first = await source.pieces(client, start, count)
            return task(client, shared, values, pieces, first, count, number)

        async with self._room:
            return await self._answered(given.graph.id, submit, [given.graph, given, *source.keys(start, count)])

    async def _alone(self, graph: SharedGraph, function: Callable[[GraphBytes], Any]) -> Any:
        async def submit(client: Client) -> Future:
            shared, _ = await self._shared(client, given)
            return client.submit(function, shared, pure=False)

        with self._given(graph, {}) as given:
            return await self._answered(given.graph.id, submit, [given.graph])

    async def _answered(self, graph_id: str, submit: Submit, held: Sequence[Hashable]) -> Any:
        """A task's answer. What its connection or what it depends on was lost for is sent again; what the task itself raised is raised.

        A task that has lost what it depends on again and again, while the scheduler was there, may well be what kills the workers: it is given up.
        So is one that can't even be submitted, unless that is for want of workers.
        """
        losses = 0
        while True:
            client = await self._cluster.client()
            future: Future | None = None
            try:
                future = await submit(client)
                with self._cluster.working():
                    return await future
            except (Exception, asyncio.CancelledError) as error:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                failed = future is not None and future.status == "error"
                if isinstance(error, SumgradError) or (failed and not isinstance(error, OSError)):
                    raise _translated(error, graph_id, self._settings) from None
                losses += client.status == "running" and (future is not None or not isinstance(error, TRANSIENT))
                if losses == MAX_LOSSES:
                    raise _given_up_for(error, losses, graph_id, failed=failed, submitted=future is not None) from None
                for key in held:
                    self._placement.forget(key)
                await asyncio.sleep(TRIES_PAUSE)
            finally:
                if future is not None and not future.done():
                    await _let_go(future)

    async def _shared(self, client: Client, given: Given) -> tuple[Any, Any]:
        """The graph and the parameters, or where they are held."""
        graph, parameters = given.graph, given.parameters
        shared = await self._everywhere(client, graph, graph, len(graph.graph) + len(graph.sources))
        return shared, await self._everywhere(client, given, parameters, sum(array.nbytes for array in parameters.values()))

    async def _everywhere(self, client: Client, key: Hashable, value: object, nbytes: int) -> Any:
        """Something for all workers: itself if it is small, otherwise where it is held."""
        if nbytes <= SMALL_BYTES:
            return value
        return await self._placement.get(client, key, nbytes * self._cluster.size, lambda: value, everywhere=True)

    @contextmanager
    def _given(self, graph: SharedGraph, parameters: Mapping[str, Array]) -> Iterator[Given]:
        """What all shards of a request share, for as long as it goes on."""
        given = Given(self._bytes_of(graph), parameters)
        try:
            yield given
        finally:
            self._placement.forget(given)

    def _bytes_of(self, graph: SharedGraph) -> GraphBytes:
        def read() -> GraphBytes:
            return GraphBytes(graph.ref.id, *graph.ref.split(graph.arena.bytes), self._settings)

        return self._graphs.get(graph.ref.id, read)

    async def _source(self, signature: Signature, call: AnyCall) -> Source:
        """Where the samples come from. Rows by indices are gathered here: from anywhere, they would be most of the dataset's pieces."""
        if call.rows is None:
            inputs = [(leaf.name, numpy_type(leaf.dtype, call.options)) for leaf in signature.leaves.inputs]
            return Sent({name: call.inputs[name].astype(dtype, casting="same_kind", copy=False) for name, dtype in inputs})
        columns = dict(columns_of(signature, call.rows))
        indices = call.rows.indices
        if indices is not None:
            return Sent(await in_thread(lambda: {name: mapped(column)[indices] for name, column in columns.items()}))
        return Held(self._placement, columns, call.rows.first)

    def _learn(self, key: tuple[Any, ...], samples: int, parts: Sequence[Row] | Sequence[Outputs]) -> None:
        totals, seconds = self._cluster.totals, sum(part.seconds for part in parts)
        totals.samples += samples
        totals.shards += len(parts)
        totals.jobs_finished += 1
        totals.compute_seconds += seconds
        self._paces.learn(key, samples, seconds)


class Source(Protocol):
    """Where a request's samples come from."""

    async def pieces(self, client: Client, start: int, count: int) -> tuple[Sequence[Any], int]:
        """Arrays, or where they are held, that lie one after the other; and at which of their rows `count` samples from `start` on begin."""

    def keys(self, start: int, count: int) -> list[Hashable]:
        """What has to be placed again if a shard of them fails."""


class Sent:
    """Arrays that are sent along."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = arrays

    async def pieces(self, client: Client, start: int, count: int) -> tuple[Sequence[Any], int]:
        """A shard's own samples."""
        return [{name: np.ascontiguousarray(array[start : start + count]) for name, array in self._arrays.items()}], 0

    def keys(self, start: int, count: int) -> list[Hashable]:
        """None: they come along."""
        return []


class Held:
    """Rows of a dataset from `first` on, which workers hold in pieces."""

    def __init__(self, placement: Placement, columns: Mapping[str, Any], first: int) -> None:
        self._placement, self._columns, self._first = placement, columns, first
        self._key = tuple((name, column.file.id, column.dtype.str) for name, column in sorted(columns.items()))
        self._row_bytes = sum(column.dtype.itemsize * int(np.prod(column.shape)) for column in columns.values())

    async def pieces(self, client: Client, start: int, count: int) -> tuple[Sequence[Any], int]:
        """The pieces that have a shard's rows."""
        numbers = list(pieces_of(self._first + start, count))
        nbytes = PIECE_ROWS * self._row_bytes
        held = [
            await self._placement.get(client, (*self._key, number), nbytes, partial(read_piece, self._columns, number))
            for number in numbers
        ]
        return held, self._first + start - numbers[0] * PIECE_ROWS

    def keys(self, start: int, count: int) -> list[Hashable]:
        """Those pieces."""
        return [(*self._key, number) for number in pieces_of(self._first + start, count)]


def _first(errors: BaseExceptionGroup[SumgradError]) -> SumgradError:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _translated(error: BaseException, graph_id: str, settings: Settings) -> BaseException:
    if isinstance(error, KilledWorker):
        return _deadly(error.allowed_failures + 1, graph_id)
    if isinstance(error, MemoryError):
        return out_of_memory(settings.max_worker_bytes)
    return error


def _given_up_for(error: BaseException, losses: int, graph_id: str, *, failed: bool, submitted: bool) -> BaseException:
    """What is said of a shard that was tried so often, the last time with this error."""
    if not submitted:
        log.error("a part of graph %s could not be sent to the cluster, %d times", graph_id, losses, exc_info=error)
        return error
    if failed:
        said = f"{losses} tries of the same part of graph {graph_id} have failed on workers of the cluster, the last one with {error!r}"
        return WorkersLostError(said, graph_id=graph_id)
    return _deadly(losses, graph_id)


def _deadly(deaths: int, graph_id: str) -> WorkersLostError:
    return WorkersLostError(f"{deaths} workers died, each computing the same part of graph {graph_id}", graph_id=graph_id)


async def _let_go(future: Future) -> None:
    """Tells the cluster that nobody wants the answer any more."""
    try:
        await asyncio.shield(future.cancel())
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the connection may be gone, and the task with it
        return
