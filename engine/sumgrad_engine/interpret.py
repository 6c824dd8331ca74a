"""The reference evaluator: NumPy over a block of samples, node by node. The oracle of the tests, and the debugging mode.

A `Plan` holds what can be known before data comes: which nodes are the same for all samples, where operands need axes put in so that samples line
up, and after which step a value is not needed any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .debug import NonFinite
from .errors import InputError, LimitError
from .ir import Graph, Row
from .ops import Op
from .ops.contraction import align
from .ops.movement import VIEWS
from .options import Precision
from .shapes import size
from .types import Array, Attributes, DType, Leaf

Values = dict[int, Array]


class Step(NamedTuple):
    """One node's work: what to compute from which values, and which values to forget afterwards."""

    node: int
    op: Op
    operands: tuple[int, ...]
    leads: tuple[int, ...]
    attributes: Attributes
    aligned: int | None
    """Rank to which per-sample operands are aligned, if any needs it."""
    forget: tuple[int, ...]


class Plan:
    """How to evaluate some nodes of a graph."""

    def __init__(self, graph: Graph, wanted: Iterable[int]) -> None:
        self.graph = graph
        self.wanted = tuple(wanted)
        self._peaks: dict[int, tuple[int, int]] = {}
        self.shared_steps, self.sample_steps = _steps(graph, self.wanted)

    def shared(self, parameters: Mapping[str, Array], debug: bool = False) -> Values:
        """The values that are the same for all samples, computed once."""
        values: Values = dict(self.graph.constants)
        for node, leaf in self.graph.leaves.items():
            if leaf.name in parameters and not self.graph.per_sample[node]:
                values[node] = parameters[leaf.name]
        self._run(self.shared_steps, values, 0, 1, debug)
        return values

    def block(self, shared: Values, inputs: Mapping[str, Array], first: int, debug: bool = False) -> dict[int, Array]:
        """The wanted nodes for one block: inputs have a leading axis of the block's samples, of which the first has index `first`.

        Without inputs it is one sample.
        """
        values = dict(shared)
        samples = 1
        for node, leaf in self.graph.leaves.items():
            if leaf.name in inputs:
                values[node] = inputs[leaf.name]
                samples = len(inputs[leaf.name])
        self._run(self.sample_steps, values, first, samples, debug)
        return {node: values[node] for node in self.wanted}

    def peak(self, samples: int) -> tuple[int, int]:
        """An estimate from below of the bytes that values of a block of so many samples take at most at a time, and the node that is made then."""
        live, most, at = 0, 0, 0
        for step in (*self.shared_steps, *self.sample_steps):
            live += self._bytes(step.node, step.op, samples)
            if live > most:
                most, at = live, step.node
            live -= sum(self._bytes(node, self.graph.op(node), samples) for node in step.forget)
        return most, at

    def check_memory(self, samples: int, limit: str, allowed: int) -> None:
        """Raises LimitError that names the node if a block of so many samples certainly takes more bytes than allowed."""
        if samples not in self._peaks:
            self._peaks[samples] = self.peak(samples)
        value, node = self._peaks[samples]
        if value > allowed:
            place = self.graph.describe(node)
            raise LimitError(
                f"with {self.graph.op(node).name} of shape {self.graph.shape(node)} (node {node}{', made at ' + place if place else ''}) a block of "
                f"{samples} samples takes at least {value:,} bytes, more than {limit} = {allowed:,}: cut the expression or its arrays",
                limit=limit,
                value=value,
                allowed=allowed,
            )

    def _bytes(self, node: int, op: Op, samples: int) -> int:
        """What a value takes: 8 bytes an element, nothing where it is a view of another."""
        if op in VIEWS or not op.kinds:
            return 0
        return 8 * size(self.graph.types[node].shape) * (samples if self.graph.per_sample[node] else 1)

    def _run(self, steps: Sequence[Step], values: Values, first: int, samples: int, debug: bool) -> None:
        check = NonFinite(self.graph, first) if debug else None
        if check:
            check.leaves(values)
        with np.errstate(all="ignore"):
            for step in steps:
                arrays = [values[k] for k in step.operands]
                try:
                    values[step.node] = _compute(step, arrays, samples)
                except InputError as error:
                    raise _placed(error, self.graph, step.node, first) from None
                if check:
                    check.step(step.node, arrays, step.leads, values[step.node])
                for node in step.forget:
                    del values[node]


def _compute(step: Step, arrays: list[Array], samples: int) -> Array:
    op, leads = step.op, step.leads
    if op.elementwise:
        if step.aligned is not None:
            arrays = [align(array, lead, step.aligned) for array, lead in zip(arrays, leads, strict=True)]
        return np.asarray(op.forward(*arrays, **step.attributes))
    if op.over_samples:
        arrays = [a if lead else np.broadcast_to(a, (samples, *a.shape)) for a, lead in zip(arrays, leads, strict=True)]
        leads = (1,) * len(leads)
    return np.asarray(op.forward(arrays, leads, step.attributes))


def _placed(error: InputError, graph: Graph, node: int, first: int) -> InputError:
    """The error of a block with the node, its source line, and the sample's index among all samples."""
    sample = None if error.sample is None else first + error.sample
    place = graph.describe(node)
    known = [f"sample {sample}" if sample is not None else "", f"node {node}", f"made at {place}" if place else ""]
    return InputError(f"{error.message} ({', '.join(part for part in known if part)})", field=error.field, sample=sample)


def _steps(graph: Graph, wanted: Sequence[int]) -> tuple[list[Step], list[Step]]:
    """The steps that the wanted nodes need, in order: those that are the same for all blocks, and those of each block."""
    rows = needed_rows(graph, wanted)
    marks = per_block(graph)
    forget = _forgettable(rows, marks, wanted)
    per_sample = graph.per_sample.astype(int).tolist()
    shared: list[Step] = []
    block: list[Step] = []
    for node, op, operands, attributes in rows:
        leads = tuple([per_sample[k] for k in operands])
        aligned = _aligned(graph, operands, leads) if op.elementwise and len(operands) > 1 else None
        step = Step(node, op, operands, leads, attributes, aligned, forget.get(node, ()))
        (block if marks[node] else shared).append(step)
    return shared, block


def needed_rows(graph: Graph, wanted: Sequence[int]) -> list[Row]:
    """The rows of inner nodes that the wanted nodes are computed from."""
    needed = [False] * graph.node_count
    rows = list(graph.rows())
    for node in wanted:
        needed[node] = True
    for node, _, operands, _ in reversed(rows):
        if needed[node]:
            for operand in operands:
                needed[operand] = True
    return [row for row in rows if needed[row[0]] and row[1].kinds]


def per_block(graph: Graph) -> list[bool]:
    """Marks nodes that differ from block to block: those that differ from sample to sample, and what sums over samples lead to."""
    marks: list[bool] = graph.per_sample.tolist()
    for node, op, operands, _ in graph.rows():
        if op.over_samples:
            marks[node] = True
        elif not marks[node]:
            for operand in operands:
                if marks[operand]:
                    marks[node] = True
    return marks


def _aligned(graph: Graph, operands: tuple[int, ...], leads: tuple[int, ...]) -> int | None:
    """The rank to which an elementwise op's per-sample operands are aligned, if one of them is short of it."""
    ranks = [len(graph.types[k].shape) for k in operands]
    rank = max(ranks)
    return rank if any(lead and r < rank for lead, r in zip(leads, ranks, strict=True)) else None


def _forgettable(rows: Sequence[Row], marks: Sequence[bool], wanted: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """For each node the values of the block that nothing after it needs."""
    last: dict[int, int] = {}
    for node, _, operands, _ in rows:
        if marks[node]:
            for operand in operands:
                last[operand] = node
    forget: dict[int, tuple[int, ...]] = {}
    kept = set(wanted)
    for operand, node in last.items():
        if marks[operand] and operand not in kept:
            forget[node] = (*forget.get(node, ()), operand)
    return forget


@np.errstate(over="ignore")  # what f32 can't hold is infinite
def conform(leaf: Leaf, array: Any, precision: Precision = "f64") -> Array:
    """An array in the evaluator's type for a leaf, row-major. Raises InputError where that would lose more than the precision of floats."""
    found = np.asarray(array)
    if not np.can_cast(found.dtype, leaf.dtype.numpy, "same_kind") or (leaf.dtype.name == "FLOAT" and found.dtype.kind not in "fiub"):
        raise InputError(f"{leaf.name} must hold {leaf.dtype.plural}, not {found.dtype}", field=leaf.name)
    wanted = np.dtype(np.float32) if precision == "f32" and leaf.dtype is DType.FLOAT else leaf.dtype.numpy
    return np.ascontiguousarray(found, wanted).reshape(found.shape)
