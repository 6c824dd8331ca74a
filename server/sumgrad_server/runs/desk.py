"""Where a member's stream finds what it is to send: the turn that it has not heard of yet, and what was wrong before that."""

from __future__ import annotations

import asyncio
from collections import deque

MANY_NOTES = 16


class Desk:
    """One stream's. A turn that was not sent yet gives way to the next one, so what waits for a slow member does not grow with the steps."""

    def __init__(self, number: int, session: str, count: int = 0) -> None:
        """`count` tells the streams of one session apart: later ones have higher ones."""
        self.number, self.session, self.count = number, session, count
        self._notes: deque[bytes] = deque()
        self._turn: bytes | None = None
        self._last: bytes | None = None
        self._error: Exception | None = None
        self._closed = False
        self._news = asyncio.Event()
        self._read = asyncio.Event()

    def turn(self, message: bytes) -> None:
        """It is this member's turn."""
        self._turn = message
        self._news.set()

    def note(self, message: bytes) -> None:
        """Something else to tell."""
        self._notes.append(message)
        self._news.set()

    async def heeded(self) -> None:
        """Waits while there is much that the member does not read: who asks for more is not listened to."""
        while len(self._notes) >= MANY_NOTES and not self._closed:
            self._read.clear()
            await self._read.wait()

    def end(self, message: bytes) -> None:
        """The last message."""
        self._turn, self._last = None, message
        self._shut()

    def close(self, error: Exception | None = None) -> None:
        """No more messages; the stream ends with this error."""
        self._error = error
        self._shut()

    async def next(self) -> bytes | None:
        """What is to be sent next; None at the end. Raises what the stream ends with."""
        while True:
            if self._notes:
                self._read.set()
                return self._notes.popleft()
            if self._turn is not None and self._error is None:
                message, self._turn = self._turn, None
                return message
            if self._closed:
                return self._ended()
            self._news.clear()
            await self._news.wait()

    def _shut(self) -> None:
        self._closed = True
        self._news.set()
        self._read.set()

    def _ended(self) -> bytes | None:
        if self._error is not None:
            raise self._error
        message, self._last = self._last, None
        return message
