"""Messages about datasets to what the catalogue and the uploads take, and back. Everything that comes in may be hostile: each check names the field."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from sumgrad_engine.errors import InputError
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

from .codec import MAX_RANK, within
from .datasets import DTYPES, Column, Content, Entry, is_id
from .settings import Settings
from .uploads import Start

MAX_NAME_BYTES = 256
MAX_UPLOAD_ID_BYTES = 128
DIGEST_BYTES = 32

_DTYPES = {graph_pb2.DType.Value(f"DTYPE_{name.upper()}"): name for name in DTYPES}
_WIRE = {name: number for number, name in _DTYPES.items()}


class PlainChunk(NamedTuple):
    """An UploadChunk, with its data where it lies in the message."""

    column: int
    offset: int
    data: memoryview


def plain_chunk(message: bytes) -> PlainChunk | None:
    """The chunk in an UploadDatasetRequest that is written as everybody writes it; None: protobuf has to read it.

    Protobuf would copy the data twice, which takes as long as receiving it.
    """
    reader = _Plain(message)
    if not message or reader.tagged(_CHUNK) + reader.at != len(message):
        return None
    column, offset = reader.tagged(_COLUMN), reader.tagged(_OFFSET)
    if reader.tagged(_DATA) + reader.at != len(message) or column > _MOST_COLUMN or offset > _MOST_OFFSET:
        return None
    return PlainChunk(column, offset, memoryview(message)[reader.at :])


_CHUNK, _COLUMN, _OFFSET, _DATA = 0x12, 0x08, 0x10, 0x1A
"""Tags: the field's number, and what kind of value follows."""
_MOST_COLUMN, _MOST_OFFSET = 2**32 - 1, 2**64 - 1
_PLAIN_VARINT = 10


class _Plain:
    def __init__(self, message: bytes) -> None:
        self._message, self.at = message, 0

    def tagged(self, tag: int) -> int:
        """The number behind this tag; 0, as in protobuf, if it is not there."""
        if self._message[self.at : self.at + 1] != bytes((tag,)):
            return 0
        value, position = 0, self.at + 1
        for shift, byte in enumerate(self._message[position : position + _PLAIN_VARINT]):
            value |= (byte & 0x7F) << 7 * shift
            if byte == 0 and shift:
                return 0  # nobody writes a number longer than it is
            if byte < 0x80:
                self.at = position + shift + 1
                return value
        return 0


def decode_start(start: wire.UploadStart, settings: Settings) -> Start:
    """What an upload is to become. Raises InputError, LimitError."""
    require_name(start.upload_id, "start.upload_id", MAX_UPLOAD_ID_BYTES)
    if start.name:
        require_name(start.name, "start.name", MAX_NAME_BYTES)
    if is_id(start.name):
        raise InputError(
            "start.name has the form of an id, which stands for its content alone: leave it empty to have that", field="start.name"
        )
    if not start.columns:
        raise InputError("start.columns is empty; at least one column is needed", field="start.columns")
    within(settings.max_columns, "max_columns", len(start.columns), "number of columns")
    columns = tuple(_decode_column(column, f"start.columns[{number}]", settings) for number, column in enumerate(start.columns))
    _require_unique([column.name for column in columns])
    return Start(start.upload_id, start.name, columns, start.replace)


def _decode_column(column: wire.Column, field: str, settings: Settings) -> Column:
    require_name(column.name, f"{field}.name", MAX_NAME_BYTES)
    dtype = _DTYPES.get(column.dtype)
    if dtype is None:
        known = ", ".join(graph_pb2.DType.Name(number) for number in _DTYPES)
        raise InputError(f"{field}.dtype is {column.dtype}, which is none of {known}", field=f"{field}.dtype")
    if column.sha256:
        raise InputError(f"{field}.sha256 is given; checksums belong into UploadFinish", field=f"{field}.sha256")
    return Column(column.name, dtype, _decode_shape(column.shape, f"{field}.shape", settings))


def _decode_shape(extents: Sequence[int], field: str, settings: Settings) -> tuple[int, ...]:
    if len(extents) > MAX_RANK:
        raise InputError(f"{field} has {len(extents)} axes; at most {MAX_RANK} are allowed", field=field)
    shape = tuple(extents)
    if 0 in shape:
        raise InputError(f"{field} is {shape}: a column without elements can't be stored", field=field)
    within(settings.max_elements, "max_elements", prod(shape), f"number of elements of {field}")
    return shape


def _require_unique(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise InputError(f"two columns are called {name[:80]!r}", field=f"start.columns[{number}].name")
        seen.add(name)


def require_name(name: str, field: str, most: int) -> None:
    """Raises InputError unless a name is 1 to `most` bytes of UTF-8 without control characters."""
    nbytes = len(name.encode())
    if not 1 <= nbytes <= most:
        raise InputError(f"{field} has {nbytes} bytes of UTF-8; 1 to {most} are allowed", field=field)
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise InputError(f"{field} is {name[:80]!r}, which has control characters", field=field)


def decode_digests(finish: wire.UploadFinish, columns: int) -> list[str]:
    """The SHA-256 of each column, in lowercase hexadecimal. Raises InputError."""
    if len(finish.sha256) != columns:
        said = f"finish.sha256 has {len(finish.sha256)} checksums for {columns} columns; it needs one of each"
        raise InputError(said, field="finish.sha256")
    for number, digest in enumerate(finish.sha256):
        if len(digest) != DIGEST_BYTES:
            said = f"finish.sha256[{number}] has {len(digest)} bytes; a SHA-256 has {DIGEST_BYTES}"
            raise InputError(said, field=f"finish.sha256[{number}]")
    return [digest.hex() for digest in finish.sha256]


def encode_dataset(entry: Entry, content: Content) -> wire.Dataset:
    """A dataset on the wire."""
    columns = [
        wire.Column(name=column.name, dtype=_WIRE[column.dtype], shape=column.shape, sha256=bytes.fromhex(column.sha256))  # type: ignore[arg-type]
        for column in content.columns
    ]
    return wire.Dataset(
        id=entry.id,
        name=entry.name,
        sample_count=entry.sample_count,
        columns=columns,
        byte_count=entry.nbytes,
        created=entry.created,
    )
