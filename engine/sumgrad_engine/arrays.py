"""NumPy's array functions in terms of ops: axes that may be negative, vectors in matmul, indexing with slices. For any expression with a shape."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np

from .errors import ShapeError
from .ops import Op, contraction, movement
from .ops.arithmetic import cast_float
from .ops.contraction import matmul as matrix_product
from .ops.indexing import take as take_entries
from .ops.record import Expression
from .shapes import kept, normalize_axes, normalize_axis, resolve_reshape
from .sources import caller, describe
from .types import DType, Shape

Axis = int | Sequence[int] | None
P = ParamSpec("P")
R = TypeVar("R")


def located(op: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Errors of a function say which op was wanted, and at which line of the user's program."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except ShapeError as error:
                raise error.located(op=op, source=describe(caller())) from None

        return checked

    return decorate


def reduction(op: Op, x: Any, axis: Axis, keepdims: bool) -> Any:
    """A reducing op over axes as NumPy names them."""
    axes = located(op.name)(normalize_axes)(axis, len(x.shape))
    result = op(x, axes=axes)
    return movement.reshape(result, shape=kept(x.shape, axes)) if keepdims else result


@located("mean")
def mean(x: Any, axis: Axis, keepdims: bool) -> Any:
    """The sum over axes divided by the number of elements."""
    axes = normalize_axes(axis, len(x.shape))
    count = float(np.prod([x.shape[a] for a in axes], dtype=np.float64))
    return reduction(contraction.sum_, x, axis, keepdims) / count


@located("reshape")
def reshape(x: Any, shape: int | Sequence[int]) -> Any:
    """The same elements in another shape; one extent may be -1."""
    wanted = (shape,) if isinstance(shape, int) else tuple(map(operator.index, shape))
    return movement.reshape(x, shape=resolve_reshape(x.shape, wanted))


@located("transpose")
def transpose(x: Any, axes: Sequence[int] | None = None) -> Any:
    """Axes reversed, or in the order given."""
    rank = len(x.shape)
    order = tuple(reversed(range(rank))) if axes is None else tuple(normalize_axis(a, rank) for a in axes)
    return movement.transpose(x, axes=order)


def broadcast_to(x: Any, shape: Sequence[int]) -> Any:
    """Repeated to a shape."""
    return movement.broadcast_to(x, shape=tuple(shape))


@located("matmul")
def matmul(a: Any, b: Any) -> Any:
    """a @ b as in NumPy: a vector on the left is a row, on the right a column, and the extra axis goes again."""
    if not a.shape or not b.shape:
        raise ShapeError("matmul: scalars are multiplied with *, not @")
    if a.shape[-1] != b.shape[max(-2, -len(b.shape))]:
        raise ShapeError(f"matmul: {a.shape} @ {b.shape} do not fit")
    row, column = len(a.shape) == 1, len(b.shape) == 1
    left = movement.reshape(a, shape=(1, *a.shape)) if row else a
    right = movement.reshape(b, shape=(*b.shape, 1)) if column else b
    result = matrix_product(left, right)
    shape = list(result.shape)
    if column:
        shape.pop(-1)
    if row:
        shape.pop(-1 if column else -2)
    return movement.reshape(result, shape=tuple(shape)) if row or column else result


@located("concat")
def concat(parts: Sequence[Any], axis: int) -> Any:
    """Parts one after another along an axis; floats if their kinds differ."""
    if not parts:
        raise ShapeError("concat of nothing: at least one part is needed")
    if len({part.dtype for part in parts}) > 1:
        parts = [part if part.dtype is DType.FLOAT else cast_float(part) for part in parts]
    return movement.concat(*parts, axis=(normalize_axis(axis, len(parts[0].shape)),))


@located("stack")
def stack(parts: Sequence[Any], axis: int) -> Any:
    """Parts of one shape along a new axis."""
    if not parts:
        raise ShapeError("stack of nothing: at least one part is needed")
    at = normalize_axis(axis, len(parts[0].shape) + 1)
    shape = parts[0].shape
    if any(part.shape != shape for part in parts):
        raise ShapeError(f"stack: parts must have one shape, not {sorted({part.shape for part in parts})}")
    return concat([movement.reshape(part, shape=(*shape[:at], 1, *shape[at:])) for part in parts], at)


@located("take")
def take(x: Any, index: Any, axis: int | None) -> Any:
    """Entries along an axis, chosen by integers; along the flattened array if `axis` is None."""
    if axis is None:
        return take_entries(reshape(x, -1), index, axis=(0,))
    return take_entries(x, index, axis=(normalize_axis(axis, len(x.shape)),))


@located("slice")
def getitem(x: Any, key: Any) -> Any:
    """x[key] for integers, slices, None, Ellipsis and at most one array of integers (an expression or data)."""
    items = _expanded(key if isinstance(key, tuple) else (key,), len(x.shape))
    basic = [slice(None) if _is_array(item) else item for item in items]
    result = _basic(x, [item for item in basic if item is not None])
    chosen = [(axis, item) for axis, item in enumerate(item for item in items if item is not None) if _is_array(item)]
    if len(chosen) > 1:
        raise ShapeError("indexing with more than one array of integers is not supported: use take for each axis")
    for axis, item in chosen:
        before = [i for i in items if i is not None][:axis]
        result = take(result, item, axis - sum(isinstance(i, int | np.integer) for i in before))
    result = _with_new_axes(result, items)
    return _array_axes_first(result, items) if chosen else result


def _array_axes_first(x: Any, items: list[Any]) -> Any:
    """NumPy's rule: if slices or new axes lie between the array and an integer index, the array's axes come first."""
    advanced = [place for place, item in enumerate(items) if item is not None and not isinstance(item, slice)]
    if advanced[-1] - advanced[0] == len(advanced) - 1:
        return x
    place = next(place for place, item in enumerate(items) if _is_array(item))
    first = sum(item is None or isinstance(item, slice) for item in items[:place])
    moved = range(first, first + len(_array_shape(items[place])))
    return transpose(x, (*moved, *(axis for axis in range(len(x.shape)) if axis not in moved)))


def _is_array(item: Any) -> bool:
    return isinstance(item, Expression | np.ndarray | list)


def _expanded(items: tuple[Any, ...], rank: int) -> list[Any]:
    """The key with Ellipsis spelled out and trailing slices added."""
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > rank:
        raise ShapeError(f"{used} indices for {rank} axes")
    found: list[Any] = []
    for item in items:
        found.extend([slice(None)] * (rank - used) if item is Ellipsis else [item])
    if not any(item is Ellipsis for item in items):
        found.extend([slice(None)] * (rank - used))
    return found


def _basic(x: Any, items: list[Any]) -> Any:
    """Integers and slices, one for each axis: a slice, a flip for negative steps, and a reshape that drops indexed axes."""
    bounds, flipped = [], []
    for axis, (item, extent) in enumerate(zip(items, x.shape, strict=True)):
        start, stop, step = _bounds(item, axis, extent)
        if step < 0:
            flipped.append(axis)
            count = max(0, -(-(stop - start) // step))
            start, stop, step = (start + (count - 1) * step, start + 1, -step) if count else (0, 0, 1)
        bounds.append((start, max(start, stop), step))
    if any(bound != (0, extent, 1) for bound, extent in zip(bounds, x.shape, strict=True)):
        starts, stops, steps = (tuple(column) for column in zip(*bounds, strict=True))
        x = movement.slice_(x, start=starts, stop=stops, step=steps)
    if flipped:
        x = movement.flip(x, axes=tuple(flipped))
    shape = tuple(extent for item, extent in zip(items, x.shape, strict=True) if isinstance(item, slice))
    return movement.reshape(x, shape=shape) if shape != x.shape else x


def _bounds(item: Any, axis: int, extent: int) -> tuple[int, int, int]:
    if isinstance(item, slice):
        return item.indices(extent)
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise ShapeError(f"an index must be an integer, a slice, None, ... or integers in an array, not {item!r}")
    index = operator.index(item)
    if not -extent <= index < extent:
        # IndexError ends iteration over an expression, as Python expects of __getitem__.
        raise IndexError(f"index {index} is out of range for axis {axis} of extent {extent}")
    return index % extent, index % extent + 1, 1


def _with_new_axes(x: Any, items: list[Any]) -> Any:
    if all(item is not None for item in items):
        return x
    extents, shape = iter(x.shape), list[int]()
    for item in items:
        if item is None:
            shape.append(1)
        elif not isinstance(item, int | np.integer):
            shape.extend(next(extents) for _ in range(len(_array_shape(item))))
    return movement.reshape(x, shape=tuple(shape))


def _array_shape(item: Any) -> Shape:
    """Shape that an index gives: one axis for a slice, those of an array of integers."""
    if isinstance(item, slice):
        return (1,)
    return tuple(getattr(item, "shape", np.shape(item) if not isinstance(item, Expression) else ()))
