"""Ops that move elements: reshape, transpose, broadcast, concat, slice, pad, flip.

Forward functions get (arrays, leads, attributes): leads[k] is 1 if arrays[k] has a leading sample axis. Axes in attributes are those of the
per-sample shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..shapes import broadcast, reduced, size
from ..types import Array, Attributes, Shape, Type
from .record import Op, shape_of

Arrays = Sequence[Array]
Leads = Sequence[int]
Types = Sequence[Type]


def _axis(axis: int, rank: int, op: str) -> int:
    if not 0 <= axis < rank:
        raise ShapeError(f"{op}: axis {axis} is out of range for {rank} axes")
    return axis


def distinct_axes(axes: Sequence[int], rank: int, op: str) -> None:
    """Refuses axes that are out of range or named twice."""
    for axis in axes:
        _axis(axis, rank, op)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axes {tuple(axes)} name one axis twice")


def _extents(shape: Sequence[int], op: str) -> Shape:
    if any(extent < 0 for extent in shape):
        raise ShapeError(f"{op}: negative extent in {tuple(shape)}")
    return tuple(shape)


def _lead(array: Array, lead: int) -> Shape:
    return array.shape[:lead]


def _reshape_type(types: Types, attributes: Attributes) -> Type:
    shape = _extents(attributes["shape"], "reshape")
    if size(shape) != size(types[0].shape):
        raise ShapeError(f"cannot reshape {types[0].shape} to {shape}: {size(types[0].shape)} elements against {size(shape)}")
    return Type(shape, types[0].dtype)


def _reshape_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    return arrays[0].reshape(_lead(arrays[0], leads[0]) + tuple(attributes["shape"]))


reshape: Op = Op(
    name="reshape",
    number=100,
    doc="the same elements in row-major order in another shape",
    kinds="*",
    infer=_reshape_type,
    forward=_reshape_forward,
    derivatives=(lambda g, y, a, shape: reshape(g, shape=shape_of(a)),),
    attributes=("shape",),
    elementwise=False,
    accuracy="exact",
)


def _transpose_type(types: Types, attributes: Attributes) -> Type:
    shape, axes = types[0].shape, attributes["axes"]
    if sorted(axes) != list(range(len(shape))):
        raise ShapeError(f"transpose: {tuple(axes)} is not a permutation of the axes of {shape}")
    return Type(tuple(shape[axis] for axis in axes), types[0].dtype)


def _transpose_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    lead = leads[0]
    return arrays[0].transpose(tuple(range(lead)) + tuple(axis + lead for axis in attributes["axes"]))


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


transpose: Op = Op(
    name="transpose",
    number=101,
    doc="axes in another order: axis i of the result is axis axes[i] of a",
    kinds="*",
    infer=_transpose_type,
    forward=_transpose_forward,
    derivatives=(lambda g, y, a, axes: transpose(g, axes=_inverse(axes)),),
    attributes=("axes",),
    elementwise=False,
    accuracy="exact",
)


def _broadcast_type(types: Types, attributes: Attributes) -> Type:
    shape = _extents(attributes["shape"], "broadcast_to")
    if broadcast(types[0].shape, shape) != shape:
        raise ShapeError(f"broadcast_to: {types[0].shape} does not broadcast to {shape}")
    return Type(shape, types[0].dtype)


def _broadcast_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    array, lead, shape = arrays[0], leads[0], tuple(attributes["shape"])
    ones = (1,) * (len(shape) - (array.ndim - lead))
    return np.broadcast_to(array.reshape(_lead(array, lead) + ones + array.shape[lead:]), _lead(array, lead) + shape)


broadcast_to: Op = Op(
    name="broadcast_to",
    number=102,
    doc="repeated along axes of extent 1 and along new leading axes",
    kinds="*",
    infer=_broadcast_type,
    forward=_broadcast_forward,
    derivatives=(lambda g, y, a, shape: g,),
    attributes=("shape",),
    elementwise=False,
    accuracy="exact",
)


def _concat_type(types: Types, attributes: Attributes) -> Type:
    (axis,) = attributes["axis"]
    first = types[0]
    _axis(axis, len(first.shape), "concat")
    for other in types[1:]:
        if (
            other.dtype != first.dtype
            or reduced(other.shape, [axis]) != reduced(first.shape, [axis])
            or len(other.shape) != len(first.shape)
        ):
            raise ShapeError(f"concat along axis {axis}: {first.shape} and {other.shape} do not fit")
    total = sum(t.shape[axis] for t in types)
    return Type((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)


def _with_lead(arrays: Arrays, leads: Leads) -> list[Array]:
    """All arrays with a sample axis, if any has one."""
    if not any(leads):
        return list(arrays)
    samples = next(array.shape[0] for array, lead in zip(arrays, leads, strict=True) if lead)
    return [array if lead else np.broadcast_to(array, (samples, *array.shape)) for array, lead in zip(arrays, leads, strict=True)]


def _concat_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    return np.concatenate(_with_lead(arrays, leads), axis=attributes["axis"][0] + max(leads))


def _concat_rule(g: Any, y: Any, *operands: Any, axis: tuple[int, ...]) -> Iterator[Any]:
    """For each operand its part of g."""
    (along,) = axis
    first, last = [0] * len(shape_of(g)), list(shape_of(g))
    step = (1,) * len(last)
    last[along] = 0
    for operand in operands:
        first[along] = last[along]
        last[along] += shape_of(operand)[along]
        yield slice_(g, start=tuple(first), stop=tuple(last), step=step)


concat: Op = Op(
    name="concat",
    number=107,
    doc="operands one after another along an axis",
    kinds="*...",
    infer=_concat_type,
    forward=_concat_forward,
    derivatives=(_concat_rule,),
    attributes=("axis",),
    elementwise=False,
    accuracy="exact",
)


def _slice_extent(start: int, stop: int, step: int) -> int:
    return -(-(stop - start) // step)


def _slice_type(types: Types, attributes: Attributes) -> Type:
    shape = types[0].shape
    bounds = list(zip(attributes["start"], attributes["stop"], attributes["step"], strict=False))
    if any(len(attributes[name]) != len(shape) for name in ("start", "stop", "step")):
        raise ShapeError(f"slice: start, stop and step need one number for each of the {len(shape)} axes of {shape}")
    for axis, (start, stop, step) in enumerate(bounds):
        if not 0 <= start <= stop <= shape[axis] or step < 1:
            raise ShapeError(f"slice: {start}:{stop}:{step} does not lie in axis {axis} of {shape}")
    return Type(tuple(_slice_extent(*bound) for bound in bounds), types[0].dtype)


def _slices(attributes: Attributes, stop: Sequence[int], lead: int) -> tuple[slice, ...]:
    steps = zip(attributes["start"], stop, attributes["step"], strict=True)
    return (slice(None),) * lead + tuple(slice(*bound) for bound in steps)


def _slice_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    return arrays[0][_slices(attributes, attributes["stop"], leads[0])]


slice_: Op = Op(
    name="slice",
    number=108,
    doc="start:stop:step along each axis; 0 <= start <= stop <= extent, step >= 1",
    kinds="*",
    infer=_slice_type,
    forward=_slice_forward,
    derivatives=(lambda g, y, a, start, stop, step: pad(g, start=start, step=step, shape=shape_of(a)),),
    attributes=("start", "stop", "step"),
    elementwise=False,
    accuracy="exact",
)


def _pad_stops(shape: Sequence[int], attributes: Attributes) -> list[int]:
    """One past the last place that is filled, along each axis."""
    return [
        start + (extent - 1) * step + 1 if extent else start
        for extent, start, step in zip(shape, attributes["start"], attributes["step"], strict=True)
    ]


def _pad_type(types: Types, attributes: Attributes) -> Type:
    source, shape = types[0].shape, _extents(attributes["shape"], "pad")
    if any(len(attributes[name]) != len(source) for name in ("start", "step", "shape")):
        raise ShapeError(f"pad: start, step and shape need one number for each of the {len(source)} axes of {source}")
    if min((*attributes["start"], 0)) < 0 or min((*attributes["step"], 1)) < 1:
        raise ShapeError("pad: start must not be negative and step must be at least 1")
    if any(stop > extent for stop, extent in zip(_pad_stops(source, attributes), shape, strict=True)):
        raise ShapeError(
            f"pad: {source} from {tuple(attributes['start'])} in steps of {tuple(attributes['step'])} does not fit into {shape}"
        )
    return Type(shape, types[0].dtype)


def _pad_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    array, lead = arrays[0], leads[0]
    result = np.zeros(_lead(array, lead) + tuple(attributes["shape"]), array.dtype)
    result[_slices(attributes, _pad_stops(array.shape[lead:], attributes), lead)] = array
    return result


def _pad_rule(g: Any, y: Any, a: Any, start: Shape, step: Shape, shape: Shape) -> Any:
    stop = tuple(_pad_stops(shape_of(a), {"start": start, "step": step}))
    return slice_(g, start=start, stop=stop, step=step)


pad: Op = Op(
    name="pad",
    number=109,
    doc="zeros of a shape with a's elements at start, start + step, ... along each axis: slice transposed",
    kinds="*",
    infer=_pad_type,
    forward=_pad_forward,
    derivatives=(_pad_rule,),
    attributes=("start", "step", "shape"),
    elementwise=False,
    accuracy="exact",
)


def _flip_type(types: Types, attributes: Attributes) -> Type:
    distinct_axes(attributes["axes"], len(types[0].shape), "flip")
    return types[0]


def _flip_forward(arrays: Arrays, leads: Leads, attributes: Attributes) -> Array:
    # A copy: NumPy's vector functions round differently on arrays with negative strides.
    return np.flip(arrays[0], tuple(axis + leads[0] for axis in attributes["axes"])).copy()


flip: Op = Op(
    name="flip",
    number=113,
    doc="the order along axes reversed",
    kinds="*",
    infer=_flip_type,
    forward=_flip_forward,
    derivatives=(lambda g, y, a, axes: flip(g, axes=axes),),
    attributes=("axes",),
    elementwise=False,
    accuracy="exact",
)

OPS = (reshape, transpose, broadcast_to, concat, slice_, pad, flip)
VIEWS = (reshape, transpose, broadcast_to, slice_)
"""Whose results usually share memory with their operand."""
