"""A server host and client hosts, with what they need to trust each other. SUMGRAD_REQUIRE_NAMESPACES=1 makes missing rights a failure."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sumgrad
from sumgrad_server import certs, tokens
from sumgrad_tests import support
from sumgrad_tests.hosts import Host, Network, require
from sumgrad_tests.served import served

CLIENTS = ("ada", "bea", "cleo")
PORT = 50051


@dataclass
class Place:
    """Where a server is to be: a host of the network, with its state, its certificate and a token for whoever asks."""

    network: Network
    folder: Path
    token: str
    seen: int = 0

    @property
    def host(self) -> Host:
        """The server's."""
        return self.network["server"]

    @property
    def address(self) -> str:
        """Where its clients find it."""
        return f"{self.host.address}:{PORT}"

    @property
    def environ(self) -> dict[str, str]:
        """What its clients need to know, as environment: the authority, the token, and where the helpers of tests are."""
        return {
            "SUMGRAD_TLS_CA": str(self.folder / "certs" / "ca.pem"),
            "SUMGRAD_TOKEN": self.token,
            "PYTHONPATH": str(Path(support.__file__).parents[1] / "helpers"),
        }

    @contextlib.contextmanager
    def serving(self, *flags: str, graceful: bool = True) -> Iterator[Any]:
        """A server, or another one in the place of one that is gone."""
        self.seen += 1
        own = self.folder / f"server-{self.seen}"
        own.mkdir()
        where = ["--address", self.address, "--state-dir", str(self.folder / "state"), "--workers", "1"]
        pair = ["--tls-cert", str(self.folder / "certs" / "server.pem"), "--tls-key", str(self.folder / "certs" / "server.key")]
        who = ["--tokens", str(self.folder / "tokens.json")]
        with served(own, *where, *pair, *who, *flags, prefix=self.host.within(), graceful=graceful) as server:
            yield server

    @contextlib.contextmanager
    def watching(self) -> Iterator[sumgrad.Service]:
        """A connection from outside all hosts: a relay in the server's host hands on what comes through a file."""
        relay = self.host.relay(f"unix:{self.folder / f'watch-{self.seen}'}", self.address)
        tls = sumgrad.TLS(ca=self.folder / "certs" / "ca.pem", server_name="localhost")
        with sumgrad.connect(relay.address, tls=tls, token=self.token, timeout=60.0, retry=sumgrad.Retry(attempts=100)) as service:
            yield service


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A server host and three client hosts."""
    require()
    token, entry = tokens.create("members")
    tokens.TokenFile(tmp_path / "tokens.json").add(entry)
    with Network("server", *CLIENTS) as network:
        certs.make(tmp_path / "certs", [network["server"].address], [])
        os.chmod(tmp_path, 0o700)
        yield Place(network, tmp_path, token)
