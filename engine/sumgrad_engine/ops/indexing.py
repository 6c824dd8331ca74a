"""Choosing by integers: take, its transpose, and one_hot.

Indices are data: one that is out of range is an InputError that names the sample, never a wrapped or clamped access.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError, ShapeError
from ..shapes import size
from ..types import Array, Attributes, DType, Shape, Type
from .movement import Arrays, Leads, Types
from .record import Op, shape_of


def _checked(index: Array, extent: int, lead: int, op: str) -> Array:
    wrong = (index < 0) | (index >= extent)
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        raise InputError(
            f"{op}: index {index[place]} is out of range: it must lie in 0..{extent - 1}",
            field=f"indices of {op}",
            sample=int(place[0]) if lead else None,
        )
    return index


def _rows(array: Array, lead: int, axis: int, width: int) -> Array:
    """The array as (samples or 1, entries along `width` axes from `axis`, rest)."""
    moved = np.moveaxis(array, range(axis + lead, axis + lead + width), range(lead, lead + width))
    entries = size(moved.shape[lead : lead + width])
    return moved.reshape((array.shape[0] if lead else 1, entries, size(moved.shape[lead + width :])))


def _unrows(rows: Array, lead: int, axis: int, shape: Shape, width: int) -> Array:
    """What `_rows` undoes: (samples or 1, entries, rest) back to the per-sample `shape`."""
    moved = shape[axis : axis + width] + shape[:axis] + shape[axis + width :]
    array = rows.reshape((rows.shape[0], *moved) if lead else moved)
    return np.moveaxis(array, range(lead, lead + width), range(axis + lead, axis + lead + width))


def _samples(rows: Array, count: int) -> Array:
    """Row numbers of the sample axis, for indexing beside (count, entries) indices."""
    return np.arange(count)[:, None] if rows.shape[0] > 1 else np.zeros((count, 1), np.intp)


def _take_shape(shape: Shape, axis: int, index: Shape) -> Shape:
    return shape[:axis] + index + shape[axis + 1 :]


def _take_type(types: Types, attributes: Attributes) -> Type:
    (axis,), shape = attributes["axis"], types[0].shape
    if not 0 <= axis < len(shape):
        raise ShapeError(f"take: axis {axis} is out of range for {shape}")
    return Type(_take_shape(shape, axis, types[1].shape), types[0].dtype)


def _take_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    (array, index), (axis,) = arrays, attributes["axis"]
    shape = _take_shape(array.shape[leads[0] :], axis, index.shape[leads[1] :])
    _checked(index, array.shape[axis + leads[0]], leads[1], "take")
    rows = _rows(array, leads[0], axis, 1)
    columns = _rows(index, leads[1], 0, index.ndim - leads[1])[..., 0]
    chosen = rows[_samples(rows, max(len(rows), len(columns))), columns]
    return _unrows(chosen, max(leads), axis, shape, index.ndim - leads[1])


def _scatter_type(types: Types, attributes: Attributes) -> Type:
    (axis,), (extent,), shape, index = attributes["axis"], attributes["extent"], types[0].shape, types[1].shape
    if axis < 0 or extent < 0 or shape[axis : axis + len(index)] != index or axis + len(index) > len(shape):
        raise ShapeError(f"scatter_add: entries {shape} at axis {axis} do not fit indices {index}")
    return Type((*shape[:axis], extent, *shape[axis + len(index) :]), types[0].dtype)


def _scatter_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    (array, index), (axis,), (extent,) = arrays, attributes["axis"], attributes["extent"]
    width, per_sample = index.ndim - leads[1], array.shape[leads[0] :]
    _checked(index, extent, leads[1], "scatter_add")
    rows = _rows(array, leads[0], axis, width)
    columns = _rows(index, leads[1], 0, width)[..., 0]
    count = max(len(rows), len(columns))
    total = np.zeros((count, extent, rows.shape[2]), array.dtype)
    np.add.at(total, (np.arange(count)[:, None], np.broadcast_to(columns, (count, columns.shape[1]))), rows)
    return _unrows(total, max(leads), axis, (*per_sample[:axis], extent, *per_sample[axis + width :]), 1)


def _scatter_samples_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    """The sample axis is one more axis of entries."""
    (array, index), (axis,) = arrays, attributes["axis"]
    entries = np.moveaxis(array, 0, axis)
    return _scatter_forward((entries, index), (0, 0), attributes)


def _take_rule(g: Any, y: Any, a: Any, index: Any, axis: Shape) -> Any:
    return scatter_add(g, index, axis=axis, extent=(shape_of(a)[axis[0]],))


def _scatter_rule(g: Any, y: Any, a: Any, index: Any, axis: Shape, extent: Shape) -> Any:
    return take(g, index, axis=axis)


def _one_hot_type(types: Types, attributes: Attributes) -> Type:
    (extent,) = attributes["extent"]
    if extent < 1:
        raise ShapeError(f"one_hot: extent {extent} must be at least 1")
    return Type((*types[0].shape, extent), DType.FLOAT)


def _one_hot_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    (extent,) = attributes["extent"]
    index = _checked(arrays[0], extent, leads[0], "one_hot")
    return np.equal(index[..., None], np.arange(extent)).astype(np.float64)


take: Op = Op(
    name="take",
    number=110,
    doc="a's entries along an axis, chosen by the integers b (0 <= b < extent), as numpy.take",
    kinds="*i",
    infer=_take_type,
    forward=_take_forward,
    derivatives=(_take_rule, None),
    attributes=("axis",),
    elementwise=False,
    accuracy="exact",
)
scatter_add: Op = Op(
    name="scatter_add",
    number=111,
    doc="zeros into which a's entries are added at the integers b: take transposed",
    kinds="fi",
    infer=_scatter_type,
    forward=_scatter_forward,
    derivatives=(_scatter_rule, None),
    attributes=("axis", "extent"),
    elementwise=False,
    accuracy="in the order of the entries",
)
one_hot: Op = Op(
    name="one_hot",
    number=112,
    doc="a new last axis, 1.0 at the integer a (0 <= a < extent) and 0.0 elsewhere",
    kinds="i",
    infer=_one_hot_type,
    forward=_one_hot_forward,
    derivatives=(None,),
    attributes=("extent",),
    elementwise=False,
    accuracy="exact",
)
scatter_add_samples: Op = Op(
    name="scatter_add_samples",
    number=122,
    doc="the sum over the samples of scatter_add",
    kinds="fi",
    infer=_scatter_type,
    forward=_scatter_samples_forward,
    derivatives=(_scatter_rule, None),
    attributes=("axis", "extent"),
    elementwise=False,
    over_samples=True,
    accuracy="in the order of the samples",
)

OPS = (take, scatter_add, one_hot, scatter_add_samples)
