"""Control messages between the front and one worker: pickled tuples and file descriptors over a socket pair.

Every message is short; bulk data lies in arenas, whose descriptors travel with the messages. The end of the other process, however it came,
is an EOFError here.
"""

from __future__ import annotations

import pickle
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Any

_HEADER = struct.Struct("<QB")  # length of the body, number of descriptors
MAX_FDS = 250
"""Descriptors that one message may carry; the kernel takes 253."""
_PIECE = 1 << 18


class Channel:
    """One end. The two ends may be in different processes; each belongs to one thread."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._buffer = bytearray()
        self._fds: deque[int] = deque()

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """One end for here, and the socket to hand to the other."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(here), there

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def send(self, message: object, fds: Sequence[int] = ()) -> None:
        """Sends one message; the descriptors are duplicated for the other end. BrokenPipeError if it is gone."""
        self._write(_framed(message, fds), fds)

    def send_all(self, messages: Sequence[tuple[object, Sequence[int]]]) -> None:
        """Sends messages with their descriptors, in as few pieces as it takes."""
        data = b""
        fds: list[int] = []
        for message, own in messages:
            if len(fds) + len(own) > MAX_FDS:
                self._write(data, fds)
                data, fds = b"", []
            data += _framed(message, own)
            fds += own
        self._write(data, fds)

    def _write(self, framed: bytes, fds: Sequence[int]) -> None:
        data = memoryview(framed)
        sent = socket.send_fds(self._socket, [data], fds) if fds else self._socket.send(data)
        if sent < len(data):
            self._socket.sendall(data[sent:])

    def receive(self) -> tuple[Any, list[int]]:
        """Waits for one message. EOFError if the other end is gone."""
        while (message := self._next()) is None:
            self._read()
        return message

    @property
    def has_more(self) -> bool:
        """Whether another message is here already, as a whole."""
        return len(self._buffer) >= _HEADER.size and len(self._buffer) >= _HEADER.size + _HEADER.unpack_from(self._buffer)[0]

    def receive_available(self) -> list[tuple[Any, list[int]]]:
        """The messages that one read completes: call it when the socket is readable, it doesn't wait then. EOFError at the end."""
        self._read()
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def close(self) -> None:
        """Closes the socket; the other end sees it."""
        self._socket.close()

    def _read(self) -> None:
        try:
            piece, fds, _, _ = socket.recv_fds(self._socket, _PIECE, MAX_FDS)
        except ConnectionError:
            piece, fds = b"", []
        if not piece:
            raise EOFError("the other process is gone")
        self._buffer += piece
        self._fds.extend(fds)

    def _next(self) -> tuple[Any, list[int]] | None:
        # Descriptors arrive with the first byte of their message, so those of a whole message are here.
        if len(self._buffer) < _HEADER.size:
            return None
        length, fd_count = _HEADER.unpack_from(self._buffer)
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return pickle.loads(body), [self._fds.popleft() for _ in range(fd_count)]  # noqa: S301 - from our own process


def _framed(message: object, fds: Sequence[int]) -> bytes:
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _HEADER.pack(len(body), len(fds)) + body
