"""Control messages between the front and one worker: pickled tuples and file descriptors over a socket pair.

Every message is short; bulk data lies in arenas, whose descriptors travel with the messages. The end of the other process, however it came,
is an EOFError here.
"""

from __future__ import annotations

import contextlib
import os
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
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()  # what the socket has not taken yet, with descriptors of our own

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """One end for here, and the socket to hand to the other."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls(here), there

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def unblock(self) -> None:
        """From now on nothing here waits: `send_all` says whether `flush` has to be called when the socket takes more."""
        self._socket.setblocking(False)

    def send(self, message: object, fds: Sequence[int] = ()) -> bool:
        """Sends one message. See `send_all`."""
        return self.send_all([(message, fds)])

    def send_all(self, messages: Sequence[tuple[object, Sequence[int]]]) -> bool:
        """Sends messages, whose descriptors are duplicated for the other end, in as few pieces as it takes. BrokenPipeError if it is gone.

        False if this end does not wait, and not all could be sent.
        """
        plain = b""
        for message, fds in messages:
            plain += _framed(message, fds)
            if fds:
                self._send_or_keep(plain, fds)
                plain = b""
        if plain:
            self._send_or_keep(plain, [])
        return not self._outgoing

    def _send_or_keep(self, framed: bytes, fds: Sequence[int]) -> None:
        """Sends what can be sent now. What has to wait keeps descriptors of its own: the sender may close its own meanwhile."""
        data = memoryview(framed)
        if not self._outgoing:
            sent = self._sent(data, fds)
            if sent == len(data):
                return
            data, fds = data[sent:], () if sent else fds
        self._outgoing.append((data, [os.dup(fd) for fd in fds]))

    def _sent(self, data: memoryview, fds: Sequence[int]) -> int:
        """How many bytes the socket took, the descriptors with the first of them."""
        try:
            return socket.send_fds(self._socket, [data], fds) if fds else self._socket.send(data)
        except BlockingIOError:
            return 0

    def flush(self) -> bool:
        """Sends what has not been sent; False if there is still some of it. BrokenPipeError if the other end is gone."""
        while self._outgoing:
            data, fds = self._outgoing[0]
            sent = self._sent(data, fds)
            if not sent:
                return False
            for fd in fds:
                os.close(fd)
            self._outgoing[0] = data[sent:], []
            if sent == len(data):
                self._outgoing.popleft()
        return True

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
        with contextlib.suppress(BlockingIOError):
            self._read()
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def close(self) -> None:
        """Closes the socket; the other end sees it."""
        self._socket.close()
        for _, fds in self._outgoing:
            for fd in fds:
                os.close(fd)
        self._outgoing.clear()

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
