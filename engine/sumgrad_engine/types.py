"""What a node is: kind of element, shape, and the leaves that are given from outside."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = npt.NDArray[Any]
Attributes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Static attributes of a node: every one is a tuple of integers."""

NO_ATTRIBUTES: Attributes = {}


class DType(IntEnum):
    """Kind of element. The width of floats is the evaluator's business, not the graph's."""

    FLOAT = 1
    INT = 2
    BOOL = 3

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type in which the reference evaluator computes."""
        return _NUMPY[self]

    @property
    def letter(self) -> str:
        """How the table of ops writes the kind: f, i or b."""
        return _LETTERS[self]

    @property
    def plural(self) -> str:
        """How messages call its elements."""
        return _PLURALS[self]


_LETTERS = {DType.FLOAT: "f", DType.INT: "i", DType.BOOL: "b"}
_PLURALS = {DType.FLOAT: "floats", DType.INT: "integers", DType.BOOL: "booleans"}
_NUMPY = {DType.FLOAT: np.dtype(np.float64), DType.INT: np.dtype(np.int64), DType.BOOL: np.dtype(np.bool_)}
_KINDS = {"f": DType.FLOAT, "i": DType.INT, "u": DType.INT, "b": DType.BOOL}


def dtype_of(array: Array) -> DType | None:
    """The kind of a NumPy array's elements, or None if it is none of ours."""
    return _KINDS.get(array.dtype.kind)


class Type(NamedTuple):
    """Per-sample shape and kind of element of a node."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype.name.lower()} of shape {self.shape}"


class Leaf(NamedTuple):
    """An input (one value a sample) or a parameter (one value for all samples)."""

    name: str
    shape: Shape
    dtype: DType = DType.FLOAT
