"""Who contributes to which step of a run: a state machine without IO. Events go in, instructions come out, and nothing else happens.

A member has a seat, with a lease. Each step has attempts, and each attempt its members, settled before anybody is asked: a contribution counts for the
attempt that it names, once, and the step is made of the contributions of all members of one attempt, in the order of their numbers. If a member
loses its seat before it has contributed, the step begins anew with those that are there. So what a step sums is settled by (step, attempt), which
are on the disk before members hear of them: whatever is lost, sent twice or computed twice, a sample counts once.

Who comes late takes part from the next step on. With fewer than `min_members` a run waits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["waiting", "running", "finished", "stopped"]
Verdict: TypeAlias = Literal["take", "again", "stale"]
"""Of a contribution: it is to be taken; it was taken before; it is for another attempt."""
Doing: TypeAlias = Literal["working", "done", "joined", "left"]
"""What a member does: the step waits for it, or no longer; it takes part from the next step on; it has no seat."""
Standing: TypeAlias = Literal["seated", "superseded", "left"]
"""Of a session: its member has the seat; another session took it over; the seat is given up."""

UNBEGUN = -1
"""The attempt of a step that nobody was asked to contribute to."""


@dataclass(frozen=True)
class Rules:
    """What was agreed when the run was made. Times are in seconds."""

    members: int = 1
    min_members: int = 1
    lease: float = 60.0
    step_timeout: float = 600.0
    max_steps: int | None = None


@dataclass
class Seat:
    """A member's."""

    name: str
    session: str
    heard: float


@dataclass(frozen=True)
class Seated:
    """A member has a seat: put that on the disk, and tell it."""

    number: int
    name: str
    session: str


@dataclass(frozen=True)
class Begin:
    """Put on the disk who the members of this attempt are (none: the run waits), and call `began`. Then it is their turn."""

    step: int
    attempt: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class Combine:
    """All have contributed: sum, step, put it on the disk with the members of the next step (none: it waits, or is over), and call `committed`."""

    step: int
    attempt: int
    parts: Mapping[int, Any]
    next_members: tuple[int, ...]


@dataclass(frozen=True)
class Left:
    """A seat is given up."""

    number: int


@dataclass(frozen=True)
class End:
    """The run is over."""

    state: State


Instruction: TypeAlias = Seated | Begin | Combine | Left | End


@dataclass
class Machine:
    """A run. Times are those of a clock that never goes back; what is done about the instructions is told in their order."""

    rules: Rules
    state: State = "waiting"
    step: int = 0
    attempt: int = UNBEGUN
    members: tuple[int, ...] = ()
    seats: dict[int, Seat] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)  # of all that ever joined
    given: dict[int, Any] = field(default_factory=dict)  # contributions to the attempt
    taken: set[int] = field(default_factory=set)  # whose contributions are being computed
    busy: bool = False  # with a Begin or a Combine
    instructions: list[Instruction] = field(default_factory=list)
    _first: float | None = None  # when the first contribution to the attempt came
    _stopping: bool = False

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.state in ("finished", "stopped")

    def doing(self, number: int) -> Doing:
        """What a member does that has joined."""
        if number in self.given or number in self.taken:
            return "done"
        if number not in self.seats:
            return "left"
        return "working" if self.has(number) else "joined"

    def has(self, number: int) -> bool:
        """Whether one is a member of the attempt."""
        place = bisect_left(self.members, number)
        return self.members[place : place + 1] == (number,)

    def awaits(self, number: int) -> bool:
        """Whether a member has yet to contribute to the attempt."""
        return self.has(number) and number not in self.given and number not in self.taken

    def join(self, name: str, session: str, now: float) -> int:
        """Gives a member a seat, or its seat to another session. Returns its number."""
        number = self.names.setdefault(name, len(self.names))
        self.seats[number] = Seat(name, session, now)
        self.instructions.append(Seated(number, name, session))
        self.settle(now)
        return number

    def leave(self, number: int, now: float) -> None:
        """A member goes."""
        if self.seats.pop(number, None) is not None:
            self.instructions.append(Left(number))
        self.settle(now)

    def heard(self, number: int, session: str, now: float) -> Standing:
        """A member is there."""
        seat = self.seats.get(number)
        if seat is None:
            return "left"
        if seat.session != session:
            return "superseded"
        seat.heard = now
        return "seated"

    def take(self, number: int, step: int, attempt: int, now: float) -> Verdict:
        """A contribution has come, and is to be computed if the verdict is "take": then `contributed` or `failed` follows."""
        if not self.is_now(step, attempt) or not self.has(number):
            return "stale"
        if number in self.given or number in self.taken:
            return "again"
        self.taken.add(number)
        if self._first is None:
            self._first = now
        return "take"

    def contributed(self, number: int, step: int, attempt: int, part: Any, now: float) -> None:
        """A contribution that was taken is computed."""
        if self.is_now(step, attempt) and number in self.taken:
            self.taken.remove(number)
            self.given[number] = part
            self._renew(number, now)
            # Before the last one nothing follows from a contribution; looking for each of them at all would take the square of their number.
            if len(self.given) == len(self.members):
                self.settle(now)

    def failed(self, number: int, step: int, attempt: int, now: float) -> None:
        """A contribution that was taken has come to nothing: it may come again."""
        if self.is_now(step, attempt):
            self.taken.discard(number)
            if not (self.given or self.taken):
                self._first = None
            self._renew(number, now)
            self.settle(now)

    def began(self, now: float) -> None:
        """The Begin is on the disk."""
        self.busy = False
        if not self.over:
            self.state = "running" if self.members else "waiting"
        self.settle(now)

    def committed(self, combined: Combine, now: float) -> None:
        """The step is on the disk."""
        self.busy = False
        self.step = combined.step + 1
        self._open(0 if combined.next_members else UNBEGUN, combined.next_members)
        if self.step == self.rules.max_steps:
            self._end("finished")
        elif self._stopping:
            self._end("stopped")
        elif not self.members:
            self.state = "waiting"
        self.settle(now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        self._expire(now)
        if not self.busy and self._first is not None and now - self._first > self.rules.step_timeout:
            for number in set(self.members) - self.given.keys() - self.taken:
                self._vacate(number)
        self.settle(now)

    def stop(self) -> None:
        """Ends the run; a step that is on its way to the disk is the last one."""
        self._stopping = True
        if not (self.busy or self.over):
            self._end("stopped")

    def settle(self, now: float) -> None:
        """Goes on, if what has happened allows or asks for it."""
        if self.busy or self.over:
            return
        if self._stopping:
            self._end("stopped")
        elif not self.members:
            if len(self.seats) >= self._needed():
                self._begin(sorted(self.seats), now)
        elif len(self.given) == len(self.members):
            self._combine(now)
        elif set(self.members) - self.seats.keys() - self.given.keys() - self.taken:
            self._begin(self._present(), now)

    def _renew(self, number: int, now: float) -> None:
        """Begins a member's lease anew: what it sends is not looked at while its contribution is computed."""
        if number in self.seats:
            self.seats[number].heard = now

    def is_now(self, step: int, attempt: int) -> bool:
        """Whether this is the attempt that contributions are wanted for."""
        return (step, attempt) == (self.step, self.attempt) and not self.over

    def _needed(self) -> int:
        started = self.step or self.attempt > UNBEGUN
        return self.rules.min_members if started else self.rules.members

    def _present(self) -> list[int]:
        """Who is there, if they are enough to go on."""
        return sorted(self.seats) if len(self.seats) >= self.rules.min_members else []

    def _begin(self, members: Iterable[int], now: float) -> None:
        self.busy = True
        for number in self.taken:  # what was being computed for them is given up
            self._renew(number, now)
        self._open(self.attempt + 1, tuple(members))
        self.instructions.append(Begin(self.step, self.attempt, self.members))

    def _open(self, attempt: int, members: tuple[int, ...]) -> None:
        self.attempt, self.members, self._first = attempt, members, None
        self.given, self.taken = {}, set()

    def _combine(self, now: float) -> None:
        self.busy = True
        self._expire(now)
        last = self.step + 1 == self.rules.max_steps
        parts = {number: self.given[number] for number in self.members}
        self.instructions.append(Combine(self.step, self.attempt, parts, () if last else tuple(self._present())))

    def _expire(self, now: float) -> None:
        """Gives up the seats of members that were not heard from. What one has sent is not given up."""
        for number, seat in list(self.seats.items()):
            if now - seat.heard > self.rules.lease and number not in self.taken:
                self._vacate(number)

    def _vacate(self, number: int) -> None:
        if self.seats.pop(number, None) is not None:
            self.instructions.append(Left(number))

    def _end(self, state: State) -> None:
        self.state = state
        self._open(UNBEGUN, ())
        self.instructions.append(End(state))


def violations(machine: Machine) -> list[str]:
    """What is wrong with a machine, whatever has happened to it: nothing."""
    found = {
        "members are in rising order": list(machine.members) != sorted(set(machine.members)),
        "members have joined": not set(machine.members) <= set(machine.names.values()),
        "seats belong to those that joined": any(machine.names.get(seat.name) != number for number, seat in machine.seats.items()),
        "only members contribute": not (machine.given.keys() | machine.taken) <= set(machine.members),
        "a contribution counts once": bool(machine.given.keys() & machine.taken),
        "a complete step is made": bool(machine.members) and len(machine.given) == len(machine.members) and not machine.busy,
        "a run that is over asks nobody": machine.over and bool(machine.members),
        "a run goes on with enough members": machine.state == "running" and 0 < len(machine.members) < machine.rules.min_members,
        "a run ends in time": machine.rules.max_steps is not None and machine.step > machine.rules.max_steps,
    }
    return [rule for rule, broken in found.items() if broken]
