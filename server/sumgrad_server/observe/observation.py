"""Brings the observers of calls together, and starts what tells about them."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from ..auth import Authenticator
from ..rpc import Finished, Observer
from .calls import CallCounts
from .logs import CallLog
from .recent import RecentCalls
from .traces import from_environment
from .view import View

if TYPE_CHECKING:
    from .http import Site


class Observation:
    """What observes a server. An Observer."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._calls, self._recent = CallCounts(), RecentCalls()
        self._spans = from_environment(os.environ)
        self._observers: tuple[Observer, ...] = (self._calls, self._recent, CallLog(), *((self._spans,) if self._spans else ()))
        self._site: Site | None = None

    def call_began(self, method: str) -> None:
        """A call has come."""
        self._calls.call_began(method)

    def call_ended(self, call: Finished) -> None:
        """It is over."""
        for observer in self._observers:
            observer.call_ended(call)

    async def serve(self, address: str, authenticator: Authenticator, *, local: bool, context: ssl.SSLContext | None) -> str:
        """Serves metrics and the page; the address, with the port that was chosen for port 0. Raises OSError."""
        from .http import Site  # with the HTTP library and the templates: a server without an address for metrics starts sooner
        from .metrics import Metrics
        from .page import Page, Throughput

        host, _, port = address.rpartition(":")
        page = Page(self.view, self._calls, self._recent, Throughput(self.view, self._calls))
        site = Site(page, Metrics(self._calls, self.view), authenticator, local=local)
        chosen = await site.start(host.removeprefix("[").removesuffix("]"), int(port), context)
        self._site = site
        return f"{host}:{chosen}"

    async def close(self) -> None:
        """Serves no more, and sends the traces that are not sent yet."""
        if self._site is not None:
            await self._site.close()
        if self._spans is not None:
            self._spans.close()
