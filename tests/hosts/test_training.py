"""Hosts that train one model together, over TLS and through everything that networks and machines do to them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sumgrad
from sumgrad_tests import support, training
from sumgrad_tests.hosts import Host, Relay, spoilt
from sumgrad_tests.members import Members, command
from sumgrad_tests.served import kill

pytestmark = [pytest.mark.hosts, pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("hosts")]

NAMES = ("ada", "bea", "cleo")
STEPS = 500
PACE = 0.005
"""Seconds that a member is busy with something else between two steps: so the run is not over before it was disturbed."""
HELD = 3
"""Segments that were sent again, after which a cut is taken to be felt."""


def members_of(place: Any, run: str, relay: Relay, *names: str) -> Members:
    """Each on the host of its name, dora on cleo's. What bea sends and gets passes the relay on her host."""

    def launch(name: str) -> subprocess.Popen[str]:
        host: Host = place.network["cleo" if name == "dora" else name]
        address = relay.address if host.name == "bea" else place.address
        return host.start(*command(address, run, name, PACE), environ=place.environ)

    return Members(launch, *names)


@contextmanager
def cut(place: Any, host: str) -> Iterator[None]:
    """A cut link: something was sent over it, in vain."""
    hosts = (place.host, place.network[host])

    def felt() -> int:
        return sum(each.retransmitted() for each in hosts)

    with spoilt(place.network[host].cut, place.network[host].heal):
        before = felt()
        support.wait_until(lambda: felt() >= before + HELD, "the cut to be felt")
        yield


@contextmanager
def late(relay: Relay, seconds: float = 0.2) -> Iterator[None]:
    """A link that is late, in both directions."""
    before = relay.delay(seconds)
    yield
    assert relay.delay(0.0) > before


@contextmanager
def lossy(host: Host, probability: float = 0.2) -> Iterator[None]:
    """A link that loses packets, and did."""
    with spoilt(lambda: host.lose(probability), host.lose_nothing):
        yield
        support.wait_until(lambda: all(host.lost().values()), "packets of both directions to be lost")


def calm(place: Any, service: sumgrad.Service, relay: Relay) -> Any:
    """A run that nobody disturbs."""
    run = training.create(service, "calm", STEPS)
    members = members_of(place, "calm", relay, *NAMES)
    support.wait_until(lambda: run.info().over, "the calm run to end")
    members.finish(STEPS)
    return run


def test_same_bits_as_undisturbed(place: Any) -> None:
    """Parameters and ledger are those of a calm run, to the bit, though links were cut, late and lossy, and a member and the server killed."""
    relay = place.network["bea"].relay("127.0.0.1:0", place.address)
    with place.serving(graceful=False) as server:
        with place.watching() as service:
            expected = calm(place, service, relay)
            ledger, params = training.check(expected, STEPS), expected.params()
            run = training.create(service, "disturbed", STEPS)
            members = members_of(place, "disturbed", relay, *NAMES)
            disturb_links(place, run, relay)
            members.kill("cleo")
            members.start("cleo")
            training.advance(run, 20)
        kill(server.pid)
        server.process.wait()
    with place.serving(), place.watching() as service:
        run = service.get_run("disturbed")
        training.advance(run, 20)
        with late(relay, 0.05), lossy(place.network["cleo"], 0.05), cut(place, "ada"):
            pass
        training.advance(run, 20)
        support.wait_until(lambda: run.info().over, "the run to end")
        members.finish(STEPS)
        assert training.bits(run.params()) == training.bits(params)
        assert training.account(run.ledger()) == training.account(ledger)


def disturb_links(place: Any, run: Any, relay: Relay) -> None:
    """Each link in its own way, while the run goes on as far as it can."""
    training.advance(run, 20)
    with cut(place, "ada"):
        pass
    training.advance(run, 20)
    with late(relay):
        training.advance(run, 3)
    training.advance(run, 20)
    with lossy(place.network["cleo"]):
        training.advance(run, 3)
    training.advance(run, 20)


def test_ledger_accounts_for_every_sample(place: Any) -> None:
    """A member is killed for good and another joins, one is cut off for longer than its lease, the server is killed: each step counts each sample once."""
    relay = place.network["bea"].relay("127.0.0.1:0", place.address)
    with place.serving(graceful=False) as server:
        with place.watching() as service:
            run = training.create(service, "changing", STEPS, min_members=2, lease=2.0)
            members = members_of(place, "changing", relay, *NAMES)
            training.advance(run, 20)
            members.kill("cleo")
            left = {0, 1, 2} - {number_of(run, "cleo")}
            wait_for_members(run, left)
            members.start("dora")
            everybody = {*left, 3}
            wait_for_members(run, everybody)
        kill(server.pid)
        server.process.wait()
    with place.serving(), place.watching() as service:
        run = service.get_run("changing")
        training.advance(run, 20)
        wait_for_members(run, everybody)
        alone = number_of(run, "ada")
        with spoilt(place.network["ada"].cut, place.network["ada"].heal):
            wait_for_members(run, everybody - {alone})
        wait_for_members(run, everybody)
        support.wait_until(lambda: run.info().over, "the run to end")
        members.finish(STEPS)
        ledger = training.check(run, STEPS)
        assert len({tuple(record.samples) for record in ledger}) >= 4


def number_of(run: Any, name: str) -> int:
    """The number of a member."""
    number: int = next(member.number for member in run.info().members if member.name == name)
    return number


def wait_for_members(run: Any, numbers: set[int]) -> None:
    """Until a step is made by these members and no others, while the run goes on."""
    training.wait_for(lambda: set(run.info().last.samples) == numbers, f"a step of members {numbers}", run)
