"""The connection to a Dask scheduler: made, lost, and made again; who may ask for something, and what the cluster looks like."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from distributed import Client
from distributed.security import Security

from ..census import Census, Totals, WorkerCensus
from ..faults import BusyError, DrainingError
from ..planning import Asker
from ..settings import Settings

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
LOOK_SECONDS = 0.1
"""How often the connection is looked at."""
ASK_SECONDS = 1.0
"""How often the scheduler is asked for its workers."""


class Cluster:
    """One scheduler and its workers, which come and go."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError if there is no way to speak to such an address."""
        self._settings = settings
        self._security = security(settings)
        self._client: Client | None = None
        self._workers: dict[str, dict[str, Any]] = {}  # by address, as the scheduler has said
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[object]] = set()
        self._askers: Counter[str] = Counter()
        self._draining = self._aborted = False
        self.totals = Totals()
        self._said = ""  # of what is wrong with the connection
        self.tasks = 0  # that the scheduler has
        self.ready, self.broken, self.stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def start(self) -> None:
        """Begins to look for the scheduler. Requests that come before it is found wait."""
        self._keeper = asyncio.create_task(self._keep())
        self.ready.set()

    @property
    def serving(self) -> bool:
        """Whether there are workers."""
        return self._connected.is_set() and bool(self._workers)

    @property
    def size(self) -> int:
        """How many workers there are; one, if none is known."""
        return max(1, len(self._workers))

    def census(self) -> Census:
        """The cluster's workers. Their processes are other machines' business, and have no numbers here; as many are busy as there are tasks for."""
        workers = tuple(
            WorkerCensus(number, 0, "busy" if number < self.tasks else "idle", 0, _memory(state))
            for number, state in enumerate(self._workers.values())
        )
        return Census(workers, len(self._requests), 0, self.totals)

    async def client(self) -> Client:
        """The client, as soon as there is a connection."""
        while True:
            await self._connected.wait()
            if self._client is not None and self._client.status == "running":
                return self._client
            self._connected.clear()

    @asynccontextmanager
    async def admitted(self, asker: Asker) -> AsyncIterator[None]:
        """One request. Raises BusyError, DrainingError."""
        if self._draining:
            raise DrainingError
        self._require_room(asker)
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        self._askers[asker.client] += 1
        try:
            yield
        except asyncio.CancelledError:
            if self._aborted:
                raise DrainingError("the server went down before the work was done") from None
            raise
        finally:
            self._requests.discard(task)
            self._askers -= Counter([asker.client])

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """One task that the scheduler has."""
        self.tasks += 1
        try:
            yield
        finally:
            self.tasks -= 1

    def drain(self) -> None:
        """No new requests."""
        self._draining = True

    def abort(self) -> None:
        """Ends requests that run, and the connection."""
        self._draining = self._aborted = True
        for task in self._requests:
            task.cancel()
        if self._keeper is None:
            self.stopped.set()
        else:
            self._keeper.cancel()

    def _require_room(self, asker: Asker) -> None:
        settings = self._settings
        limit = "max_client_queue"
        allowed = settings.max_client_queue if asker.most is None else asker.most
        if self._askers[asker.client] >= allowed:
            whose = "of this client "
        elif len(self._requests) >= settings.max_queue:
            limit, allowed, whose = "max_queue", settings.max_queue, ""
        else:
            return
        said = f"as many requests {whose}wait or run already as {limit} allows"
        raise BusyError(said, limit=limit, value=allowed + 1, allowed=allowed)

    async def _ask(self, client: Client) -> None:
        """Asks the scheduler for its workers: what an asynchronous client knows by itself does not have them."""
        with contextlib.suppress(OSError, TimeoutError):  # the connection will be made again
            identity = await asyncio.wait_for(client.scheduler.identity(n_workers=-1), CONNECT_SECONDS)
            self._workers = identity["workers"]

    async def _keep(self) -> None:
        """Connects, and again whenever the connection is lost for good."""
        try:
            while True:
                try:
                    await self._connected_once()
                except Exception as error:  # noqa: BLE001 - whatever has answered: a scheduler may come in its place
                    self._complain(error)
                    await asyncio.sleep(ASK_SECONDS)
        finally:
            self._connected.clear()
            self.stopped.set()

    async def _connected_once(self) -> None:
        """Waits for the scheduler, and ends when the connection is lost. Raises what comes of an answer that is no scheduler's."""
        async with self._connection() as client:
            while client.status in ("running", "connecting"):
                if client.status == "running":
                    self._connected.set()
                    await self._ask(client)
                await asyncio.sleep(LOOK_SECONDS if not self._workers else ASK_SECONDS)
        log.warning("the connection to the scheduler %s is lost", self._settings.executor)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Client]:
        client = self._client = await self._found()
        try:
            await self._ask(client)
            log.info("connected to the scheduler %s, which has %d workers", self._settings.executor, len(self._workers))
            self._said = ""
            self._connected.set()
            yield client
        finally:
            self._connected.clear()
            self._client, self._workers = None, {}
            await _closed(client)

    async def _found(self) -> Client:
        while True:
            client = Client(
                self._settings.executor,
                asynchronous=True,
                security=self._security,
                timeout=CONNECT_SECONDS,
                set_as_default=False,
                name="sumgrad",
            )
            try:
                return await client
            except (OSError, TimeoutError) as error:
                self._complain(error)
                await _closed(client)
                await asyncio.sleep(LOOK_SECONDS)
            except BaseException:
                await _closed(client)
                raise

    def _complain(self, error: Exception) -> None:
        """Says once that there is no connection, and why."""
        said = (
            str(error) if isinstance(error, OSError | TimeoutError) else f"what answers there is no scheduler that can be used: {error!r}"
        )
        if said != self._said:
            self._said = said
            log.warning("no connection to the scheduler %s: %s; trying again", self._settings.executor, said)


async def _closed(client: Client) -> None:
    with contextlib.suppress(Exception):
        await client.close(timeout=1)


def _memory(state: dict[str, Any]) -> int:
    return int(state.get("metrics", {}).get("memory", 0))


def security(settings: Settings) -> Security | None:
    """Mutual TLS to the cluster, for tls:// addresses. Raises ValueError."""
    files = {name: getattr(settings, f"executor_{name}") for name in ("tls_ca", "tls_cert", "tls_key")}
    scheme = settings.executor.partition("://")[0]
    if scheme == "tcp":
        return None
    if scheme != "tls":
        raise ValueError(f"executor is {settings.executor!r}: give processes, tcp://host:port or tls://host:port")
    missing = [f"executor_{name}" for name, path in files.items() if path is None]
    if missing:
        raise ValueError(f"executor is {settings.executor!r}, which needs {', '.join(missing)} too")
    return Security(
        tls_ca_file=files["tls_ca"], tls_client_cert=files["tls_cert"], tls_client_key=files["tls_key"], require_encryption=True
    )
