"""Reductions, matrix products, and sums over samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..shapes import broadcast, kept, reduced
from ..types import Array, Attributes, DType, Shape, Type
from .arithmetic import absolute, cast_float, equal, not_equal, where
from .fold import fold, product
from .movement import Arrays, Leads, Types, broadcast_to, distinct_axes, reshape, transpose
from .record import Op, shape_of
from .transcendental import exp

# Sums of outer products over samples are made in one go up to this many elements a sample, one by one above it.
_OUTER_ELEMENTS = 4096


def align(array: Array, lead: int, rank: int) -> Array:
    """The array with per-sample rank `rank`: axes of extent 1 are put in after the sample axis."""
    missing = rank - (array.ndim - lead)
    return array.reshape(array.shape[:lead] + (1,) * missing + array.shape[lead:]) if lead and missing else array


def _reduced_type(types: Types, attributes: Attributes) -> Type:
    shape, axes = types[0].shape, attributes["axes"]
    distinct_axes(axes, len(shape), "reduction")
    return Type(reduced(shape, axes), DType.FLOAT)


def _max_type(types: Types, attributes: Attributes) -> Type:
    of = _reduced_type(types, attributes)
    if any(types[0].shape[axis] == 0 for axis in attributes["axes"]):
        raise ShapeError(f"max of no elements: {types[0].shape} has an empty axis")
    return of


def _axes(attributes: Attributes, lead: int) -> tuple[int, ...]:
    return tuple(axis + lead for axis in attributes["axes"])


def _sum_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    array = arrays[0]
    for axis in sorted(_axes(attributes, leads[0]), reverse=True):
        array = fold(array, axis)
    return array


def _max_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    return np.asarray(np.max(arrays[0], axis=_axes(attributes, leads[0])))


def _logsumexp_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    array, axes = arrays[0], _axes(attributes, leads[0])
    largest = np.max(array, axis=axes, keepdims=True, initial=-np.inf)
    # Infinite maxima would give inf - inf; without a shift they come out right.
    shift = np.where(np.isfinite(largest), largest, 0.0)
    total = _sum_forward([np.exp(array - shift)], leads, attributes)
    return np.asarray(np.log(total) + shift.reshape(total.shape))


def _keep(x: Any, a: Any, axes: Shape) -> Any:
    """A reduced array with its lost axes back at extent 1."""
    return reshape(x, shape=kept(shape_of(a), axes))


def _spread(g: Any, a: Any, axes: Shape) -> Any:
    """The cotangent of a reduction repeated to its operand's shape."""
    return broadcast_to(_keep(g, a, axes), shape=shape_of(a))


def _max_rule(g: Any, y: Any, a: Any, axes: Shape) -> Any:
    """All elements that equal the maximum share g equally."""
    largest = equal(a, _keep(y, a, axes))
    ties = sum_(cast_float(largest), axes=axes)
    return where(largest, _keep(g / ties, a, axes), 0.0)


sum_: Op = Op(
    name="sum",
    number=103,
    doc="the sum over axes, in a fixed order",
    kinds="f",
    infer=_reduced_type,
    forward=_sum_forward,
    derivatives=(lambda g, y, a, axes: _spread(g, a, axes),),
    attributes=("axes",),
    elementwise=False,
    accuracy="pairwise",
)
max_: Op = Op(
    name="max",
    number=104,
    doc="the largest over axes; NaN if any is NaN; the derivative is shared at a tie",
    kinds="f",
    infer=_max_type,
    forward=_max_forward,
    derivatives=(_max_rule,),
    attributes=("axes",),
    elementwise=False,
    spread=_spread,
    accuracy="exact",
)
logsumexp: Op = Op(
    name="logsumexp",
    number=105,
    doc="log of the sum of exponentials over axes, without overflow",
    kinds="f",
    infer=_reduced_type,
    forward=_logsumexp_forward,
    derivatives=(lambda g, y, a, axes: _keep(g, a, axes) * exp(a - _keep(y, a, axes)),),
    attributes=("axes",),
    elementwise=False,
    spread=_spread,
    accuracy="3 ulp of the largest term",
)


def _matmul_type(types: Types, attributes: Attributes) -> Type:
    a, b = types[0].shape, types[1].shape
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ShapeError(f"matmul: {a} @ {b} do not fit: the last axis of the first must equal the last but one of the second")
    return Type((*broadcast(a[:-2], b[:-2]), a[-2], b[-1]), DType.FLOAT)


def _matmul_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    rank = max(array.ndim - lead for array, lead in zip(arrays, leads, strict=True))
    a, b = (align(array, lead, rank) for array, lead in zip(arrays, leads, strict=True))
    return product(a, b)


def _swap(x: Any) -> Any:
    """The matrix (or stack of them) with its last two axes exchanged."""
    rank = len(shape_of(x))
    return transpose(x, axes=(*range(rank - 2), rank - 1, rank - 2))


def _any(g: Any, axis: int) -> Any:
    """Whether any element along an axis is not 0, with the axis kept at extent 1."""
    axes = (axis,)
    return _keep(not_equal(sum_(cast_float(not_equal(absolute(g), 0.0)), axes=axes), 0.0), g, axes)


def _matmul_guard(g: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Rows of a and columns of b whose products g masks out entirely, replaced by 0."""
    rank = len(shape_of(g))
    return where(_any(g, rank - 1), a, 0.0), where(_any(g, rank - 2), b, 0.0)


matmul: Op = Op(
    name="matmul",
    number=106,
    doc="a @ b of matrices, or stacks of them",
    kinds="ff",
    infer=_matmul_type,
    forward=_matmul_forward,
    derivatives=(lambda g, y, a, b: matmul(g, _swap(b)), lambda g, y, a, b: matmul(_swap(a), g)),
    elementwise=False,
    guard=_matmul_guard,
    accuracy="k ulp of the sum of absolute terms",
    python="@",
)


def _sum_samples_type(types: Types, attributes: Attributes) -> Type:
    return types[0]


def _matmul_samples_type(types: Types, attributes: Attributes) -> Type:
    if any(len(t.shape) != 2 for t in types):
        raise ShapeError(f"matmul_samples takes two matrices, not {types[0].shape} and {types[1].shape}")
    return _matmul_type(types, attributes)


def _matmul_samples_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    a, b = arrays
    if a.shape[1] * b.shape[2] <= _OUTER_ELEMENTS:
        return fold(product(a, b), 0)
    # The sum over samples and over k is one long product: (m, samples k) @ (samples k, n).
    long = a.transpose(1, 0, 2).reshape(a.shape[1], -1)
    return product(long, b.reshape(-1, b.shape[2]))


sum_samples: Op = Op(
    name="sum_samples",
    number=120,
    doc="the sum over the samples",
    kinds="f",
    infer=_sum_samples_type,
    forward=lambda arrays, leads, attributes: fold(arrays[0], 0),
    derivatives=(lambda g, y, a: g,),
    elementwise=False,
    over_samples=True,
    accuracy="pairwise",
)
matmul_samples: Op = Op(
    name="matmul_samples",
    number=121,
    doc="the sum over the samples of a @ b, of matrices",
    kinds="ff",
    infer=_matmul_samples_type,
    forward=_matmul_samples_forward,
    derivatives=(lambda g, y, a, b: matmul(g, _swap(b)), lambda g, y, a, b: matmul(_swap(a), g)),
    elementwise=False,
    over_samples=True,
    guard=_matmul_guard,
    accuracy="k ulp of the sum of absolute terms",
)

OPS = (sum_, max_, logsumexp, matmul, sum_samples, matmul_samples)
