"""Training runs on one machine while processes are killed and stopped, and the disk is full: the run ends with the bits that it must have."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import sumgrad
from sumgrad_tests import support, training
from sumgrad_tests.members import Members, training_on
from sumgrad_tests.mounts import needs_mounts, seen_by, with_mount
from sumgrad_tests.served import kill, served

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("load")]

MIB = 1 << 20
NAMES = ("ada", "bea", "cleo")
PACE = 0.005
"""Seconds that a member is busy with something else between two steps."""


@contextlib.contextmanager
def connected(server: Any) -> Iterator[sumgrad.Service]:
    with sumgrad.connect(server.address, timeout=support.PATIENCE, retry=sumgrad.Retry(attempts=1000, longest=0.2)) as service:
        yield service


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with served(tmp_path, "--workers", "1") as made:
        yield made


@pytest.fixture
def service(server: Any) -> Iterator[sumgrad.Service]:
    with connected(server) as made:
        yield made


def ended(run: Any, members: Members, steps: int) -> None:
    """Waits for the end of a run; it must be what its ledger says."""
    support.wait_until(lambda: run.info().over, "the run to end")
    members.finish(steps)
    training.check(run, steps)


def ended_undisturbed(run: Any, members: Members, steps: int) -> None:
    """Waits for the end of a run all of whose steps are made by three members; nothing may be seen of what has happened."""
    ended(run, members, steps)
    expected = training.undisturbed(steps)
    assert training.bits(run.params()) == training.bits(expected.params)
    assert [record.value for record in run.ledger()] == expected.values


def lives(folder: Path, count: int) -> Generator[tuple[int, Any, bool], None, None]:
    """Servers one after the other, with the same address and state: each with its number, and whether it is the last. The others are killed after their turn."""
    address = "127.0.0.1:0"
    for number in range(count):
        own, last = folder / f"server-{number}", number == count - 1
        own.mkdir()
        flags = ["--workers", "1", "--state-dir", str(folder / "state"), "--address", address]
        with served(own, *flags, graceful=last) as server:
            address = server.address
            yield number, server, last
            if not last:
                kill(server.pid)
                server.process.wait()


def test_server_is_killed_again_and_again(tmp_path: Path) -> None:
    """A server that is killed ten times, at moments of the training that chance decides, ends with the bits of one that was left alone."""
    steps, dice = 400, Random(12)
    with contextlib.ExitStack() as stack:
        for number, server, last in stack.enter_context(contextlib.closing(lives(tmp_path, 11))):
            if number == 0:
                run = training.create(stack.enter_context(connected(server)), "killed", steps)
                members = stack.enter_context(training_on(server.address, run, *NAMES, pace=PACE))
            if last:
                ended_undisturbed(run, members, steps)
            else:
                training.advance(run, dice.randrange(1, 30))


def test_server_is_killed_while_its_journal_goes_round(tmp_path: Path) -> None:
    """Steps of a megabyte fill the journal several times; killed in between, a server ends with the right bits, and has never held much more than one round."""
    width, steps, dice, held = 131_072, 320, Random(3), [0]
    with contextlib.ExitStack() as stack:
        thread, servers = stack.enter_context(ThreadPoolExecutor(1)), stack.enter_context(contextlib.closing(lives(tmp_path, 6)))
        for number, server, last in servers:
            if number == 0:
                service = stack.enter_context(connected(server))
                run = service.run("wide", None, sumgrad.optim.Adam(0.01), params={"w": np.zeros(width)}, max_steps=steps)
                call = thread.submit(descend, server.address)
            if last:
                assert call.result() == steps
                assert run.params()["w"].tobytes() == descended(sumgrad.optim.Adam(0.01), width, steps)
            else:
                training.advance(run, dice.randrange(20, 60))
            held.append(sum(path.stat().st_size for path in (tmp_path / "state").rglob("*") if path.is_file()))
    assert max(held) < 160 * MIB


def test_members_are_killed_and_come_back(server: Any, service: sumgrad.Service) -> None:
    """Members that are killed, some at once, and come back under their names within their leases have cost time and no bit."""
    steps, dice = 300, Random(5)
    run = training.create(service, "replaced", steps)
    with training_on(server.address, run, *NAMES, pace=PACE) as members:
        for count in (1, 2, 3, 1):
            training.advance(run, dice.randrange(5, 20))
            for name in dice.sample(NAMES, count):
                members.kill(name)
                members.start(name)
        ended_undisturbed(run, members, steps)


def test_stopped_member_is_left_behind_and_catches_up(server: Any, service: sumgrad.Service) -> None:
    """A member that is stopped for longer than its lease loses its seat, and the run goes on; woken up, it joins again by itself and takes part."""
    steps = 400
    run = training.create(service, "stopped", steps, lease=1.0)
    with training_on(server.address, run, *NAMES, pace=PACE) as members:
        training.advance(run, 10)
        number = number_of(run, "bea")
        members.signal("bea", signal.SIGSTOP)
        wait_for(run, {0, 1, 2} - {number})
        training.advance(run, 10)
        members.signal("bea", signal.SIGCONT)
        wait_for(run, {0, 1, 2})
        ended(run, members, steps)
    assert {"ada", "bea", "cleo"} == {member.name for member in run.info().members}


def test_silent_step_goes_on_without_the_member(server: Any, service: sumgrad.Service) -> None:
    """A member that is heard from but does not contribute loses its seat after the step's timeout; when it does contribute, it takes part again."""
    steps = 300
    run = training.create(service, "silent", steps, step_timeout=0.5)
    with training.join(run, "silent") as idle, training_on(server.address, run, "ada", "bea", pace=PACE) as members:
        assert idle.next_step == 0
        wait_for(run, {1, 2})
        training.advance(run, 10)
        found = idle.step()
        assert found is not None
        assert idle.number in found.samples
        assert idle.number == 0
        idle.close()
        ended(run, members, steps)


def test_run_waits_for_enough_members(server: Any, service: sumgrad.Service) -> None:
    """Below its minimum of members a run waits, and makes no step; with another one, under another name, it goes on."""
    steps = 300
    run = training.create(service, "minimum", steps, min_members=2, lease=1.0)
    with training_on(server.address, run, *NAMES, pace=PACE) as members:
        training.advance(run, 10)
        members.kill("bea")
        members.kill("cleo")
        training.wait_for(lambda: run.info().state == "waiting", "the run to wait", run)
        step = run.info().step
        assert [member.name for member in run.info().members if member.state != "left"] == ["ada"]
        members.start("dora")
        wait_for(run, {number_of(run, "ada"), 3})
        assert min(record.step for record in run.ledger() if set(record.samples) == {number_of(run, "ada"), 3}) == step
        ended(run, members, steps)


@needs_mounts
def test_disk_is_full_in_mid_training(tmp_path: Path) -> None:
    """With a full disk a run waits, says why in the log, and can be asked how it stands; with room again it goes on, and no bit is other than it would have been."""
    width, steps, state = 16_384, 200, tmp_path / "state"  # the 4 MiB that a journal takes in advance are for thirty steps
    state.mkdir(mode=0o700)
    flags = ["--workers", "1", "--state-dir", str(state)]
    with (
        served(tmp_path, *flags, prefix=with_mount(state, 64 * MIB)) as server,
        connected(server) as service,
        ThreadPoolExecutor(1) as thread,
    ):
        run = service.run("wide", None, sumgrad.optim.SGD(0.125), params={"w": np.zeros(width)}, max_steps=steps)
        filler = seen_by(server.pid, state) / "filler"
        fill(filler)
        call = thread.submit(descend, server.address)
        support.wait_until(lambda: "waits for its journal" in server.said(), "the run to wait for room")
        assert not call.done()
        assert 0 < run.info().step < steps
        filler.unlink()
        assert call.result() == steps
        assert run.params()["w"].tobytes() == descended(sumgrad.optim.SGD(0.125), width, steps)


def descended(rule: sumgrad.optim.Optimizer, width: int, steps: int) -> bytes:
    """What `descend` must come to."""
    params = {"w": np.zeros(width)}
    for step in range(steps):
        params = rule.step(params, {"w": slope(step, (width,))})
    return params["w"].tobytes()


def slope(step: int, shape: tuple[int, ...]) -> Any:
    """The gradient of a step."""
    return np.random.default_rng(step).normal(size=shape)


def descend(address: str) -> int:
    """Takes part by itself with its own gradients, until the run has ended; how many steps it has made."""
    retry = sumgrad.Retry(attempts=1000, longest=0.2)
    with sumgrad.connect(address, retry=retry) as service, service.get_run("wide").join("ada", timeout=support.PATIENCE) as member:
        while not member.over:
            member.step_gradient({"w": slope(member.next_step, member.info.shapes["w"])})
        made: int = member.next_step
    return made


def fill(path: Path) -> None:
    """Writes a file that takes all the room that there is."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def number_of(run: Any, name: str) -> int:
    """The number of a member."""
    number: int = next(member.number for member in run.info().members if member.name == name)
    return number


def wait_for(run: Any, numbers: set[int]) -> None:
    """Until a step is made by these members and no others, while the run goes on."""

    def made() -> bool:
        last = run.info().last
        return last is not None and set(last.samples) == numbers

    training.wait_for(made, f"a step of members {numbers}", run)
