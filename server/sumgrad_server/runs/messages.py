"""Runs on the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.types import Array
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

from .. import codec
from .book import Book, Line, split
from .machine import Machine

STATES = {
    "waiting": wire.RUN_STATE_WAITING,
    "running": wire.RUN_STATE_RUNNING,
    "finished": wire.RUN_STATE_FINISHED,
    "stopped": wire.RUN_STATE_STOPPED,
}
MEMBER_STATES = {
    "working": wire.MEMBER_STATE_WORKING,
    "done": wire.MEMBER_STATE_DONE,
    "joined": wire.MEMBER_STATE_JOINED,
    "left": wire.MEMBER_STATE_LEFT,
}


def flat(vector: Vector) -> bytes:
    """A flat vector as it is sent."""
    return vector.astype("<f8", copy=False).tobytes()


def turn(book: Book) -> bytes:
    """What tells the members of the current attempt that it is their turn: a StepResponse, the same for all of them."""
    message = wire.Turn(
        step=book.step, attempt=max(0, book.attempt), members=book.members, parameters=flat(book.vector), committed=committed(book)
    )
    return wire.StepResponse(turn=message).SerializeToString()


def ended(book: Book) -> bytes:
    """What tells a member that it is over, for all or for this one: a StepResponse."""
    message = wire.Ended(state=STATES[book.state], step=book.step, parameters=flat(book.vector), committed=committed(book))
    return wire.StepResponse(ended=message).SerializeToString()


def committed(book: Book) -> wire.Committed | None:
    """What came of the last step, if there was one."""
    if not book.ledger:
        return None
    gradient = b"" if book.gradient is None else flat(book.gradient)
    return wire.Committed(record=line(book.ledger[-1], book.made.layout), gradient=gradient)


def line(of: Line, layout: Layout) -> wire.StepRecord:
    """A line of the ledger."""
    return wire.StepRecord(
        step=of.step,
        attempt=of.attempt,
        value=of.sums[0],
        metrics=codec.encode_arrays(split(of.sums[1:], layout.metrics)) if layout.metrics else (),
        sample_count=sum(samples := of.samples.tolist()),
        members=of.members.tolist(),
        member_samples=samples,
        committed=of.seconds,
    )


def with_lines(message: wire.GetRunResponse | wire.RunProgress, field: str, lines: Sequence[Line], layout: Layout) -> bytes:
    """A message as it is sent, with lines of the ledger in one of its fields.

    Messages one after the other are one, to which each adds what it has of such a field. Line by line, since a call of protobuf's lets nobody else run until
    it is done, in whatever thread.
    """
    kind: Any = type(message)
    parts = (kind(**{field: [line(of, layout)]}).SerializeToString() for of in lines)
    return b"".join((message.SerializeToString(), *parts))


def parameters(book: Book) -> list[graph_pb2.NamedArray]:
    """The parameters at the current step."""
    return codec.encode_arrays(split(book.vector, book.made.layout.grads))


def describe(book: Book, machine: Machine, now: float) -> wire.Run:
    """A run, as far as it is on the disk, and who is there."""
    made = book.made
    return wire.Run(
        id=made.id,
        name=made.name,
        specification=made.specification,
        state=STATES[book.state],
        step=book.step,
        parameters=(
            graph_pb2.NamedArray(name=name, array=graph_pb2.Array(dtype=graph_pb2.DTYPE_F64, shape=shape))
            for name, shape in made.layout.grads
        ),
        members=members(book, machine, now),
        sample_count=book.samples,
        last=line(book.ledger[-1], made.layout) if book.ledger else None,
        created=made.created,
    )


def members(book: Book, machine: Machine, now: float) -> Iterable[wire.RunMember]:
    """All that ever joined, by number."""
    for number, (name, tally) in enumerate(zip(book.names, book.tallies, strict=True)):
        seat = machine.seats.get(number)
        silent = max(0.0, now - seat.heard) if seat is not None else 0.0
        state = MEMBER_STATES[machine.doing(number)]
        yield wire.RunMember(number=number, name=name, state=state, steps=tally.steps, sample_count=tally.samples, silent_seconds=silent)


def vector_of(data: bytes, length: int) -> Array | None:
    """The flat vector in these bytes; None if they are not so many numbers."""
    return np.frombuffer(data, "<f8") if len(data) == 8 * length else None
