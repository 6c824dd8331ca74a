"""Hosts, links between them, and calls over links that are bad."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sumgrad_tests import asking, support
from sumgrad_tests.hosts import Host, Network, require, spaces, spoilt

pytestmark = [pytest.mark.hosts, pytest.mark.chaos, pytest.mark.slow, pytest.mark.xdist_group("hosts")]

HELPERS = Path(asking.__file__).parents[1]


class Asking:
    """A client in a host that asks when it is told to."""

    def __init__(self, host: Host, address: str, environ: dict[str, str]) -> None:
        self._process = host.start(sys.executable, "-m", "sumgrad_tests.asking", address, environ=environ)

    def ask(self) -> None:
        """One question, whose answer comes later."""
        assert self._process.stdin is not None
        self._process.stdin.write("ask\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """The answer to the next question."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture
def told() -> str:
    """What is to be answered."""
    return asking.expected()


def test_calls_over_bad_links(place: Any, told: str) -> None:
    """Calls from three hosts over TLS get the same bits over a link that was cut and healed, one that is late, and one that loses packets."""
    cut, late, lossy = (place.network[name] for name in ("ada", "bea", "cleo"))
    with place.serving():
        relay = late.relay("127.0.0.1:0", place.address)
        clients = [
            Asking(host, address, place.environ) for host, address in ((cut, place.address), (late, relay.address), (lossy, place.address))
        ]
        for client in clients:
            client.ask()
            assert client.answer() == told
        relay.delay(0.2)
        with spoilt(lambda: lossy.lose(0.2), lossy.lose_nothing), cutting(cut, clients[0].ask):
            clients[1].ask()
            assert clients[1].answer() == told
            while not all(lossy.lost().values()):
                clients[2].ask()
                assert clients[2].answer() == told
        assert clients[0].answer() == told
        assert relay.delay(0.0) > 0


@contextmanager
def cutting(host: Host, then: Callable[[], object]) -> Iterator[None]:
    """A cut link, over which something is sent again and again, to no avail."""
    with spoilt(host.cut, host.heal):
        before = host.retransmitted()
        then()
        support.wait_until(lambda: host.retransmitted() >= before + 3, "the cut to be felt")
        yield


def test_nothing_is_left_of_hosts(tmp_path: Path) -> None:
    """Hosts go with their block, and their processes too; those of a test that was killed are removed by the next one, those of a living one are not."""
    require()
    code = f"import sys; sys.path.insert(0, {str(HELPERS)!r}); from sumgrad_tests.hosts import Network\n"
    code += "with Network('one') as network: print(network.space('one'), network['one'].start('sleep', '1000').pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        space, sleeper = maker.stdout.readline().split()
        with Network("two") as network:
            own = network.space("two")
            assert {space, own} <= set(spaces())
        assert own not in spaces()
        maker.send_signal(signal.SIGKILL)
    support.wait_until(lambda: not support.is_alive(int(sleeper)), "the dead test's process to end")
    assert space in spaces()
    with Network("two"):
        assert space not in spaces()
