"""Who may look at metrics and the page of a server with tokens and TLS."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sumgrad_server import certs, tokens
from sumgrad_server.auth import Scope


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates."""
    made = tmp_path_factory.mktemp("certs")
    certs.make(made, ["127.0.0.1"], [])
    return made


@pytest.fixture(scope="module")
def known(folder: Path) -> dict[str, str]:
    """Tokens by their one scope, in the server's file."""
    scopes: tuple[Scope, ...] = ("read", "compute", "admin")
    made = {scope: tokens.create(scope, scopes=[scope]) for scope in scopes}
    for _, entry in made.values():
        tokens.TokenFile(folder / "tokens").add(entry)
    return {scope: token for scope, (token, _) in made.items()}


@pytest.fixture(scope="module")
def server(support: ModuleType, folder: Path, known: dict[str, str]) -> Iterator[Any]:
    """A server that other machines reach: with encryption, and for those with tokens."""
    tls = ("--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key"))
    with support.running("--workers", "1", "--metrics-address", "0.0.0.0:0", "--tokens", str(folder / "tokens"), *tls) as made:
        yield made


@pytest.fixture
def ask(server: Any, folder: Path) -> Any:
    """Status and headers of a path."""
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))

    def asked(path: str, authorization: str = "", method: str = "GET") -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPSConnection("127.0.0.1", int(server.metrics.rpartition(":")[2]), context=context, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, headers={"Authorization": authorization} if authorization else {})
            answer = connection.getresponse()
            answer.read()
            return answer.status, dict(answer.getheaders())

    return asked


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/healthz", {"", "read", "compute", "admin"}),
        ("/static/style.css", {"", "read", "compute", "admin"}),
        ("/metrics", {"read", "admin"}),
        ("/", {"admin"}),
        ("/live", {"admin"}),
        (f"/graphs/{'0' * 64}", {"admin"}),
        ("/nothing", {"admin"}),
    ],
)
def test_each_path_needs_its_scope(ask: Any, known: dict[str, str], path: str, allowed: set[str]) -> None:
    """Health is open; metrics are for readers; what names callers, datasets and graphs is for administrators."""
    found = {scope: ask(path, f"Bearer {known[scope]}" if scope else "")[0] for scope in ("", "read", "compute", "admin")}
    assert {scope for scope, status in found.items() if status not in (401, 403)} == allowed
    assert found[""] in (200, 401)


def test_a_browser_is_asked_for_a_password(ask: Any, known: dict[str, str]) -> None:
    """Without a token: 401 and how to give one; with it as the password, the page."""
    status, headers = ask("/")
    assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="sumgrad", charset="UTF-8"')
    basic = base64.b64encode(f"me:{known['admin']}".encode()).decode()
    assert ask("/", f"Basic {basic}")[0] == 200
    assert ask("/", "Basic bWU6d3Jvbmc=")[0] == 401


def test_refusals_are_locked_up_too(ask: Any) -> None:
    """Pages that say no forbid scripts and caching like all others."""
    _, headers = ask("/")
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_without_encryption_nothing_is_said(server: Any) -> None:
    """Plain HTTP gets no answer from an address with TLS."""
    with socket.create_connection(("127.0.0.1", int(server.metrics.rpartition(":")[2])), timeout=60) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := plain.recv(4096):
                answer += part
    assert b"HTTP" not in answer


def test_other_machines_need_both() -> None:
    """A metrics address that other machines reach is refused without TLS and tokens, whatever the gRPC address is."""
    command = [sys.executable, "-m", "sumgrad_server", "--address", "127.0.0.1:0", "--metrics-address", "0.0.0.0:0"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--metrics-address 0.0.0.0:0 can be reached from other machines" in done.stderr
