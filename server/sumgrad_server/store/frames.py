"""Frames: what is written to the disk at once, with a checksum, so that what was not written whole is known.

    file     = header, frame, frame, ...; zeros behind them where a server writes
    header   = "SUMGRADJ", version (4 bytes)
    frame    = "SGF1", length of the payload (8 bytes), CRC-32 of the payload (4 bytes), payload
    payload  = record, record, ...
    record   = length of the run's id (2 bytes), length of the data (8 bytes), index (8 bytes), the run's id, data

Numbers are little-endian. CRC-32 tells a frame that was written in part from a whole one, at a tenth of a cryptographic hash's time, which would be in the
way of every step; it is no protection from people who change files, and those who may write to the state directory need none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

HEADER = b"SUMGRADJ" + (1).to_bytes(4, "little")
MAGIC = b"SGF1"
_FRAME = struct.Struct("<4sQI")
_RECORD = struct.Struct("<HQQ")

Parts: TypeAlias = Sequence[bytes | memoryview]


@dataclass(frozen=True)
class Entry:
    """A record of a run, whose index is one more than that of the record before."""

    run: str
    index: int
    data: bytes


class BadFrameError(ValueError):
    """Bytes that are no frame; `offset` is where."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"no frame at byte {offset:,}")
        self.offset = offset


def record(run: str, index: int, parts: Parts) -> list[bytes | memoryview]:
    """A record, in parts."""
    name = run.encode()
    return [_RECORD.pack(len(name), sum(len(part) for part in parts), index) + name, *parts]


def frame(records: Sequence[Parts]) -> list[bytes | memoryview]:
    """A frame of records, in parts."""
    parts = [part for record in records for part in record]
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
    return [_FRAME.pack(MAGIC, sum(len(part) for part in parts), check), *parts]


def entries(data: memoryview, start: int) -> Iterator[tuple[int, list[Entry]]]:
    """The frames from a byte on, each as where it ends and its records. Raises BadFrameError where there is something else, zeros included."""
    while start < len(data):
        payload = _payload(data, start)
        if payload is None:
            raise BadFrameError(start)
        found = _records(payload, start)
        start += _FRAME.size + len(payload)
        yield start, found


def has_frame_after(data: memoryview, start: int) -> bool:
    """Whether there is a whole frame anywhere behind a byte: then what is there was not the end of the file."""
    text, place = bytes(data[start:]), -1
    while (place := text.find(MAGIC, place + 1)) >= 0:
        if _payload(data, start + place) is not None:
            return True
    return False


def _payload(data: memoryview, start: int) -> memoryview | None:
    if len(data) < start + _FRAME.size:
        return None
    magic, length, check = _FRAME.unpack_from(data, start)
    payload = data[start + _FRAME.size : start + _FRAME.size + length]
    whole = magic == MAGIC and 0 < length == len(payload) and zlib.crc32(payload) == check
    return payload if whole else None


def _records(payload: memoryview, offset: int) -> list[Entry]:
    found, start = [], 0
    try:
        while start < len(payload):
            name_bytes, length, index = _RECORD.unpack_from(payload, start)
            middle = start + _RECORD.size + name_bytes
            found.append(Entry(bytes(payload[start + _RECORD.size : middle]).decode(), index, bytes(payload[middle : middle + length])))
            start = middle + length
    except (struct.error, UnicodeDecodeError) as error:
        raise BadFrameError(offset) from error
    if start > len(payload):
        raise BadFrameError(offset)
    return found
