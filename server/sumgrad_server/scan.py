"""A look at the bytes of a message before protobuf reads them.

A field takes protobuf some hundred times the time and memory that an empty one takes on the wire: 64 MiB of them, 4.6 s and 2 GiB (measured). So
the fields of large messages are counted first, without reading what is in them; numbers and bytes that lie together count as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from sumgrad_engine.errors import LimitError

from .faults import MalformedMessageError

SMALL = 1 << 16
"""Bytes of a message, or of a part of one, that need no look: even if they are nothing but empty fields, reading them takes milliseconds."""
FEW = 256
PART, FIELD_BYTES = 256, 16
"""Parts of up to so many bytes are not looked into: they count as a field for every so many bytes."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_PLAIN = {FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING}


@dataclass(frozen=True)
class Most:
    """How many fields a message may have in all its parts, how many numbers one packed field; and the limits that these go back to."""

    fields: int
    fields_limit: str
    numbers: int
    numbers_limit: str


def scan(kind: type[Message], data: bytes, most: Most) -> None:
    """Raises LimitError if there is too much in these bytes to be read, MalformedMessageError if they are no message at all."""
    if len(data) > SMALL:
        _Scan(data, most).message(cast(Descriptor, kind.DESCRIPTOR), 0, len(data))


def plainly_small(kind: type[Message], data: bytes) -> bool:
    """Whether a look of some microseconds suffices to say that there is little in these bytes: arrays, however large they are."""
    try:
        scan(kind, data, Most(FEW, "", FEW, ""))
    except LimitError:
        return False
    return True


class _Scan:
    def __init__(self, data: bytes, most: Most) -> None:
        self._data = data
        self._most = most
        self._left = most.fields

    def message(self, kind: Descriptor, position: int, end: int) -> None:
        """Counts the fields of a message that lies between these two positions. Messages are nested as deep as their descriptors at most."""
        known = kind.fields_by_number
        while position < end:
            self._count(1)
            key, position = self._varint(position, end)
            position, size = self._payload(key & 7, position, end)
            field = known.get(key >> 3)
            if position > end:
                raise MalformedMessageError("the message ends in the middle of a field")
            if size and field is not None and field.type not in _PLAIN:
                self._part(field, position - size, position)

    def _count(self, fields: int) -> None:
        self._left -= fields
        if self._left < 0:
            raise _too_much(self._most.fields_limit, f"the message has more than {self._most.fields:,} fields", self._most.fields)

    def _part(self, field: FieldDescriptor, start: int, end: int) -> None:
        if field.message_type is None:
            self._numbers(field, start, end)
        elif end - start > PART:
            self.message(field.message_type, start, end)
        else:
            self._count((end - start) // FIELD_BYTES)

    def _numbers(self, field: FieldDescriptor, start: int, end: int) -> None:
        """The numbers of a packed field: 8 bytes each, or any number of them of which only the last is below 128."""
        count = (end - start) // 8
        if field.type != FieldDescriptor.TYPE_DOUBLE and end - start > self._most.numbers:
            count = int(np.count_nonzero(np.frombuffer(self._data, np.uint8, end - start, start) < 128))
        if count > self._most.numbers:
            said = f"{field.name} has more than {self._most.numbers:,} numbers"
            raise _too_much(self._most.numbers_limit, said, self._most.numbers)

    def _payload(self, form: int, position: int, end: int) -> tuple[int, int]:
        """Where a field ends, and how many bytes with a length of their own it has."""
        if form == _BYTES:
            size, position = self._varint(position, end)
            return position + size, size
        if form == _VARINT:
            return self._varint(position, end)[1], 0
        if form in (_FIXED64, _FIXED32):
            return position + (8 if form == _FIXED64 else 4), 0
        raise MalformedMessageError(f"the message has a field of the wire type {form}, which is not used")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end and shift < 70:
            byte = self._data[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, position
            shift += 7
        raise MalformedMessageError("the message ends in the middle of a number")


def _too_much(limit: str, said: str, allowed: int) -> LimitError:
    return LimitError(f"{said}: that is more than {limit} allows", limit=limit, allowed=allowed)
