"""Who contributes to which step: the state machine of a run, driven by events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sumgrad_server.runs.machine import Begin, Combine, End, Left, Machine, Rules, Seated, violations

MADE: list[Machine] = []


@pytest.fixture(autouse=True)
def sound() -> Iterator[None]:
    """Whatever a test does to its machines, nothing is wrong with them in the end."""
    MADE.clear()
    yield
    for machine in MADE:
        assert violations(machine) == []


def machine_of(**rules: Any) -> Machine:
    MADE.append(Machine(Rules(**rules)))
    return MADE[-1]


def carried_out(machine: Machine, now: float = 0.0) -> list[object]:
    """The instructions, each of which succeeds."""
    done: list[object] = []
    while machine.instructions:
        assert violations(machine) == []
        instruction = machine.instructions.pop(0)
        done.append(instruction)
        if isinstance(instruction, Begin):
            machine.began(now)
        elif isinstance(instruction, Combine):
            machine.committed(instruction, now)
    return done


def running(members: int, **rules: Any) -> Machine:
    """A machine at its first step, whose members are 0, 1, ..."""
    machine = machine_of(members=members, **rules)
    for number in range(members):
        machine.join(f"m{number}", f"s{number}", 0.0)
    carried_out(machine)
    return machine


def give(machine: Machine, number: int, part: object = None, now: float = 0.0) -> str:
    """A contribution to the current attempt, computed at once."""
    step, attempt = machine.step, machine.attempt
    verdict = machine.take(number, step, attempt, now)
    if verdict == "take":
        machine.contributed(number, step, attempt, part, now)
    return verdict


def test_a_run_waits_until_its_members_are_there() -> None:
    """With one of two it waits; with two the first attempt of step 0 begins, and is on the disk before anybody is asked."""
    machine = machine_of(members=2)
    assert machine.join("a", "s", 0.0) == 0
    assert carried_out(machine) == [Seated(0, "a", "s")]
    assert machine.state == "waiting"
    assert machine.join("b", "t", 0.0) == 1
    assert machine.instructions == [Seated(1, "b", "t"), Begin(0, 0, (0, 1))]
    assert machine.state == "waiting"
    carried_out(machine)
    assert machine.state == "running"


def test_all_contributions_make_a_step_in_the_order_of_members() -> None:
    """Whoever comes first: the parts are in the order of the members' numbers."""
    machine = running(3)
    for number in (2, 0, 1):
        assert give(machine, number, f"part {number}") == "take"
    [combine] = carried_out(machine)
    assert isinstance(combine, Combine)
    assert list(combine.parts.items()) == [(0, "part 0"), (1, "part 1"), (2, "part 2")]
    assert (machine.step, machine.attempt, machine.members) == (1, 0, (0, 1, 2))


def test_a_contribution_counts_once() -> None:
    """Sent again while it is computed, and after that, it is not taken again."""
    machine = running(2)
    assert machine.take(0, 0, 0, 0.0) == "take"
    assert machine.take(0, 0, 0, 0.0) == "again"
    machine.contributed(0, 0, 0, "first", 0.0)
    assert machine.take(0, 0, 0, 0.0) == "again"
    machine.contributed(0, 0, 0, "second", 0.0)
    assert machine.given == {0: "first"}


@pytest.mark.parametrize(("number", "step", "attempt"), [(0, 1, 0), (0, 0, 1), (7, 0, 0), (0, -1, 0)])
def test_contributions_to_other_attempts_are_stale(number: int, step: int, attempt: int) -> None:
    """Another step, another attempt, another run's member."""
    assert running(2).take(number, step, attempt, 0.0) == "stale"


def test_a_failed_contribution_may_come_again() -> None:
    """What could not be computed leaves its place open."""
    machine = running(1)
    assert machine.take(0, 0, 0, 0.0) == "take"
    machine.failed(0, 0, 0, 0.0)
    assert give(machine, 0) == "take"
    assert len(carried_out(machine)) == 1


def test_a_lost_member_makes_the_step_begin_anew() -> None:
    """Its lease runs out before it has contributed: what others gave is void, and the next attempt is theirs alone."""
    machine = running(3, lease=10.0)
    give(machine, 0, "void")
    for number in (0, 1):
        assert machine.heard(number, f"s{number}", 8.0) == "seated"
    machine.tick(11.0)
    assert carried_out(machine) == [Left(2), Begin(0, 1, (0, 1))]
    assert (machine.given, machine.state) == ({}, "running")
    assert machine.heard(2, "s2", 11.0) == "left"
    assert machine.take(0, 0, 0, 11.0) == "stale"


def test_who_has_contributed_is_not_waited_for_again() -> None:
    """A member that is lost after its contribution is in: it counts, and the next step goes on without it."""
    machine = running(2, lease=10.0)
    give(machine, 1, "mine")
    machine.heard(0, "s0", 8.0)
    machine.tick(11.0)
    assert carried_out(machine) == [Left(1)]
    give(machine, 0, "yours", 12.0)
    [combine] = carried_out(machine)
    assert isinstance(combine, Combine)
    assert combine.parts == {0: "yours", 1: "mine"}
    assert combine.next_members == (0,)


def test_a_seat_is_kept_while_its_contribution_is_computed() -> None:
    """However long that takes: it is the service that computes."""
    machine = running(1, lease=10.0, step_timeout=1.0)
    machine.take(0, 0, 0, 0.0)
    machine.tick(1000.0)
    assert not machine.instructions
    machine.contributed(0, 0, 0, "late", 1000.0)
    assert isinstance(carried_out(machine, 1000.0)[0], Combine)


def test_a_step_waits_so_long_and_no_longer() -> None:
    """A member that is there but doesn't contribute loses its seat, counted from the first contribution of the others."""
    machine = running(2, lease=10.0, step_timeout=5.0)
    for now in range(1, 20):
        machine.heard(0, "s0", now)
        machine.heard(1, "s1", now)
        machine.tick(now)
    assert not machine.instructions
    give(machine, 0, now=20.0)
    machine.heard(1, "s1", 24.0)
    machine.tick(24.0)
    assert not machine.instructions
    machine.tick(25.5)
    assert carried_out(machine) == [Left(1), Begin(0, 1, (0,))]


def test_with_too_few_members_a_run_waits_and_goes_on_when_there_are_enough() -> None:
    """Below min_members nobody is asked; with enough of them the same step begins anew."""
    machine = running(3, min_members=2)
    machine.leave(0, 0.0)
    machine.leave(1, 0.0)
    assert carried_out(machine) == [Left(0), Begin(0, 1, (1, 2)), Left(1), Begin(0, 2, ())]
    assert machine.state == "waiting"
    machine.join("late", "s", 0.0)
    assert carried_out(machine) == [Seated(3, "late", "s"), Begin(0, 3, (2, 3))]


def test_who_comes_late_takes_part_from_the_next_step_on() -> None:
    """The current step is not disturbed."""
    machine = running(1)
    assert machine.join("late", "s", 0.0) == 1
    carried_out(machine)
    assert machine.take(1, 0, 0, 0.0) == "stale"
    give(machine, 0)
    carried_out(machine)
    assert (machine.step, machine.members) == (1, (0, 1))


def test_joining_again_takes_the_seat_over() -> None:
    """Under the same name the number stays, and the session before is told that another one is there; what it gave counts."""
    machine = running(2)
    give(machine, 0)
    assert machine.join("m0", "new", 0.0) == 0
    assert machine.heard(0, "s0", 0.0) == "superseded"
    assert machine.heard(0, "new", 0.0) == "seated"
    assert machine.take(0, 0, 0, 0.0) == "again"
    assert carried_out(machine) == [Seated(0, "m0", "new")]


def test_nothing_changes_while_a_step_is_on_its_way_to_the_disk() -> None:
    """Who leaves then has contributed; the step after begins anew without it."""
    machine = running(2)
    give(machine, 0)
    give(machine, 1)
    [combine] = machine.instructions
    machine.instructions.clear()
    assert isinstance(combine, Combine)
    machine.leave(1, 0.0)
    machine.tick(0.0)
    assert machine.instructions == [Left(1)]
    machine.committed(combine, 0.0)
    assert carried_out(machine) == [Left(1), Begin(1, 1, (0,))]


def test_a_run_ends_after_its_steps() -> None:
    """The last step has nobody after it, and everything that comes then is stale."""
    machine = running(1, max_steps=2)
    give(machine, 0)
    carried_out(machine)
    give(machine, 0)
    *_, combine, end = carried_out(machine)
    assert isinstance(combine, Combine)
    assert (combine.next_members, end) == ((), End("finished"))
    assert machine.over
    assert give(machine, 0) == "stale"


def test_a_run_is_stopped_after_the_step_that_is_on_its_way() -> None:
    """That one counts; nobody is asked for another."""
    machine = running(1)
    give(machine, 0)
    machine.stop()
    *_, end = carried_out(machine)
    assert end == End("stopped")
    assert machine.step == 1
    idle = running(2)
    idle.stop()
    assert carried_out(idle) == [End("stopped")]


def test_a_lease_begins_anew_when_what_was_computed_is_given_up() -> None:
    """Nobody listened to the member while its sum was computed: it has its whole lease to be heard in."""
    machine = running(2, min_members=1, lease=10.0)
    assert machine.take(0, 0, 0, 1.0) == "take"
    machine.leave(1, 60.0)
    carried_out(machine, 60.0)
    machine.tick(65.0)
    assert list(machine.seats) == [0]
    assert (machine.attempt, machine.members) == (1, (0,))


def test_nobody_waits_for_a_contribution_that_has_failed() -> None:
    """The time that a step may take begins with a contribution that counts: without any, members lose nothing but their lease."""
    machine = running(1, step_timeout=10.0, lease=1000.0)
    assert machine.take(0, 0, 0, 1.0) == "take"
    machine.failed(0, 0, 0, 2.0)
    machine.tick(60.0)
    assert list(machine.seats) == [0]
    assert (machine.attempt, machine.members) == (0, (0,))


class Looked(tuple[int, ...]):
    """Members that count how often somebody goes through them."""

    __slots__ = ()
    times = 0

    def __iter__(self) -> Iterator[int]:
        Looked.times += 1
        return super().__iter__()

    def __contains__(self, number: object) -> bool:
        Looked.times += 1
        return super().__contains__(number)


def test_a_contribution_is_no_reason_to_look_at_all_members() -> None:
    """Each of a thousand members would otherwise be looked at a thousand times in each step."""
    machine = running(1000)
    machine.members = Looked(machine.members)
    for number in range(999):
        assert machine.awaits(number)
        assert give(machine, number) == "take"
        assert give(machine, number) == "again"
        assert machine.doing(number) == "done"
    assert machine.doing(999) == "working"
    assert give(machine, 1000) == "stale"
    assert Looked.times == 0
    give(machine, 999)
    assert [type(each) for each in carried_out(machine)] == [Combine]
