"""Frames: what is written to the disk at once, with a checksum, so that what was not written whole is known.

    file     = header, frame, frame, ...; zeros behind them where a server writes
    header   = "SUMGRADJ", version (4 bytes), the file's mark (16 random bytes), CRC-32 of the mark (4 bytes)
    frame    = the file's mark, length of the payload (8 bytes), CRC-32 of the payload (4 bytes), payload
    payload  = record, record, ...
    record   = length of the run's id (2 bytes), length of the data (8 bytes), index (8 bytes), the run's id, data

Numbers are little-endian. In a file that grows the header is on the disk before the first frame is written: where it is missing there is nothing. Nobody
outside knows a file's mark: whatever numbers members send, what begins with it is a frame, and nothing else is looked at. CRC-32 tells a frame that was
written in part from a whole one, at a tenth of a cryptographic hash's time, which would be in the way of every step; it is no protection from people who
change files, and those who may write to the state directory need none.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

KIND = b"SUMGRADJ" + (1).to_bytes(4, "little")
MARK_BYTES = 16
HEADER_BYTES = len(KIND) + MARK_BYTES + 4
_FRAME = struct.Struct("<QI")
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


def new_mark() -> bytes:
    """That of a new file."""
    return secrets.token_bytes(MARK_BYTES)


def header(mark: bytes) -> bytes:
    """What a file begins with."""
    return KIND + mark + zlib.crc32(mark).to_bytes(4, "little")


def mark_of(data: memoryview) -> bytes | None:
    """The mark of a file with these bytes; None if it does not begin with a header."""
    head = bytes(data[:HEADER_BYTES])
    mark = head[len(KIND) : len(KIND) + MARK_BYTES]
    return mark if head == header(mark) else None


def record(run: str, index: int, parts: Parts) -> list[bytes | memoryview]:
    """A record, in parts."""
    name = run.encode()
    return [_RECORD.pack(len(name), sum(len(part) for part in parts), index) + name, *parts]


def frame(records: Sequence[Parts]) -> list[bytes | memoryview]:
    """A frame of records, in parts, but for the mark that it begins with."""
    parts = [part for record in records for part in record]
    check = 0
    for part in parts:
        check = zlib.crc32(part, check)
    return [_FRAME.pack(sum(len(part) for part in parts), check), *parts]


def entries(data: memoryview, mark: bytes) -> Iterator[tuple[int, list[Entry]]]:
    """The frames behind the header, each as where it ends and its records. Raises BadFrameError where there is something else, zeros included."""
    start = HEADER_BYTES
    while start < len(data):
        payload = _payload(data, start, mark)
        if payload is None:
            raise BadFrameError(start)
        found = _records(payload, start)
        start += MARK_BYTES + _FRAME.size + len(payload)
        yield start, found


def has_frame_after(data: memoryview, start: int, mark: bytes) -> bool:
    """Whether there is a whole frame anywhere behind a byte: then what is there was not the end of the file."""
    text, place = bytes(data[start:]), -1
    while (place := text.find(mark, place + 1)) >= 0:
        if _payload(data, start + place, mark) is not None:
            return True
    return False


def _payload(data: memoryview, start: int, mark: bytes) -> memoryview | None:
    begin = start + MARK_BYTES + _FRAME.size
    if len(data) < begin or data[start : start + MARK_BYTES] != mark:
        return None
    length, check = _FRAME.unpack_from(data, start + MARK_BYTES)
    payload = data[begin : begin + length]
    return payload if 0 < length == len(payload) and zlib.crc32(payload) == check else None


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
