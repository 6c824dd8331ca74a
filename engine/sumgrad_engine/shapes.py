"""Arithmetic on shapes: broadcasting, axes, and what undoes a broadcast."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import ShapeError
from .types import Shape


def broadcast(*shapes: Shape) -> Shape:
    """The shape to which NumPy broadcasts these, e.g. (3, 1) and (4,) give (3, 4)."""
    if shapes.count(shapes[0]) == len(shapes):
        return shapes[0]
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(_common_extent(extents, shapes) for extents in zip(*padded, strict=True))


def _common_extent(extents: Sequence[int], shapes: Sequence[Shape]) -> int:
    wide = {extent for extent in extents if extent != 1}
    if len(wide) > 1:
        raise ShapeError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
    return wide.pop() if wide else 1


def broadcast_axes(narrow: Shape, wide: Shape) -> tuple[int, ...]:
    """The axes of `wide` along which `narrow` was repeated to get there."""
    lead = len(wide) - len(narrow)
    return tuple(range(lead)) + tuple(lead + i for i, extent in enumerate(narrow) if extent == 1 and wide[lead + i] != 1)


def size(shape: Shape) -> int:
    """Number of elements, exact for any extents."""
    count = 1
    for extent in shape:
        count *= extent
    return count


def normalize_axis(axis: int, rank: int) -> int:
    """A possibly negative axis as one in 0..rank-1."""
    if not -rank <= axis < rank:
        raise ShapeError(f"axis {axis} is out of range for {rank} axes")
    return axis % rank


def normalize_axes(axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """NumPy's `axis` argument as sorted, distinct, non-negative axes; None means all."""
    if axis is None:
        return tuple(range(rank))
    axes = [axis] if isinstance(axis, int) else list(axis)
    normal = sorted(normalize_axis(a, rank) for a in axes)
    if len(set(normal)) != len(normal):
        raise ShapeError(f"axes {tuple(axes)} name one axis twice")
    return tuple(normal)


def reduced(shape: Shape, axes: Sequence[int]) -> Shape:
    """The shape with these axes removed."""
    gone = set(axes)
    return tuple(extent for axis, extent in enumerate(shape) if axis not in gone)


def kept(shape: Shape, axes: Sequence[int]) -> Shape:
    """The shape with these axes at extent 1."""
    ones = set(axes)
    return tuple(1 if axis in ones else extent for axis, extent in enumerate(shape))


def resolve_reshape(shape: Shape, wanted: Sequence[int]) -> Shape:
    """The target of a reshape with at most one extent of -1 filled in."""
    total, known = size(shape), size(tuple(extent for extent in wanted if extent != -1))
    if list(wanted).count(-1) == 1 and known > 0 and total % known == 0:
        return tuple(total // known if extent == -1 else extent for extent in wanted)
    if -1 in wanted or known != total:
        raise ShapeError(f"cannot reshape {shape} ({total} elements) to {tuple(wanted)}")
    return tuple(wanted)
