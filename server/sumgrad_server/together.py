"""Several small sums of one graph at the same parameters in one trip to a worker: the trip takes longer than they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sumgrad_engine.blocks import block_count
from sumgrad_engine.layout import Layout
from sumgrad_engine.types import Array, DType

from .planning import GradientCall, columns_of, numpy_type, objective_layout
from .tasks import Column, Gradient, Gradients, Inputs, Packer, Signature, Slot, pickled


@dataclass(frozen=True, eq=False)
class TogetherPlan:
    """Where the arrays of several calls lie: the parameters once, then the inputs or the indices of rows of each, then their rows of sums."""

    task: bytes
    nbytes: int
    parameters: tuple[Slot, ...]
    inputs: tuple[Inputs, ...]
    rows: tuple[Slot, ...]
    layout: Layout

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """All of them, in order."""
        return (*self.parameters, *(slot for inputs in self.inputs for slot in given_slots(inputs)), *self.rows)

    @np.errstate(over="ignore")  # what f32 can't hold is infinite
    def write(self, calls: Sequence[GradientCall], views: list[Array]) -> None:
        """Copies the arrays of the calls to their places."""
        given: list[Array] = [calls[0].parameters[slot.name] for slot in self.parameters]
        for call, inputs in zip(calls, self.inputs, strict=True):
            given += [_indices(call)] if call.rows is not None else [call.inputs[slot.name] for slot in inputs.slots]
        for view, array in zip(views, given, strict=False):
            np.copyto(view, array, casting="same_kind")


def given_slots(inputs: Inputs) -> tuple[Slot, ...]:
    """Those of inputs that a call brings."""
    return inputs.slots if inputs.indices is None else (inputs.indices,)


def together_plan(signature: Signature, calls: Sequence[GradientCall], samples: Sequence[int]) -> TogetherPlan:
    """The plan of calls of so many samples each."""
    layout, packer, options = objective_layout(signature, None), Packer(), calls[0].options
    parameters = tuple(packer.slot(leaf.name, leaf.shape, leaf.dtype.numpy) for leaf in signature.leaves.parameters)
    inputs = tuple(_inputs(packer, signature, call, count) for call, count in zip(calls, samples, strict=True))
    rows = tuple(packer.slot("rows", (1 + signature.has_penalty, layout.width), DType.FLOAT.numpy) for _ in calls)
    parts = [
        Gradient(None, options, count, block_count(count), 1, parameters, given, row)
        for count, given, row in zip(samples, inputs, rows, strict=True)
    ]
    return TogetherPlan(pickled(Gradients(tuple(parts))), packer.nbytes, parameters, inputs, rows, layout)


def _inputs(packer: Packer, signature: Signature, call: GradientCall, samples: int) -> Inputs:
    """Rows are always given by indices here: the job's header has room for one range alone."""
    leaves, rows = signature.leaves.inputs, call.rows
    if rows is None:
        return Inputs(tuple(packer.slot(leaf.name, (samples, *leaf.shape), numpy_type(leaf.dtype, call.options)) for leaf in leaves))
    total = rows.dataset.sample_count
    columns = [Column(name, column.file.id, (total, *column.shape), column.dtype.str) for name, column in columns_of(signature, rows)]
    return Inputs((), tuple(columns), packer.slot("indices", (samples,), np.dtype(np.int64)))


def _indices(call: GradientCall) -> Array:
    rows = call.rows
    assert rows is not None
    return np.arange(rows.first, rows.first + rows.count) if rows.indices is None else rows.indices


def same_parameters(calls: Sequence[GradientCall]) -> bool:
    """Whether calls are at the same arrays, and wish for the same: then they may go together."""
    first = calls[0]
    return all(call.options == first.options and _same(call.parameters, first.parameters) for call in calls)


def _same(some: Mapping[str, Array], others: Mapping[str, Array]) -> bool:
    return some is others or (some.keys() == others.keys() and all(some[name] is others[name] for name in some))
