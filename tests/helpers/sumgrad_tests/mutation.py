"""Messages made wrong: in their fields, by what the descriptors say of them, and in their bytes. The same dice give the same messages."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import DecodeError, Message
from sumgrad_proto.v1 import graph_pb2

INTEGERS = [0, 1, 2, 3, 16, 17, 127, 128, 255, 256, 512, 65_535, 65_536, 2**26, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**62, 2**63 - 1]
HUGE = [2**63, 2**64 - 1]
DOUBLES = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 5e-324, 1.8e308, struct.unpack("<d", b"\x01\0\0\0\0\0\xf4\x7f")[0]]
STRINGS = [
    "",
    "x",
    "loss",
    "penalty",
    "metric:",
    "metric:loss",
    "x" * 129,
    "x" * 257,
    "x" * 5000,
    "\0",
    "\n\t\r",
    "\x1b[31m",
    "../../../etc/passwd",
    "/dev/zero",
    "%s%n{0}${x}",
    "'; DROP TABLE graphs; --",
    "<script>alert(1)</script>",
    "\u202e\ufeff\U0001f600",
    "e\u0301" * 200,
    "\U0001f600" * 70,
]
_REPEATS = [*[1] * 12, 2, 2, 17, 17, 300, 3000]


def mutated(message: Message, dice: Random, inner: dict[str, type[Message]] | None = None) -> bytes:
    """The message's bytes after one to four changes of fields, and now and then of the bytes themselves.

    `inner` names fields of bytes that hold a serialised message, into which changes may go too.
    """
    copy = type(message)()
    copy.CopyFrom(message)
    for _ in range(dice.choice([1, 1, 2, 4])):
        _change(copy, dice, inner or {})
    data = copy.SerializeToString()
    return scrambled(data, dice) if dice.random() < 0.2 else data


def scrambled(data: bytes, dice: Random) -> bytes:
    """The bytes with a few flipped, set to telling values, removed, doubled or cut off, or with something behind them."""
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8])):
        place = dice.randrange(len(changed) + 1)
        match dice.randrange(8):
            case 0 if place < len(changed):
                changed[place] ^= 1 << dice.randrange(8)
            case 1 if place < len(changed):
                changed[place] = dice.choice([0, 1, 127, 128, 255])
            case 2:
                del changed[place : place + dice.randrange(1, 9)]
            case 3:
                changed[place:place] = changed[place : place + dice.randrange(1, 9)]
            case 4:
                changed[place:place] = dice.choice([0, 1, 2**31 - 1, 2**32 - 1]).to_bytes(4, "little")
            case 5:
                changed += _alien(dice)
            case 6:
                changed[place:place] = _varint(dice.choice(INTEGERS + HUGE))
            case _:
                del changed[place:]
    return bytes(changed)


def _alien(dice: Random) -> bytes:
    """A field that no message has, in each of the wire types, groups that don't end and lengths that lie included."""
    tag = _varint(dice.choice([1, 2, 3, 15, 19_000, 2**29 - 1]) << 3 | dice.randrange(8))
    return tag + dice.choice([b"", _varint(dice.choice(INTEGERS + HUGE)), dice.randbytes(8), tag * dice.choice([1, 120])])


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def _change(message: Message, dice: Random, inner: dict[str, type[Message]]) -> None:
    """Changes one field of a message, or one further down; one that has no fields stays what it is."""
    fields = message.DESCRIPTOR.fields
    if not fields:
        return
    present = [field for field, _ in message.ListFields()]
    field = dice.choice(present) if present and dice.random() < 0.75 else dice.choice(fields)
    if field.name in inner and dice.random() < 0.8:
        _change_inside(message, field, dice, inner[field.name])
    elif field.is_repeated:
        _change_list(message, field, dice, inner)
    elif field.type == Field.TYPE_MESSAGE:
        _change_submessage(message, field, dice, inner)
    else:
        _set(message, field, dice)


def _change_inside(message: Message, field: Field, dice: Random, kind: type[Message]) -> None:
    try:
        held = kind.FromString(getattr(message, field.name))
    except (DecodeError, UnicodeDecodeError):  # a change before this one
        held = kind()
    setattr(message, field.name, mutated(held, dice))


def _change_submessage(message: Message, field: Field, dice: Random, inner: dict[str, type[Message]]) -> None:
    if dice.random() < 0.1:
        message.ClearField(field.name)
        return
    held = getattr(message, field.name)
    held.SetInParent()
    _change(held, dice, inner)


def _set(message: Message, field: Field, dice: Random) -> None:
    if dice.random() < 0.1:
        message.ClearField(field.name)
        return
    setattr(message, field.name, _value(field, getattr(message, field.name), dice))


def _change_list(message: Message, field: Field, dice: Random, inner: dict[str, type[Message]]) -> None:
    """Adds, removes, repeats, swaps or changes elements."""
    held = getattr(message, field.name)
    action = dice.randrange(6)
    place = dice.randrange(len(held)) if held else 0
    if action == 0 and held:
        del held[place]
    elif action == 1 and held:
        other = dice.randrange(len(held))
        first, second = _copy(held[place]), _copy(held[other])
        _put(held, place, second)
        _put(held, other, first)
    elif action == 2 and held:
        held.extend([_copy(held[place])] * dice.choice(_REPEATS))
    elif field.type == Field.TYPE_MESSAGE:
        _change(held[place] if held else held.add(), dice, inner)
    elif action == 3 or not held:
        held.extend([_value(field, None, dice)] * dice.choice(_REPEATS))
    else:
        held[place] = _value(field, held[place], dice)


def _copy(element: Any) -> Any:
    if isinstance(element, Message):
        copied = type(element)()
        copied.CopyFrom(element)
        return copied
    return element


def _put(held: Any, place: int, element: Any) -> None:
    if isinstance(element, Message):
        held[place].CopyFrom(element)
    else:
        held[place] = element


def _bytes(before: Any, dice: Random) -> bytes:
    data = before or b""
    return dice.choice([b"", data[:-1], data + b"\0", data * 2, dice.randbytes(len(data) or 8), scrambled(data, dice), b"\xff" * len(data)])


def _string(before: Any, dice: Random) -> str:
    return dice.choice([*STRINGS, (before or "") + "x", (before or "")[:-1], str(before).upper()])


_MAKERS: dict[int, Callable[[Any, Random], Any]] = {
    Field.TYPE_STRING: _string,
    Field.TYPE_BYTES: _bytes,
    Field.TYPE_BOOL: lambda before, dice: not before,
    Field.TYPE_DOUBLE: lambda before, dice: dice.choice(DOUBLES),
    Field.TYPE_UINT32: lambda before, dice: dice.choice([number for number in INTEGERS if number < 2**32]),
    Field.TYPE_UINT64: lambda before, dice: dice.choice(INTEGERS + HUGE),
    Field.TYPE_INT32: lambda before, dice: dice.choice([1, -1]) * dice.choice([number for number in INTEGERS if number < 2**31]),
    Field.TYPE_INT64: lambda before, dice: dice.choice([1, -1]) * dice.choice(INTEGERS),
    Field.TYPE_ENUM: lambda before, dice: dice.choice([-1, 0, 1, 2, 3, 5, 77, 114, 120, 2**31 - 1, -(2**31)]),
}


_LARGEST = {Field.TYPE_UINT32: 2**32 - 1, Field.TYPE_UINT64: 2**64 - 1, Field.TYPE_INT32: 2**31 - 1, Field.TYPE_INT64: 2**63 - 1}


def _value(field: Field, before: Any, dice: Random) -> Any:
    """A value that may be wrong; for opcodes mostly another one that there is, so that what is wrong lies deeper."""
    if field.enum_type is graph_pb2.Opcode.DESCRIPTOR and dice.random() < 0.7:
        return dice.choice(graph_pb2.Opcode.values())
    if before is not None and field.type in _LARGEST and dice.random() < 0.4:
        return min(max(0, before + dice.choice([-1, 1])), _LARGEST[field.type])
    return _MAKERS[field.type](before, dice)
