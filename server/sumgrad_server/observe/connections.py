"""The connections of the HTTP server: at most so many, and none that only stands there."""

from __future__ import annotations

import asyncio
import math

from aiohttp import web

MOST_CONNECTIONS = 64
SILENT_SECONDS = 10.0
"""After which a connection is ended that has not asked for anything yet."""
KEPT_SECONDS = 15.0
"""After which a connection is ended that asks for nothing more."""


class _Full(asyncio.Protocol):
    """What becomes of a connection beyond MOST_CONNECTIONS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ends it."""
        transport.close()


class Connections:
    """Those of one server of aiohttp's."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._since: dict[asyncio.BaseProtocol, float] = {}

    def accept(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection."""
        server = self._runner.server
        assert server is not None
        return _Full() if len(server.connections) >= MOST_CONNECTIONS else server()

    def heard(self, connection: asyncio.BaseProtocol) -> None:
        """Takes note that a connection has asked for something: from now on it is the library that watches it."""
        self._since[connection] = math.inf

    def look(self, now: float) -> None:
        """Ends those that have been silent for too long; meant to be called about once a second."""
        server = self._runner.server
        assert server is not None
        self._since = {connection: self._since.get(connection, now) for connection in server.connections}
        for connection in server.connections:
            if now - self._since[connection] > SILENT_SECONDS:
                connection.force_close()
