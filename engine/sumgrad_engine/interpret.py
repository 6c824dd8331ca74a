"""The reference evaluator: NumPy over a block of samples, node by node. The oracle of the tests, and the debugging mode.

A `Plan` holds what can be known before data comes: which nodes are the same for all samples, where operands need axes put in so that samples line
up, and after which step a value is not needed any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .debug import NonFinite
from .errors import InputError
from .ir import Graph
from .ops import Op
from .ops.contraction import align
from .types import Array, Attributes, Leaf

Values = dict[int, Array]


@dataclass(frozen=True, slots=True)
class Step:
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
        steps = _steps(graph, self.wanted)
        after_samples = _after_samples(graph)
        self.shared_steps = [step for step in steps if not graph.per_sample[step.node] and not after_samples[step.node]]
        self.sample_steps = _forgetting(
            [step for step in steps if graph.per_sample[step.node] or after_samples[step.node]], self.wanted, graph
        )

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


def _steps(graph: Graph, wanted: Sequence[int]) -> list[Step]:
    """The steps that the wanted nodes need, in order."""
    needed = [False] * graph.node_count
    rows = list(graph.rows())
    for node in wanted:
        needed[node] = True
    for node, _, operands, _ in reversed(rows):
        if needed[node]:
            for operand in operands:
                needed[operand] = True
    return [_step(graph, *row) for row in rows if needed[row[0]] and row[1].kinds]


def _step(graph: Graph, node: int, op: Op, operands: tuple[int, ...], attributes: Attributes) -> Step:
    leads = tuple(int(graph.per_sample[k]) for k in operands)
    ranks = [len(graph.types[k].shape) for k in operands]
    rank = max(ranks)
    uneven = op.elementwise and any(lead and r < rank for lead, r in zip(leads, ranks, strict=True))
    return Step(node, op, operands, leads, attributes, rank if uneven else None, ())


def _after_samples(graph: Graph) -> list[bool]:
    """Marks nodes that need a sum over samples: shared by all samples of a block, but known only after them."""
    after = [False] * graph.node_count
    for node, op, operands, _ in graph.rows():
        after[node] = op.over_samples or any(after[k] for k in operands)
    return after


def _forgetting(steps: Sequence[Step], wanted: Sequence[int], graph: Graph) -> list[Step]:
    """The steps, each forgetting the values that it was the last to need."""
    own = {step.node for step in steps} | {node for node in graph.leaves if graph.per_sample[node]}
    last: dict[int, int] = {}
    for index, step in enumerate(steps):
        last.update((k, index) for k in step.operands if k in own)
    ends: dict[int, list[int]] = {}
    for node, index in last.items():
        if node not in wanted:
            ends.setdefault(index, []).append(node)
    return [Step(s.node, s.op, s.operands, s.leads, s.attributes, s.aligned, tuple(ends.get(i, ()))) for i, s in enumerate(steps)]


def conform(leaf: Leaf, array: Any) -> Array:
    """An array in the evaluator's type for a leaf, row-major. Raises InputError where that would lose something."""
    found = np.asarray(array)
    if not np.can_cast(found.dtype, leaf.dtype.numpy, "same_kind") or (leaf.dtype.name == "FLOAT" and found.dtype.kind not in "fiub"):
        raise InputError(f"{leaf.name} must hold {leaf.dtype.plural}, not {found.dtype}", field=leaf.name)
    return np.ascontiguousarray(found, leaf.dtype.numpy).reshape(found.shape)
