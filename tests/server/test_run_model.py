"""Every order of events in small runs: two members, two steps, and a crash, a loss, a duplicate, a failed sum, a leaver where it hurts most.

The state machine and the book of a run are the real ones. The world around them is a model: members that know their turn, a network that loses and
repeats, sums that take their time, a disk that keeps records in their order. All of its states are visited, breadth first. In each of them nothing may be wrong; and from each of
them a way leads to the end of the run without further faults.

With a crash or a restart beside a leaver there are a million states of two steps: sums are made at once there, and take their time in one step.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import pytest
from sumgrad_engine.layout import Layout
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.runs.book import Book, Made
from sumgrad_server.runs.machine import Begin, Combine, Left, Machine, Seat, Seated, violations
from sumgrad_server.runs.records import Began, GaveUp, Joined, Over, Record, Stepped, decode, encode

NAMES = ("a", "b")
Part: TypeAlias = tuple[int, int]
"""What a member contributes: its rank, of so many."""
Sent: TypeAlias = tuple[int, int, int, Part]
"""A contribution on its way: from which member, to which step and attempt."""
Turn: TypeAlias = tuple[int, int, tuple[int, ...]]


def made(min_members: int, steps: int) -> Made:
    specification = wire.RunSpecification(members=2, min_members=min_members, max_steps=steps, lease_seconds=1.0, step_timeout_seconds=1.0)
    return Made("id", "default", "run", specification, Layout((), (("w", ()),)), 0)


@dataclass(frozen=True)
class Member:
    """What a member knows: its seat, its turn, and the steps that it was told of."""

    number: int | None = None
    turn: Turn | None = None
    told: int = 0


@dataclass(frozen=True)
class World:
    """One state of everything.

    `disk` has the records as bytes; `computing` are the contributions that were taken and are being computed; `faults` are those that may still
    happen, by name. If sums are made `at_once` nothing happens while one is being computed.
    """

    machine: Machine
    disk: tuple[bytes, ...]
    members: tuple[Member, ...]
    network: frozenset[Sent]
    computing: tuple[Sent, ...]
    faults: tuple[tuple[str, int], ...]
    at_once: bool

    @property
    def key(self) -> object:
        """What tells two states apart."""
        machine = self.machine
        seats = tuple(sorted((number, seat.session) for number, seat in machine.seats.items()))
        told = (machine.state, machine.step, machine.attempt, machine.members, seats, tuple(machine.names), machine.busy)
        work = (tuple(sorted(machine.given.items())), frozenset(machine.taken), tuple(map(repr, machine.instructions)))
        return told, work, self.disk, self.members, self.network, self.computing, self.faults

    def left(self, fault: str) -> int:
        """How often a fault may still happen."""
        return dict(self.faults)[fault]

    def without(self, fault: str) -> World:
        """One fault fewer to come, and a machine of its own."""
        faults = tuple((name, count - (name == fault)) for name, count in self.faults)
        return replace(self, machine=copied(self.machine), faults=faults)

    def own(self) -> World:
        """The same with a machine of its own."""
        return replace(self, machine=copied(self.machine))

    def with_member(self, which: int, member: Member) -> World:
        """With this member as it is now."""
        return replace(self, members=tuple(member if position == which else old for position, old in enumerate(self.members)))


def copied(machine: Machine) -> Machine:
    seats = {number: Seat(seat.name, seat.session, seat.heard) for number, seat in machine.seats.items()}
    given, taken, instructions = dict(machine.given), set(machine.taken), list(machine.instructions)
    return replace(machine, seats=seats, names=dict(machine.names), given=given, taken=taken, instructions=instructions)


@lru_cache(maxsize=1 << 16)
def read_again(disk: tuple[bytes, ...], about: Made) -> Book:
    """What the records on a disk come to; each step is there once, in order."""
    if not disk:
        return Book.new(about, np.zeros(1), 10)
    book = copy.deepcopy(read_again(disk[:-1], about))
    record = decode(disk[-1])
    if isinstance(record, Stepped):
        assert record.step == book.step, "each step is on the disk once, in order"
    book.apply(record)
    return book


def own_turn(world: World, which: int) -> Turn | None:
    """What the server would tell this member now."""
    machine, number = world.machine, world.members[which].number
    waits = number in machine.members and number not in machine.given and number not in machine.taken and not machine.busy
    return (machine.step, machine.attempt, machine.members) if waits else None


def carried_out(world: World) -> World:
    """The next instruction: onto the disk, and then what follows."""
    found = world.own()
    instruction = found.machine.instructions.pop(0)
    record: Record
    match instruction:
        case Seated(number, name, session):
            record = Joined(number, name, session)
            which = NAMES.index(name)
            found = found.with_member(which, Member(number, None, found.members[which].told))
        case Begin(step, attempt, members):
            record = Began(step, attempt, members)
            found.machine.began(0.0)
        case Combine():
            samples = tuple(1 for _ in instruction.parts)
            check_parts(instruction)
            record = Stepped(
                instruction.step, instruction.attempt, tuple(instruction.parts), samples, 0.0, instruction.next_members, np.ones(2)
            )
            found.machine.committed(instruction, 0.0)
        case Left(number):
            record = GaveUp(number)
        case _:
            record = Over(instruction.state)
    return replace(found, disk=(*found.disk, b"".join(encode(record))))


def check_parts(instruction: Combine) -> None:
    """Every sample of the step's batch counts once: the parts are those of ranks 0, 1, ... of as many as there are."""
    assert list(instruction.parts.values()) == [(rank, len(instruction.parts)) for rank in range(len(instruction.parts))]


def moves(world: World, about: Made) -> Iterator[tuple[str, World]]:
    """What may happen next without a fault."""
    if world.machine.instructions:
        yield "carry out", carried_out(world)
    for which, member in enumerate(world.members):
        if member.number not in world.machine.seats and not waiting_for_seat(world, which) and not world.machine.over:
            found = world.own()
            found.machine.join(NAMES[which], f"{NAMES[which]}", 0.0)
            yield "join", found
        turn = own_turn(world, which)
        if turn is not None and turn != member.turn:
            yield "hear", world.with_member(which, replace(member, turn=turn, told=max(member.told, turn[0])))
        if member.turn is not None and member.number is not None:
            yield "send", replace(world, network=world.network | {contribution(member.number, member.turn)})
    for sent in world.network:
        yield "deliver", delivered(world, sent)
    for sent in world.computing:
        yield "computed", computed(world, sent)


def waiting_for_seat(world: World, which: int) -> bool:
    return any(isinstance(instruction, Seated) and instruction.name == NAMES[which] for instruction in world.machine.instructions)


def contribution(number: int, turn: Turn) -> Sent:
    step, attempt, members = turn
    return number, step, attempt, (members.index(number), len(members))


def delivered(world: World, sent: Sent, *, gone: bool = True) -> World:
    number, step, attempt, _ = sent
    found = world.own()
    taken = number in found.machine.seats and found.machine.take(number, step, attempt, 0.0) == "take"
    computing = tuple(sorted((*found.computing, sent))) if taken else found.computing
    found = replace(found, network=found.network - {sent} if gone else found.network, computing=computing)
    return computed(found, sent) if taken and found.at_once else found


def computed(world: World, sent: Sent) -> World:
    """A sum is there: of the attempt that it was taken for, or of one that has come to nothing."""
    number, step, attempt, part = sent
    found = world.own()
    found.machine.contributed(number, step, attempt, part, 0.0)
    return without_work(found, sent)


def without_work(world: World, sent: Sent) -> World:
    place = world.computing.index(sent)
    return replace(world, computing=world.computing[:place] + world.computing[place + 1 :])


def faults(world: World, about: Made) -> Iterator[World]:
    """What may go wrong next. What is lost on the network needs no event of its own: it need not arrive."""
    if world.left("crash"):
        for kept in (world, *([half_carried_out(world)] if world.machine.instructions else [])):
            book = read_again(kept.disk, about)
            yield replace(kept.without("crash"), machine=book.machine(0.0), network=world.network, computing=())
    if world.left("duplicate"):
        for sent in world.network:
            yield delivered(world, sent, gone=False).without("duplicate")
    if world.left("failure"):
        for sent in world.computing:
            found = world.without("failure")
            found.machine.failed(*sent[:3], 0.0)
            yield without_work(found, sent)
    for which, member in enumerate(world.members):
        if world.left("leave") and member.number in world.machine.seats:
            found = world.without("leave")
            found.machine.leave(member.number, 0.0)
            yield found
        if world.left("restart") and member.number in world.machine.seats and not waiting_for_seat(world, which):
            found = world.without("restart")
            found.machine.join(NAMES[which], f"{NAMES[which]}+", 0.0)
            yield found.with_member(which, Member(None, None, member.told))


def half_carried_out(world: World) -> World:
    """The record is on the disk, and nobody has heard of it."""
    done = carried_out(world)
    return replace(world, disk=done.disk)


def sound(world: World, about: Made) -> None:
    """What holds in every state."""
    machine = world.machine
    assert violations(machine) == []
    now = [number for number, step, attempt, _ in world.computing if machine.is_now(step, attempt)]
    assert sorted(machine.taken) == now, "what is being computed for an attempt is known, and is computed once"
    book = read_again(world.disk, about)
    assert max(member.told for member in world.members) <= book.step, "nobody hears of a step that is not on the disk"
    if not world.machine.instructions:
        assert (book.step, book.attempt, book.members) == (world.machine.step, world.machine.attempt, world.machine.members)
        assert set(book.sessions) == set(world.machine.seats)


def check_begun_anew(before: World, after: World) -> None:
    """A step begins anew only for want of a member: not for one whose contribution is there, or being computed."""
    old, new = before.machine, after.machine
    if old.members and (new.step, new.attempt) == (old.step, old.attempt + 1):
        coming = {number for number, step, attempt, _ in after.computing if (step, attempt) == (old.step, old.attempt)}
        assert set(old.members) - new.seats.keys() - old.given.keys() - coming


def explored(start: World, about: Made) -> tuple[int, int]:
    """Visits all states; returns how many there are, and how many of them are ends of the run."""
    known: dict[object, int] = {start.key: 0}
    back: list[list[int]] = [[]]
    line, ends = deque([start]), list[int]()
    while line:
        world = line.popleft()
        here = known[world.key]
        sound(world, about)
        if world.machine.over and not world.machine.instructions:
            ends.append(here)
        calm = [after for _, after in moves(world, about)]
        for after, is_calm in (*((w, True) for w in calm), *((w, False) for w in faults(world, about))):
            if after.left("crash") == world.left("crash"):
                check_begun_anew(world, after)
            key = after.key
            if key not in known:
                known[key] = len(known)
                back.append([])
                line.append(after)
            if is_calm:
                back[known[key]].append(here)
    assert len(reaching(ends, back)) == len(known), "from every state a way leads to the end without further faults"
    return len(known), len(ends)


def reaching(ends: Iterable[int], back: list[list[int]]) -> set[int]:
    found, line = set(ends), list(ends)
    while line:
        for before in back[line.pop()]:
            if before not in found:
                found.add(before)
                line.append(before)
    return found


@pytest.mark.parametrize("min_members", [1, 2])
@pytest.mark.parametrize(
    ("allowed", "steps", "at_once"),
    [
        ("", 2, False),
        ("crash", 2, False),
        ("duplicate", 2, False),
        ("failure", 2, False),
        ("leave", 2, False),
        ("restart", 2, False),
        ("crash duplicate", 2, False),
        ("crash leave", 2, True),
        ("crash leave", 1, False),
        ("failure leave", 1, False),
        ("leave restart", 2, True),
        ("leave restart", 1, False),
    ],
)
def test_every_order_of_events(allowed: str, steps: int, at_once: bool, min_members: int) -> None:
    """Nothing is wrong in any state that two members can reach with one of each of these faults, and from each of them the run can end."""
    about = made(min_members, steps)
    budget = tuple((name, int(name in allowed.split())) for name in ("crash", "duplicate", "failure", "leave", "restart"))
    start = World(Machine(about.rules), (), (Member(), Member()), frozenset(), (), budget, at_once)
    states, ends = explored(start, about)
    assert ends
    print(f"{states} states, {ends} ends")
