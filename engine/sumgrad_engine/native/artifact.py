"""What compiling gives: machine code and all that is needed to call it, as data that can be kept in a file."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ..blocks import BLOCK
from ..collector import paused_collector
from ..types import Array as Data
from . import Job
from .bounds import LINE_SECONDS, Deadline, check_memory
from .driver import PADDING, Driver
from .lanes import F32, PRECISIONS, Module, Precision
from .lower import Lowering
from .machine import Machine, compile_object
from .mathematics import FUNCTIONS
from .storage import LANES, Array, Geometry, Indices, Ramp, Space, Storage

TILE_BYTES = 64 * 1024
"""Room that the values of a tile should take, to stay in the nearest caches."""
CALL_OPERATIONS = 1 << 28
"""Scalar operations of one call, roughly: between calls it is looked whether the evaluation was stopped."""
MAX_CALL_BLOCKS = 64
MAX_RUNS = 32
"""Results that lie in more pieces than this are collected by a table."""


@dataclass(frozen=True)
class Slot:
    """Where a parameter lies among all parameters: first byte, NumPy type, number of elements."""

    name: str
    start: int
    dtype: str
    count: int


@dataclass(frozen=True)
class Column:
    """An input or a result: elements a sample, and their NumPy type."""

    name: str
    dtype: str
    count: int


@dataclass(frozen=True)
class Plan:
    """How to call the code: plain numbers and names."""

    parameters: tuple[Slot, ...]
    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]
    width: int
    """Sums that a call gives."""
    nbytes: dict[str, int]
    """Bytes of each space."""
    call_blocks: int
    """Blocks of one call: a power of two."""
    shares: bool
    """Whether there is something to compute that all samples share."""
    single: bool
    """Whether floats are f32."""
    lanes: int
    """Samples side by side: rows of a last block are padded to a multiple of this."""


@dataclass(frozen=True, eq=False)
class Artifact:
    """Compiled code."""

    plan: Plan
    code: bytes
    constants: npt.NDArray[np.uint8]
    tables: npt.NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """One sequence of bytes."""
        constants, tables = self.constants.tobytes(), self.tables.tobytes()
        head = json.dumps({"plan": asdict(self.plan), "lengths": [len(self.code), len(constants), len(tables)]}).encode()
        return b"".join([len(head).to_bytes(8, "little"), head, self.code, constants, tables])

    @classmethod
    def from_bytes(cls, data: bytes) -> Artifact:
        """What `to_bytes` gave."""
        start = 8 + int.from_bytes(data[:8], "little")
        head = json.loads(data[8:start])
        bounds = np.cumsum([start, *head["lengths"]]).tolist()
        code, constants, tables = (data[a:b] for a, b in itertools.pairwise(bounds))
        return cls(_plan(head["plan"]), code, np.frombuffer(constants, np.uint8), np.frombuffer(tables, np.int64))


def _plan(found: dict[str, list[dict[str, object]]]) -> Plan:
    parts = {
        "parameters": tuple(Slot(**slot) for slot in found["parameters"]),  # type: ignore[arg-type]
        "inputs": tuple(Column(**column) for column in found["inputs"]),  # type: ignore[arg-type]
        "outputs": tuple(Column(**column) for column in found["outputs"]),  # type: ignore[arg-type]
    }
    return Plan(**{**found, **parts})  # type: ignore[arg-type]


@paused_collector()
def build(job: Job, precision: Precision, machine: Machine, max_seconds: float | None = None) -> Artifact:
    """Compiles a job. Raises LimitError if it takes longer than it may."""
    deadline = Deadline(max_seconds)
    lowering = Lowering(job.graph, job.wanted, precision, rows=job.rows, tick=deadline.check)
    geometry = _geometry(lowering, machine)
    module, driver = _module(lowering, geometry, deadline)
    text = module.text()
    lines = text.count("\n")
    deadline.check(lines * LINE_SECONDS)
    check_memory(lines)
    code = compile_object(text, machine, quick=lowering.large)
    tables = np.concatenate([*lowering.storage.tables, np.zeros(1, np.int64)])
    return Artifact(_call_plan(lowering, geometry, driver), code, _constants(lowering, geometry), tables)


def _geometry(lowering: Lowering, machine: Machine) -> Geometry:
    """Sizes for a lowered graph: tiles as long as their values stay in the cache."""
    rows = tuple(int(np.prod(lowering.graph.shape(node), dtype=np.int64)) for node in lowering.inputs)
    tile = BLOCK
    while True:
        geometry = Geometry(lowering.precision, tile, dict(lowering.storage.counts), rows, machine.vector_bytes == 64)
        if tile <= PADDING or geometry.nbytes(Space.TILE) + geometry.nbytes(Space.BLOCK) <= TILE_BYTES:
            return geometry
        tile //= 2


def _module(lowering: Lowering, geometry: Geometry, deadline: Deadline) -> tuple[Module, Driver]:
    module = Module(FUNCTIONS, inline=not lowering.large)
    names: dict[str, list[str]] = {}
    for stage, steps in lowering.steps.by_name().items():
        names[stage] = [f"{stage}_{number}" for number in range(len(steps))]
        for name, step in zip(names[stage], steps, strict=True):
            deadline.check()
            step.emit(module, geometry, name)
    storage = lowering.storage
    collected = np.concatenate([*(lowering.arrays[node].index.ravel() for node in lowering.summed), np.zeros(0, np.int64)])
    row_bytes = [column.count * np.dtype(column.dtype).itemsize for column in (*_inputs(lowering), *_outputs(lowering))]
    inputs = len(lowering.inputs)
    driver = Driver(
        geometry=geometry,
        steps=names,
        accumulators=lowering.accumulators,
        zeroed=lowering.zeroed,
        collected=_runs(collected, storage),
        width=collected.size,
        input_bytes=Ramp.of(np.array(row_bytes[:inputs], np.int64), storage),
        inputs=inputs,
        output_bytes=Ramp.of(np.array(row_bytes[inputs:], np.int64), storage),
        outputs=len(row_bytes) - inputs,
    )
    driver.emit(module)
    return module, driver


def _runs(index: Indices, storage: Storage) -> list[tuple[int, Ramp, int]]:
    """Where sums are collected from: runs of neighbours, or a table of all where there are many."""
    cuts = np.flatnonzero(np.diff(index) != 1) + 1
    if not index.size or len(cuts) >= MAX_RUNS:
        return [(0, Ramp.of(index, storage), index.size)] if index.size else []
    bounds = [0, *cuts.tolist(), index.size]
    return [(start, Ramp(int(index[start]), 1), stop - start) for start, stop in itertools.pairwise(bounds)]


def numpy_type(letter: str, precision: Precision) -> np.dtype[np.generic]:
    """The NumPy type of elements of a kind."""
    return np.dtype({"f": np.float32 if precision is F32 else np.float64, "i": np.int64, "b": np.bool_}[letter])


def _inputs(lowering: Lowering) -> list[Column]:
    graph = lowering.graph
    return [_column(lowering, graph.leaves[node].name, node) for node in lowering.inputs]


def _outputs(lowering: Lowering) -> list[Column]:
    return [_column(lowering, str(node), node) for node in lowering.written]


def _column(lowering: Lowering, name: str, node: int) -> Column:
    dtype = numpy_type(lowering.graph.dtype(node).letter, lowering.precision)
    return Column(name, dtype.str, int(np.prod(lowering.graph.shape(node), dtype=np.int64)))


def _first_byte(geometry: Geometry, array: Array) -> int:
    first = int(array.index.flat[0]) if array.index.size else 0
    return geometry.start(array.space, array.letter) + first * geometry.item(array.space, array.letter)


def _call_plan(lowering: Lowering, geometry: Geometry, driver: Driver) -> Plan:
    slots = [
        Slot(
            lowering.graph.leaves[node].name,
            _first_byte(geometry, array),
            numpy_type(array.letter, lowering.precision).str,
            int(array.index.size),
        )
        for node, array in lowering.parameters
    ]
    nbytes = {space.value: geometry.nbytes(space) for space in Space if space is not Space.ROWS}
    nbytes["block"] *= geometry.tiles
    nbytes["lanes"] = lowering.accumulator_count * LANES * 8
    blocks = MAX_CALL_BLOCKS
    while blocks > 1 and blocks * BLOCK * lowering.operations > CALL_OPERATIONS:
        blocks //= 2
    return Plan(
        tuple(slots),
        tuple(_inputs(lowering)),
        tuple(_outputs(lowering)),
        driver.width,
        nbytes,
        blocks,
        bool(lowering.steps.shared),
        lowering.precision is F32,
        lowering.precision.lanes,
    )


def _constants(lowering: Lowering, geometry: Geometry) -> npt.NDArray[np.uint8]:
    buffer = np.zeros(geometry.nbytes(Space.CONSTANTS), np.uint8)
    for array, value in lowering.constants:
        _put(buffer, _first_byte(geometry, array), numpy_type(array.letter, lowering.precision), value)
    return buffer


@np.errstate(over="ignore")  # what f32 can't hold is infinite
def _put(buffer: npt.NDArray[np.uint8], start: int, dtype: np.dtype[np.generic], value: Data) -> None:
    buffer[start : start + value.size * dtype.itemsize].view(dtype)[:] = value.ravel()


__all__ = ["PRECISIONS", "Artifact", "Column", "Plan", "Slot", "build"]
