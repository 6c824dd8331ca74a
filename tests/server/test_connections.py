"""Connections on which nobody speaks are not kept for ever."""

from __future__ import annotations

import socket
import struct
from types import ModuleType

import pytest

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
SETTINGS, PING = 4, 6
MAX_CONCURRENT_STREAMS = 3


def until_the_end(line: socket.socket) -> bytes:
    """All that comes until the other side closes; a timeout of the socket fails the test."""
    received = b""
    while piece := line.recv(1 << 16):
        received += piece
    return received


def frame_types(data: bytes) -> list[int]:
    """The types of the HTTP/2 frames in these bytes."""
    found = []
    while len(data) >= 9:
        found.append(data[3])
        data = data[9 + int.from_bytes(data[:3], "big") :]
    return found


def settings_frame(line: socket.socket) -> dict[int, int]:
    """The settings that a server begins with."""
    received = line.makefile("rb")
    head = received.read(9)
    assert head[3] == SETTINGS
    content = received.read(int.from_bytes(head[:3], "big"))
    return dict(struct.unpack(">HI", content[start : start + 6]) for start in range(0, len(content), 6))


def connected(address: str, patience: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=patience)


def test_clients_that_vanish_are_noticed(support: ModuleType) -> None:
    """A client that answers no ping, as one whose machine is gone, loses its connection; the server is there for others."""
    with support.running("--workers", "1", "--keepalive-seconds", "0.2") as server:
        with connected(server.address, support.PATIENCE) as line:
            line.sendall(PREFACE + EMPTY_SETTINGS)
            assert PING in frame_types(until_the_end(line))
        assert server.client.register(support.slow_objective(1).graph)


@pytest.mark.parametrize("sent", [b"", PREFACE[:10]], ids=["silence", "half a greeting"])
def test_connections_that_don_t_begin_are_closed(support: ModuleType, sent: bytes) -> None:
    """Who opens a connection and does not go on is not waited for."""
    with support.running("--workers", "1", "--handshake-seconds", "0.2") as server:
        with connected(server.address, support.PATIENCE) as line:
            line.sendall(sent)
            until_the_end(line)
        assert server.client.register(support.slow_objective(1).graph)


def test_a_connection_has_so_many_calls(support: ModuleType) -> None:
    """The limit of calls of one connection is told to clients, which then wait by themselves."""
    flags = ["--workers", "1", "--max-connection-calls", "77"]
    with support.running(*flags) as server, connected(server.address, support.PATIENCE) as line:
        line.sendall(PREFACE + EMPTY_SETTINGS)
        assert settings_frame(line)[MAX_CONCURRENT_STREAMS] == 77
