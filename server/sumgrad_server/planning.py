"""What is asked of an executor, and what all executors have in common: checking calls, cutting them into shards, and putting sums together.

What the shards are has no say in the bits, so clocks may have one in what they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sumgrad_engine.blocks import BLOCK, block_count, tree_sum
from sumgrad_engine.errors import GraphError, InputError
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.options import DEFAULT, Options
from sumgrad_engine.program import Result, check_arrays, reduced
from sumgrad_engine.types import Array, DType

from .codec import within
from .recent import Recent
from .resident import ResidentColumn, Rows
from .settings import Settings
from .tasks import Expected, Signature

SHARDS_PER_WORKER = 4
MAX_SHARD_BLOCKS = 64
OPERATION_SECONDS = 3e-10
"""What an operation of a graph takes with those of its derivatives, as long as nothing was measured: three of them at 10 GFLOP/s."""
LEAST_SECONDS, MOST_SECONDS = 0.0005, 0.008
"""How long a shard for a process of this machine should take: handing one out costs 0.2 ms, and while it runs the next request waits."""
LIGHT_SECONDS = 0.0003
"""A job that takes less is light: handing it out takes as long."""
MAX_SHARDS = 16_384
MAX_ROWS_BYTES = 1 << 28
"""Above this, shards of wide gradients grow beyond what their time says."""
KEPT_PLANS = 1024
PACE_WEIGHT = 0.3
"""Of the newest measurement in the average of how long a block takes."""


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


@dataclass(frozen=True)
class Grain:
    """How large shards may be: how long they should take, in seconds, and how many blocks they may have."""

    least_seconds: float = LEAST_SECONDS
    most_seconds: float = MOST_SECONDS
    most_blocks: int = MAX_SHARD_BLOCKS


PROCESSES = Grain()


def shard_blocks(blocks: int, workers: int, row_bytes: int = 0, block_seconds: float | None = None, grain: Grain = PROCESSES) -> int:
    """Blocks in a shard: a power of two, so that sums over shards have the bits of the sum over blocks.

    As many as leave every worker some shards, so that all end at about the same time; not so few that handing them out takes longer than they do,
    and not so many that small requests wait long for a turn.
    """
    least, most = 1.0, float(grain.most_blocks)
    if block_seconds:
        least, most = grain.least_seconds / block_seconds, grain.most_seconds / block_seconds
    size = 1
    while size < blocks and 2 * size <= most and (size < least or -(-blocks // (2 * size)) >= SHARDS_PER_WORKER * workers):
        size *= 2
    while (shards := -(-blocks // size)) > 1 and (shards > MAX_SHARDS or shards * row_bytes > MAX_ROWS_BYTES):
        size *= 2
    return size


class Paces:
    """How long blocks of some work took, and the shards that follow from it. `work` names a graph and what is done with it."""

    def __init__(self, grain: Grain = PROCESSES) -> None:
        self._grain = grain
        self._known: Recent[tuple[Any, ...], float] = Recent(KEPT_PLANS)

    def seconds(self, work: tuple[Any, ...], samples: int) -> float:
        """How long so many samples should take, for ever if that is not known."""
        if samples < BLOCK:
            return self._known.find((*work, "part")) or math.inf
        return (self._known.find(work) or math.inf) * block_count(samples)

    def shard_blocks(self, work: tuple[Any, ...], samples: int, workers: int, signature: Signature, debug: bool, row_bytes: int = 0) -> int:
        """Blocks in a shard of so many samples, for so many workers."""
        blocks = block_count(samples)
        if debug:  # one shard: which NaN is the first must not depend on who is faster
            return 1 << (blocks - 1).bit_length()
        if blocks == 1:
            return 1
        pace = self._known.find(work) or BLOCK * OPERATION_SECONDS * signature.operations
        return shard_blocks(blocks, workers, row_bytes, pace, self._grain)

    def learn(self, work: tuple[Any, ...], samples: int, seconds: float) -> None:
        """Notes how long so many samples took."""
        if samples < BLOCK:  # most of which may be what a call takes: it says nothing of blocks
            self._average((*work, "part"), seconds)
        else:
            self._average(work, seconds * BLOCK / samples)

    def _average(self, key: tuple[Any, ...], seconds: float) -> None:
        known = self._known.find(key)
        self._known.put(key, seconds if known is None else known + PACE_WEIGHT * (seconds - known))


def sample_count(settings: Settings, signature: Signature, call: AnyCall) -> int:
    """How many samples a call has, whose arrays are checked. Raises InputError, LimitError."""
    samples = _plain_count(signature, call)
    if samples is None:
        samples = check_arrays(signature.leaves, call.parameters, call.inputs if call.rows is None else _phantoms(signature, call.rows))
        if call.rows is not None:
            signature.fitting.add(call.rows.dataset)
    within(settings.max_samples, "max_samples", samples, "number of samples")
    return samples


def _plain_count(signature: Signature, call: AnyCall) -> int | None:
    """The number of samples, if all arrays are just what is expected; None leaves it to the checks that say what is wrong."""
    parameters, inputs = signature.expected
    if len(call.parameters) != len(parameters):
        return None
    for name, shape, kind in parameters:
        array = call.parameters.get(name)
        if array is None or array.shape != shape or array.dtype.kind != kind:
            return None
    if call.rows is not None:
        return call.rows.count if call.rows.dataset in signature.fitting else None
    return _sent_count(inputs, call.inputs)


def _sent_count(inputs: Sequence[Expected], sent: Mapping[str, Array]) -> int | None:
    first = sent.get(inputs[0][0]) if inputs else None
    samples = len(first) if first is not None and first.ndim else 0
    if len(sent) != len(inputs):
        return None
    for name, shape, kind in inputs:
        array = sent.get(name)
        if array is None or array.shape != (samples, *shape) or array.dtype.kind != kind:
            return None
    return samples or None


def columns_of(signature: Signature, rows: Rows) -> list[tuple[str, ResidentColumn]]:
    """The columns that a graph reads, in the order of its inputs. They are there: `sample_count` has looked."""
    return [(leaf.name, rows.dataset.columns[leaf.name]) for leaf in signature.leaves.inputs]


def _phantoms(signature: Signature, rows: Rows) -> dict[str, Array]:
    """Arrays of the types and shapes of the rows that a graph asks for, without memory."""
    columns = rows.dataset.columns
    for leaf in signature.leaves.inputs:
        if leaf.name not in columns:
            said = f"the dataset has no column {leaf.name[:80]!r}, which is an input of the graph; it has {sorted(columns)[:20]}"
            raise InputError(said, field=f"dataset.{leaf.name[:80]}")
    return {name: np.broadcast_to(np.empty((), column.dtype), (rows.count, *column.shape)) for name, column in columns_of(signature, rows)}


def objective_layout(signature: Signature, wrt: Sequence[str] | None) -> Layout:
    """The layout of partial results for these parameters (None: all). Raises GraphError, InputError."""
    if isinstance(signature.objective, GraphError):
        raise signature.objective
    layout, known = signature.objective, {name for name, _ in signature.objective.grads}
    for name in wrt or ():
        if name not in known:
            raise InputError(f"wrt names {name[:80]!r}, which is no parameter of the graph", field=f"wrt.{name[:80]}")
    return Layout(layout.metrics, tuple(entry for entry in layout.grads if not wrt or entry[0] in wrt))


def numpy_type(dtype: DType, options: Options) -> np.dtype[Any]:
    """In what the samples of a kind of element are computed."""
    return np.dtype(np.float32) if dtype is DType.FLOAT and options.precision == "f32" else dtype.numpy


def combined(rows: Array, shards: int, samples: int, call: GradientCall) -> tuple[Vector, Vector | None]:
    """The sum over samples, and the penalty if it is wanted apart."""
    penalty = rows[shards] if len(rows) > shards else None
    total = rows[0].copy() if shards == 1 else tree_sum(list(rows[:shards]))
    if call.apart:
        return total, None if penalty is None else penalty.copy()
    return reduced(total, penalty, samples, call.mean), None
