"""How the runs stand, for those who look: facts alone, made when somebody asks. Nothing here waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .book import Line
from .machine import Doing, State
from .run import Run


@dataclass(frozen=True)
class MemberCensus:
    """One that ever joined; `silent` are the seconds since it was last heard, 0 if it has no seat."""

    number: int
    name: str
    doing: Doing
    steps: int
    samples: int
    silent: float


@dataclass(frozen=True)
class RunCensus:
    """A run. `lines` is the ledger as far as it is kept, `trouble` is why it does not go on, empty if it does."""

    id: str
    namespace: str
    name: str
    update: str
    state: State
    step: int
    attempt: int
    max_steps: int | None
    wanted_members: int
    samples: int
    trouble: str
    members: Sequence[MemberCensus]
    lines: Sequence[Line]


def census_of(run: Run, now: float) -> RunCensus:
    """How a run stands at a time of its clock. A record may be on its way into the book just now, in another thread: each fact is true, maybe not together."""
    book, made = run.book, run.book.made
    return RunCensus(
        id=made.id,
        namespace=made.namespace,
        name=made.name,
        update=made.update,
        state=book.state,
        step=book.step,
        attempt=book.attempt,
        max_steps=made.rules.max_steps,
        wanted_members=made.rules.members,
        samples=book.samples,
        trouble=run.trouble,
        members=tuple(_members(run, now)),
        lines=list(book.ledger),
    )


def _members(run: Run, now: float) -> Iterable[MemberCensus]:
    machine = run.machine
    for number, (name, tally) in enumerate(zip(run.book.names, run.book.tallies, strict=False)):
        seat = machine.seats.get(number)
        silent = max(0.0, now - seat.heard) if seat is not None else 0.0
        yield MemberCensus(number, name, machine.doing(number), tally.steps, tally.samples, silent)
