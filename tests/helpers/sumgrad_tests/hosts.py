"""Hosts as network namespaces: each has its own addresses, routes and packet filter, and a link to a switch that can be cut and spoilt.

Nothing is made in the namespace that the test runs in. What is made is named after the process that made it, and goes when the block ends, whatever
ends it; what a run of tests that was killed has left is removed by the next one. SUMGRAD_REQUIRE_NAMESPACES=1 makes a missing right a failure.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pytest

from . import support

PREFIX = "sumgrad"
NAME = re.compile(rf"{PREFIX}-(\d+)-(\d+)-\w+")
"""A namespace's name: the process that made it, when that started, and what for."""
BRIDGE, LINK = "bridge", "eth0"
PORT_STATES = {"disabled": "0", "forwarding": "3"}
"""As the kernel numbers them."""
RELAY = Path(__file__).with_name("relay.py")
OWN = ["setpriv", "--pdeathsig", "KILL"]
"""Processes in hosts go with the test that started them, even if that is killed."""


class NetworkError(Exception):
    """A command of iproute2 or iptables failed."""


def _run(*command: str) -> str:
    """What a command says that succeeds. Raises NetworkError."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=support.PATIENCE)
    except OSError as error:
        raise NetworkError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise NetworkError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def require() -> None:
    """Skips the test, or fails it, where the kernel refuses namespaces."""
    missing = _missing()
    if missing and os.environ.get("SUMGRAD_REQUIRE_NAMESPACES"):
        pytest.fail(f"SUMGRAD_REQUIRE_NAMESPACES is set, but hosts can't be made: {missing}")
    if missing:
        pytest.skip(f"hosts can't be made: {missing}")


def _missing() -> str:
    """What keeps hosts from being made, or an empty string: all that a network needs is tried."""
    try:
        with Network("one") as network:
            network["one"].lose(0.5)
    except NetworkError as error:
        return str(error)
    return ""


class Host:
    """A machine of its own, as far as the network goes. Made by Network."""

    def __init__(self, network: Network, name: str, address: str) -> None:
        self.name, self.address = name, address
        self._network, self._space = network, network.space(name)
        self.started: list[subprocess.Popen[str]] = []

    def within(self, *command: str) -> list[str]:
        """The command that runs this one here. It becomes it: the process is the same."""
        return [*OWN, "ip", "netns", "exec", self._space, *command]

    def start(self, *command: str, environ: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Starts a process here; its stdout is a pipe. It must not outlive the thread that starts it."""
        environment = {**os.environ, **(environ or {})}
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, **options}
        process = subprocess.Popen(self.within(*command), env=environment, text=True, **streams)
        self.started.append(process)
        return process

    def do(self, *command: str) -> str:
        """What a short command says here. Raises NetworkError."""
        return _run(*self.within(*command))

    def cut(self) -> None:
        """Cuts the link at the switch: what is sent is lost, in both directions, and nobody is told."""
        self._network.port(self.name, "disabled")

    def heal(self) -> None:
        """Joins it again."""
        self._network.port(self.name, "forwarding")

    def lose(self, probability: float) -> None:
        """From now on each packet of either direction is lost with this probability."""
        for chain, way in (("INPUT", "--in-interface"), ("OUTPUT", "--out-interface")):
            chance = ["--match", "statistic", "--mode", "random", "--probability", str(probability)]
            self.do("iptables", "--wait", "--append", chain, way, LINK, *chance, "--jump", "DROP")

    def lose_nothing(self) -> None:
        """The packet filter is empty again."""
        self.do("iptables", "--wait", "--flush")

    def lost(self) -> dict[str, int]:
        """How many packets of each direction were lost since they began to be."""
        said = self.do("iptables", "--wait", "--list-rules", "--verbose")
        found = {chain: int(count) for chain, count in re.findall(r"-A (\w+) .* -c (\d+) \d+ .*DROP", said)}
        assert found.keys() == {"INPUT", "OUTPUT"}, said
        return found

    def retransmitted(self) -> int:
        """How many TCP segments were sent again from here, ever."""
        names, values = re.findall(r"^Tcp: (.*)$", self.do("cat", "/proc/net/snmp"), re.MULTILINE)
        return int(dict(zip(names.split(), values.split(), strict=True))["RetransSegs"])

    def relay(self, listen: str, target: str) -> Relay:
        """A relay here, from where it listens to another host."""
        return Relay(self.start(sys.executable, "-S", str(RELAY), listen, target))

    def processes(self) -> list[int]:
        """Whatever runs here."""
        return [int(pid) for pid in _run("ip", "netns", "pids", self._space).split()]


class Relay:
    """A relay of TCP connections in a host; see relay.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._line()

    def delay(self, seconds: float) -> int:
        """Delays either direction by so much from now on. Gives how many bytes were delayed before."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Network:
    """Hosts at one switch, for the length of a block."""

    def __init__(self, *names: str) -> None:
        self._owner = f"{PREFIX}-{os.getpid()}-{_started(os.getpid())}"
        self._hosts: dict[str, Host] = {}
        self._names = names

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def space(self, name: str) -> str:
        """The name of a host's namespace."""
        return f"{self._owner}-{name}"

    def port(self, name: str, state: Literal["disabled", "forwarding"]) -> None:
        """What the switch does with what comes from a host, or is for it."""
        _run("bridge", "-netns", self.space(BRIDGE), "link", "set", "dev", name, "state", PORT_STATES[state])

    def close(self) -> None:
        """Ends all processes that were started in hosts, and removes the hosts."""
        for host in self._hosts.values():
            for process in host.started:
                process.kill()
                process.communicate()
        try:
            support.wait_until(lambda: not self._processes(), "all processes in hosts to end")
        finally:
            for name in (*self._names, BRIDGE):
                with contextlib.suppress(NetworkError):  # not made
                    _run("ip", "netns", "delete", self.space(name))

    def _processes(self) -> list[int]:
        return [pid for host in self._hosts.values() for pid in host.processes()]

    def _make(self) -> None:
        switch = self.space(BRIDGE)
        _run("ip", "netns", "add", switch)
        _ip(switch, "link", "add", "name", BRIDGE, "type", "bridge")
        _ip(switch, "link", "set", "dev", BRIDGE, "up")
        for number, name in enumerate(self._names, 1):
            self._add(switch, name, f"10.0.0.{number}")

    def _add(self, switch: str, name: str, address: str) -> None:
        space = self.space(name)
        _run("ip", "netns", "add", space)
        self._hosts[name] = Host(self, name, address)
        _ip(switch, "link", "add", "name", name, "type", "veth", "peer", "name", LINK, "netns", space)
        _ip(switch, "link", "set", "dev", name, "master", BRIDGE)
        _ip(switch, "link", "set", "dev", name, "up")
        _ip(space, "link", "set", "dev", "lo", "up")
        _ip(space, "address", "add", f"{address}/24", "dev", LINK)
        _ip(space, "link", "set", "dev", LINK, "up")


def _ip(space: str, *command: str) -> None:
    _run("ip", "-netns", space, *command)


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did: process ids come again. Empty if there is none."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def spaces() -> list[str]:
    """Names of all namespaces of ours."""
    return [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if NAME.match(line)]


def remove_leftovers() -> None:
    """Removes namespaces whose makers are dead."""
    for name in spaces():
        match = NAME.match(name)
        assert match is not None
        if _started(int(match[1])) != match[2]:
            with contextlib.suppress(NetworkError):  # another run of tests was faster
                _run("ip", "netns", "delete", name)


@contextlib.contextmanager
def spoilt(spoil: Callable[[], object], mend: Callable[[], object]) -> Iterator[None]:
    """Something that is wrong for the length of a block."""
    spoil()
    try:
        yield
    finally:
        mend()
