"""What is served on the metrics address: metrics and health for machines, the page for people. In the event loop of the server, read-only."""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from sumgrad_engine.errors import SumgradError

from ..auth import Authenticator
from ..faults import PermissionDeniedError, UnauthenticatedError, UnknownGraphError
from . import access
from .connections import KEPT_SECONDS, SILENT_SECONDS, Connections
from .drawings import Drawings
from .metrics import CONTENT_TYPE, Metrics
from .page import STATIC, Page, static

log = logging.getLogger(__name__)

library_log = logging.getLogger(f"{__name__}.aiohttp")
library_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError)))
"""What aiohttp has to say, but for requests that are no HTTP: nobody fills the log with those."""

LOOK_SECONDS = 1.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "sumgrad",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

REFUSALS = (
    (UnauthenticatedError, 401, "Unauthorized"),
    (PermissionDeniedError, 403, "Forbidden"),
    (UnknownGraphError, 404, "Not Found"),
    (SumgradError, 503, "Service Unavailable"),
)
"""The first row that fits holds."""

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """The HTTP server."""

    def __init__(self, page: Page, metrics: Metrics, authenticator: Authenticator, *, local: bool) -> None:
        """`local`: it is served to this machine only, and by no other name."""
        self._page, self._metrics, self._authenticator, self._local = page, metrics, authenticator, local
        self._drawings = Drawings()
        self._static = {name: static(name) for name in STATIC}
        self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=library_log,
            handle_signals=False,
            keepalive_timeout=KEPT_SECONDS,
            shutdown_timeout=1.0,
        )
        self._connections = Connections(self._runner)
        self._server: asyncio.Server
        self._looking: asyncio.Task[None]

    async def start(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Listens; the port, if it is to be a free one (0). Raises OSError."""
        await self._runner.setup()
        patience = SILENT_SECONDS if context else None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connections.accept, host, port, ssl=context, ssl_handshake_timeout=patience)
        self._looking = asyncio.create_task(self._look())
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        """Listens no more, and ends what is under way."""
        self._looking.cancel()
        self._server.close()
        await self._drawings.close()
        await self._runner.cleanup()

    async def _look(self) -> None:
        while True:
            self._page.throughput.look(time.monotonic())
            self._connections.look(time.monotonic())
            await asyncio.sleep(LOOK_SECONDS)

    def _application(self) -> web.Application:
        made = web.Application(middlewares=[self._with_headers, self._with_errors, self._with_access])
        made.add_routes(
            [
                web.get("/", self._whole),
                web.get("/live", self._live),
                web.get("/graphs/{id:[0-9a-f]{64}}", self._graph),
                web.get("/static/{name}", self._file),
                web.get("/metrics", self._text),
                web.get("/healthz", self._health),
            ]
        )
        return made

    # Around every request, from outside to inside.

    @web.middleware
    async def _with_headers(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._connections.heard(request.protocol)
        response = await handler(request)
        response.headers.update(HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @web.middleware
    async def _with_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return self._error(error.status, error.reason, error.text or "")
        except SumgradError as error:
            return self._refusal(error)
        except Exception:
            fault = secrets.token_hex(8)
            log.exception("fault %s", fault)
            return self._error(500, "Internal Server Error", f"The page failed; the server's log tells more under {fault}.")

    def _refusal(self, error: SumgradError) -> web.Response:
        status, reason = next(row[1:] for row in REFUSALS if isinstance(error, row[0]))
        response = self._error(status, reason, str(error))
        if status == 401:  # a browser asks for a name and a password then: the token is the password
            response.headers["WWW-Authenticate"] = 'Basic realm="sumgrad", charset="UTF-8"'
        return response

    @web.middleware
    async def _with_access(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._local and not access.names_this_machine(request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="This is served to its own machine only: ask for it by 127.0.0.1, [::1] or localhost.")
        scope = access.scope_of(request.path)
        if scope is not None:
            access.require(self._authenticator, request.headers.get("Authorization", ""), scope)
        return await handler(request)

    def _error(self, status: int, reason: str, said: str) -> web.Response:
        return web.Response(status=status, text=self._page.error(status, reason, said), content_type="text/html")

    # What is served.

    async def _whole(self, _: web.Request) -> web.Response:
        return web.Response(text=self._page.whole(), content_type="text/html")

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text=self._page.live(), content_type="text/html")

    async def _graph(self, request: web.Request) -> web.Response:
        graph = await self._page.view.stores.find_graph(request.match_info["id"])
        return web.Response(text=self._page.graph(graph, await self._drawings.of(graph)), content_type="text/html")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound(text="The page has no such file.")
        headers = {"Cache-Control": "max-age=300"}
        return web.Response(body=self._static[name], content_type=STATIC[name], charset="utf-8", headers=headers)

    async def _text(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, _: web.Request) -> web.Response:
        serving = self._page.view.serving()
        return web.Response(status=200 if serving else 503, text="serving\n" if serving else "not serving\n")
