"""What a run writes to the journal: a line for everything that it must not forget, as a header in JSON and arrays behind it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from sumgrad_engine.layout import Vector
from sumgrad_engine.types import Array

from ..faults import DamagedError
from .machine import State

LENGTH_BYTES = 4
_JSON = json.JSONEncoder(separators=(",", ":"))
Parts: TypeAlias = list[bytes | memoryview]


@dataclass(frozen=True)
class Joined:
    """A member has a seat."""

    kind: ClassVar[str] = "joined"
    number: int
    name: str
    session: str


@dataclass(frozen=True)
class GaveUp:
    """A seat is given up."""

    kind: ClassVar[str] = "left"
    number: int


@dataclass(frozen=True)
class Began:
    """An attempt of a step has these members (none: the run waits)."""

    kind: ClassVar[str] = "began"
    step: int
    attempt: int
    members: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Stepped:
    """A step: who contributed how many samples, and the reduced sum of value, metrics and gradient.

    `next_members` are those of the next step's first attempt. `at` are the parameters at which it was made, where members update them.
    """

    kind: ClassVar[str] = "stepped"
    step: int
    attempt: int
    members: tuple[int, ...]
    samples: tuple[int, ...]
    seconds: float  # since 1970-01-01 UTC
    next_members: tuple[int, ...]
    vector: Vector
    at: Vector | None = None


@dataclass(frozen=True)
class Over:
    """The run was stopped."""

    kind: ClassVar[str] = "over"
    state: State


Record: TypeAlias = Joined | GaveUp | Began | Stepped | Over

_KINDS: dict[str, type[Record]] = {kind.kind: kind for kind in (Joined, GaveUp, Began, Stepped, Over)}


def encode(record: Record) -> Parts:
    """A record as bytes, in parts: large arrays are not copied."""
    header: dict[str, Any] = {"kind": record.kind}
    arrays: dict[str, Array] = {}
    for name in _FIELDS[record.kind]:
        value = getattr(record, name)
        if isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            header[name] = value
    return pack(header, arrays)


_FIELDS = {kind: tuple(field.name for field in dataclasses.fields(of)) for kind, of in _KINDS.items()}


def decode(data: bytes) -> Record:
    """The record in these bytes. Raises DamagedError."""
    header, arrays = unpack(data)
    kind = _KINDS.get(header.pop("kind", ""))
    if kind is None:
        raise DamagedError("the journal of runs has a record of a kind that this server does not know: use the sumgrad that wrote it")
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in header.items()} | arrays
    return kind(**fields)


def pack(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Parts:
    """A header and arrays as bytes, in parts."""
    kept = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in arrays.items()}
    said = {**header, "arrays": [(name, array.dtype.str, array.shape) for name, array in kept.items()]} if kept else header
    text = _JSON.encode(said).encode()
    return [len(text).to_bytes(LENGTH_BYTES, "little"), text, *(_bytes_of(array) for array in kept.values())]


def _bytes_of(array: Array) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8).data)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays, which are copies. Raises DamagedError."""
    try:
        end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little")
        header: dict[str, Any] = json.loads(data[LENGTH_BYTES:end])
        arrays = {}
        for name, dtype, shape in header.pop("arrays", ()):
            array = np.frombuffer(data, dtype, _count(shape), end).reshape(shape).copy()
            arrays[name], end = array, end + array.nbytes
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"the journal of runs holds what is no record: {error}") from error
    return header, arrays


def _count(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
