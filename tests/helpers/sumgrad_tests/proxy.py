"""A network between client and server that can be told to lose, to hold and to cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

Manner = Literal["pass", "drop", "hold"]
"""What happens to bytes on their way: they get through, are lost, or wait until that changes."""


class Direction:
    """One way through the proxy, of all connections. Bytes are counted by what became of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._manner: Manner = "pass"
        self.dropped = 0
        self.held = 0
        self.passed = 0

    def set(self, manner: Manner) -> None:
        """From now on."""
        with self._changed:
            self._manner = manner
            self._changed.notify_all()

    def through(self, nbytes: int) -> bool:
        """Whether so many bytes are to be passed on; waits while they are held."""
        with self._changed:
            self.held += nbytes
            self._changed.wait_for(lambda: self._manner != "hold")
            self.held -= nbytes
            if self._manner == "drop":
                self.dropped += nbytes
            else:
                self.passed += nbytes
            return self._manner == "pass"


class Proxy:
    """Listens on a free loopback port and hands everything on to an address, as `up` (to the server) and `down` (to the client) say."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.up, self.down = Direction(), Direction()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._pairs)

    def cut(self) -> None:
        """Ends all connections, on both sides."""
        for pair in list(self._pairs):
            for end in pair:
                _shut(end)

    def close(self) -> None:
        """Ends everything."""
        _shut(self._listener)
        self._listener.close()
        for direction in (self.up, self.down):
            direction.set("drop")
        self.cut()
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except ConnectionRefusedError:  # the server is away just now
                client.close()
                continue
            except OSError:
                return
            self._pairs.append((client, server))
            for source, sink, direction in ((client, server, self.up), (server, client, self.down)):
                threading.Thread(target=_pump, args=[source, sink, direction], daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, direction: Direction) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if direction.through(len(data)):
                sink.sendall(data)
    _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def between(target: str) -> Iterator[Proxy]:
    """A proxy for the length of a block."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
