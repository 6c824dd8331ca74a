"""What the front tells a worker: the kinds of work, where in an arena its data lies, and the messages on the channel.

An arena of a job is: a header (the cancel flag, and the first row of a dataset that is wanted) | parameters | inputs, or indices of rows | results |
the pickled task. Arrays start at multiples of 64 bytes. Every shard has its own place in the results, so workers never write to the same bytes, and
a shard that is done again writes the same values to the same place. The tasks of requests that differ in nothing but numbers are the same bytes, so
that a worker need not read them again.
"""

from __future__ import annotations

import math
import pickle
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from sumgrad_engine.errors import GraphError
from sumgrad_engine.ir import Graph
from sumgrad_engine.layout import Layout
from sumgrad_engine.options import Options
from sumgrad_engine.types import Array, Leaf, Shape, Type

from .resident import ResidentDataset
from .settings import Settings

HEADER = 64
ALIGNMENT = 64
STARVED = 77
"""Exit code of a worker whose memory did not even suffice to say so."""
CANCEL_FLAG = 0
FIRST_ROW, FIRST_ROW_OFFSET = struct.Struct("=q"), 8
"""How and where the header says which row of a dataset is the first."""

Memory: TypeAlias = npt.NDArray[np.uint8]
Expected: TypeAlias = tuple[str, Shape, str]


@dataclass(frozen=True)
class Slot:
    """An array in an arena, row-major, in the machine's byte order."""

    name: str
    offset: int
    shape: Shape
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def view(self, memory: Memory) -> Array:
        """The array itself: writing to it writes to the arena."""
        return memory[self.offset : self.offset + self.nbytes].view(self.dtype).reshape(self.shape)


class Packer:
    """Lays out slots one after the other."""

    def __init__(self) -> None:
        self.nbytes = HEADER

    def slot(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Slot:
        """The next slot."""
        slot = Slot(name, self.nbytes, shape, dtype.str)
        self.nbytes += -(-slot.nbytes // ALIGNMENT) * ALIGNMENT
        return slot


@dataclass(frozen=True)
class Describe:
    """Check a graph and say what it takes and gives: a Signature. One shard."""


@dataclass(frozen=True)
class Backward:
    """Data and gradient of every node of a graph without samples. One shard, which answers with an arena of its own."""


@dataclass(frozen=True)
class Column:
    """An array of a dataset, in a segment of its own."""

    name: str
    segment: int
    shape: Shape
    dtype: str

    def view(self, memory: Memory) -> Array:
        """The array itself."""
        return memory.view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Inputs:
    """Where samples come from: arrays in the job's arena, or rows of a dataset, from the header's first row on or by these indices."""

    slots: tuple[Slot, ...] = ()
    columns: tuple[Column, ...] = ()
    indices: Slot | None = None


@dataclass(frozen=True)
class Gradient:
    """Partial sums of loss, gradient and metrics: row k of `rows` is that of shard k, and the last row the penalty's if there is one."""

    wrt: tuple[str, ...] | None
    options: Options
    samples: int
    shard_blocks: int
    data_shards: int
    parameters: tuple[Slot, ...]
    inputs: Inputs
    rows: Slot


@dataclass(frozen=True)
class Gradients:
    """Several sums of one shard each, one after the other."""

    parts: tuple[Gradient, ...]


@dataclass(frozen=True)
class Penalty:
    """Value and gradient of the penalty alone, laid out as a partial sum."""

    options: Options
    parameters: tuple[Slot, ...]
    row: Slot


@dataclass(frozen=True)
class Evaluate:
    """Outputs for each sample: shard k writes those of its samples."""

    options: Options
    samples: int
    shard_blocks: int
    parameters: tuple[Slot, ...]
    inputs: Inputs
    columns: tuple[Slot, ...]


Task: TypeAlias = Describe | Backward | Gradient | Gradients | Penalty | Evaluate


def pickled(task: Task) -> bytes:
    """A task as a worker reads it."""
    return pickle.dumps(task, pickle.HIGHEST_PROTOCOL)


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives."""

    node_count: int
    leaves: Graph
    """The inputs and parameters alone: what arrays are checked against."""
    outputs: tuple[tuple[str, Type], ...]
    objective: Layout | GraphError
    """How partial results of the gradient lie, for all parameters; or why the graph is no objective."""
    operations: int = 0
    """Roughly what the outputs of one sample take."""

    @property
    def width(self) -> int:
        """Numbers in a partial result, for all parameters."""
        return 0 if isinstance(self.objective, GraphError) else self.objective.width

    @cached_property
    def fitting(self) -> WeakSet[ResidentDataset]:
        """Datasets that were found to have the columns that the graph reads."""
        return WeakSet()

    @cached_property
    def expected(self) -> tuple[list[Expected], list[Expected]]:
        """Name, shape and kind of every parameter, and of every input's samples."""
        return [_expected(leaf) for leaf in self.leaves.parameters], [_expected(leaf) for leaf in self.leaves.inputs]

    @cached_property
    def has_penalty(self) -> bool:
        """Whether there is a penalty, once for all samples."""
        return any(name == "penalty" for name, _ in self.outputs)


def _expected(leaf: Leaf) -> Expected:
    return leaf.name, leaf.shape, leaf.dtype.numpy.kind


@dataclass(frozen=True)
class GraphRef:
    """A graph in shared memory: its canonical bytes, followed by those of its source map."""

    id: str
    segment: int
    graph_bytes: int
    source_bytes: int

    def split(self, memory: Memory) -> tuple[bytes, bytes]:
        """Copies of the graph's bytes and of the source map's."""
        end = self.graph_bytes + self.source_bytes
        return memory[: self.graph_bytes].tobytes(), memory[self.graph_bytes : end].tobytes()


@dataclass(frozen=True)
class Hello:
    """To a worker, first of all. Comes with the descriptor of its pulse: a counter in shared memory that shows that it lives."""

    settings: Settings


@dataclass(frozen=True)
class Ready:
    """From a worker: it can take work."""


class Map(NamedTuple):
    """A segment of shared memory: an arena, a graph, a column of a dataset. With `data` it is these bytes, and no descriptor comes."""

    segment: int
    nbytes: int
    writable: bool
    data: bytes | None


class Segments(NamedTuple):
    """To a worker: map these segments, whose descriptors come along, and give up those that are no more."""

    maps: tuple[Map, ...]
    forget: tuple[int, ...]


class Run(NamedTuple):
    """To a worker: do this shard."""

    job: int
    shard: int
    arena: int
    task_offset: int
    task_bytes: int
    graph: GraphRef


class Cost(NamedTuple):
    """What a shard took, in seconds: preparing its program (0 if that was at hand), and computing."""

    prepare: float
    compute: float


class Done(NamedTuple):
    """From a worker: the shard is done. `value` is what does not lie in the arena; a descriptor may come along."""

    job: int
    shard: int
    value: Any
    cost: Cost


@dataclass(frozen=True)
class Failed:
    """From a worker: the shard raised this; `traceback` is for the log where the error is none of sumgrad's."""

    job: int
    shard: int
    error: Exception
    traceback: str | None = None
