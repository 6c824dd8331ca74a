"""What Dask's workers run: a shard of a sum, of outputs, a graph's description. They need sumgrad, of the server's version, and no other setup.

A program is prepared once a process and graph. A shard whose result nobody wants any more stops between blocks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
from distributed import get_worker
from distributed.worker import thread_state
from sumgrad_engine.blocks import block_count
from sumgrad_engine.ir import Graph
from sumgrad_engine.options import Options
from sumgrad_engine.program import EvaluateProgram, GradientProgram, backward_all
from sumgrad_engine.types import Array

from ..codec import parse_graph
from ..faults import WrongVersionError
from ..recent import Recent
from ..samples import Samples, summed
from ..settings import Settings
from ..tasks import Signature
from ..worker import signature_of

Program = TypeVar("Program")
VERSION = version("sumgrad")
KEPT_PROGRAMS = 32

_programs: Recent[tuple[Any, ...], Any] = Recent(KEPT_PROGRAMS)
_one_at_a_time = threading.Lock()  # compiled code has memory of its own that two threads must not share


@dataclass(frozen=True, eq=False)
class GraphBytes:
    """A graph as it goes to workers, and whose it is: a worker of another version would give other bits."""

    id: str
    graph: bytes
    sources: bytes
    settings: Settings
    version: str = VERSION

    def read(self) -> Graph:
        """The graph. Raises WrongVersionError, and what a graph may be refused for."""
        if self.version != VERSION:
            raise WrongVersionError(f"the server has sumgrad {self.version}, a worker of the cluster {VERSION}: give both the same")
        return parse_graph(self.graph, self.sources, self.settings)


@dataclass(frozen=True, eq=False)
class Row:
    """The partial sum of a shard; that of the penalty, if it was asked for; what evaluated it, and how long it took."""

    sums: Array
    penalty: Array | None
    evaluator: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs of a shard's samples."""

    arrays: Mapping[str, Array]
    evaluator: str
    seconds: float


def describe(graph: GraphBytes) -> Signature:
    """What a graph takes and gives."""
    return signature_of(graph.read())


def backward(graph: GraphBytes) -> tuple[bytes, bytes]:
    """Data and gradients of every node."""
    data, gradients = backward_all(graph.read())
    return data.tobytes(), gradients.tobytes()


def penalty(graph: GraphBytes, options: Options, parameters: Mapping[str, Array]) -> Array:
    """Value and gradient of the penalty, laid out as a partial sum."""
    with _one_at_a_time:
        return _program(GradientProgram, graph, None, options).penalty(parameters)


def row(
    graph: GraphBytes,
    wrt: tuple[str, ...] | None,
    options: Options,
    parameters: Mapping[str, Array],
    pieces: Sequence[Mapping[str, Array]],
    start: int,
    count: int,
    *,
    with_penalty: bool,
) -> Row:
    """The sum over `count` samples, which begin at row `start` of some pieces of a dataset, or of arrays, that lie one after the other."""
    with _one_at_a_time:
        program = _program(GradientProgram, graph, wrt, options)
        program.check_memory(count, "max_worker_bytes", graph.settings.max_worker_bytes)
        began = time.perf_counter()
        samples = Samples(_taken(pieces, start, count))
        sums = summed(program, parameters, samples, 0, block_count(count), count, _unwanted())
        extra = program.penalty(parameters) if with_penalty and program.has_penalty else None
        return Row(sums, extra, program.evaluator, time.perf_counter() - began)


def outputs(
    graph: GraphBytes,
    options: Options,
    parameters: Mapping[str, Array],
    pieces: Sequence[Mapping[str, Array]],
    start: int,
    count: int,
) -> Outputs:
    """The outputs of `count` samples, which are as in `row`."""
    with _one_at_a_time:
        program = _program(EvaluateProgram, graph, options)
        program.check_memory(count, "max_worker_bytes", graph.settings.max_worker_bytes)
        began, found = time.perf_counter(), []
        for first, last, arrays, offset in Samples(_taken(pieces, start, count)).pieces(program, 0, count):
            found.append(program.run(parameters, arrays, first - offset, last - offset, _unwanted(), offset))
        arrays = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        return Outputs(arrays, program.evaluator, time.perf_counter() - began)


def _taken(pieces: Sequence[Mapping[str, Array]], start: int, count: int) -> dict[str, Array]:
    names = pieces[0]
    if len(pieces) == 1:
        return {name: pieces[0][name][start : start + count] for name in names}
    return {name: np.concatenate([piece[name] for piece in pieces])[start : start + count] for name in names}


def _program(kind: Callable[..., Program], graph: GraphBytes, *options: Any) -> Program:
    program: Program = _programs.get((graph.id, kind, *options), lambda: kind(graph.read(), *options))
    return program


def _unwanted() -> Callable[[], bool]:
    """Tells whether nobody wants the task of this thread any more: its request was cancelled, or another worker has it."""
    tasks, key = get_worker().state.tasks, thread_state.key
    return lambda: (task := tasks.get(key)) is None or task.state == "cancelled"
