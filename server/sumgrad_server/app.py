"""The one place where all is wired, started and drained."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import threading
from collections.abc import Callable
from typing import TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from . import service
from .addresses import is_loopback
from .dataset_methods import DatasetMethods
from .executor import Executor, ProcessExecutor, Workers
from .gate import Gate, reflection_handler
from .graphs import StoredGraph
from .kept import Kept
from .observe.health import tell, watch
from .observe.observation import Observation
from .observe.view import Stores, View
from .planning import Asker
from .pool import Pool
from .rpc import Activity, Host
from .runs.contributions import Contributions
from .runs.methods import RunMethods
from .runs.stepping import StepMethod
from .security import Security
from .settings import PROCESSES, Settings
from .status_method import StatusMethod
from .store.database import StateError
from .stream import StreamMethods

log = logging.getLogger(__name__)

STDIN = 0
SERVICES = ("", service.NAME)
"""Whose health is told."""
FOR_EVER = 2**31 - 1
"""For gRPC, in milliseconds."""
LAST_SECONDS = 1.0
"""For telling clients that their requests were given up."""


Announce: TypeAlias = Callable[[str, str | None], None]
"""Is told the address of the service, and that of metrics and the page if they are served."""


class StartError(Exception):
    """The server can't start; the message says why."""


def grpc_options(settings: Settings) -> list[tuple[str, int]]:
    """GRPC's options for the server's side."""
    return [
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),  # two servers on one port is a mistake, not load balancing
        # Clients may ask once a second whether this end lives: without that, a host that is cut off is noticed by the deadline only.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
        ("grpc.http2.max_ping_strikes", 0),
        # And this end asks too: what a client wanted that vanished without a word is given up, and its connection closed.
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.http2.ping_timeout_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.handshake_seconds)),
        ("grpc.max_concurrent_streams", settings.max_connection_calls),
    ]


def _milliseconds(seconds: float) -> int:
    """As gRPC takes it; 0 is for ever."""
    return min(int(1000 * seconds), FOR_EVER) or FOR_EVER


def allow_open_files() -> None:
    """As many as this process may allow itself: each connection takes one, each large graph and each piece of shared memory two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class App:
    """A server: workers first, then gRPC; and on the way down the other way round."""

    def __init__(self, settings: Settings) -> None:
        """Raises StartError if certificates or tokens can't be used."""
        self._settings = settings
        allow_open_files()
        try:
            self._security = Security.of(settings)
        except ValueError as error:
            raise StartError(str(error)) from error
        self._pool, self._executor = computing(settings)
        self._kept = Kept(settings)
        stores = Stores(self._kept.graphs.held, self._kept.datasets.entries, self._kept.runs, self._find_graph)
        self._view = View(settings, self._pool, stores)
        self._observation = Observation(self._view)
        self._health = health.aio.HealthServicer()
        self._activity = Activity()
        self._host = Host(settings, self._activity, self._security.authenticator, self._observation)
        self._stop = asyncio.Event()
        self._draining = asyncio.Event()

    async def run(self, announce: Announce, exit_with_parent: bool = False) -> None:
        """Serves until SIGTERM, SIGINT or the parent's end. `announce` is called when requests can come. Raises StartError."""
        self._listen_for_the_end(exit_with_parent)
        try:
            await self._kept.open()
        except StateError as error:
            raise StartError(str(error)) from error
        try:
            await self._run(announce)
        finally:
            await self._kept.close()

    async def _run(self, announce: Announce) -> None:
        self._pool.start()
        try:
            await first_of(self._pool.ready, self._pool.broken, self._stop)
            if not (self._stop.is_set() or self._pool.broken.is_set()):
                await self._serve(announce)
        finally:
            self._pool.abort()
            await self._pool.stopped.wait()
        if self._pool.broken.is_set():
            raise StartError("the workers die before they are ready; the log above says why")

    async def _serve(self, announce: Announce) -> None:
        server, port = self._make_server()
        metrics = await self._serve_metrics()
        await tell(self._health, SERVICES, serving=self._view.serving())
        watching = asyncio.create_task(watch(self._view, self._health, SERVICES))
        try:
            await server.start()
            announce(_with_port(self._settings.address, port), metrics)
            await first_of(self._stop, self._pool.broken)
            await self._drain(server)
        finally:
            watching.cancel()
            await self._observation.close()

    async def _serve_metrics(self) -> str | None:
        address = self._settings.metrics_address
        if address is None:
            return None
        if address.startswith("unix:"):
            raise StartError(f"can't serve metrics on {address}: give host:port")
        try:
            context = self._security.context()
            return await self._observation.serve(address, self._security.authenticator, local=is_loopback(address), context=context)
        except OSError as error:
            raise StartError(f"can't serve metrics on {address}: {error}") from error

    async def _find_graph(self, name: str) -> StoredGraph:
        """For the page: a graph that is on the disk alone is read and checked, in turn with the requests of clients."""
        return await self._kept.graphs.get(name, lambda shared: self._executor.describe(shared, Asker("page")))

    async def _drain(self, server: grpc.aio.Server) -> None:
        """New work gets UNAVAILABLE, running calls have their grace; then those that are left get UNAVAILABLE too, and gRPC stops.

        gRPC's own draining would answer CANCELLED to calls that cross its notice, and wait for health watches, which don't end.
        """
        log.info("draining: running requests have %g s", self._settings.grace)
        self._draining.set()
        self._pool.drain()
        self._view.draining = True
        await self._kept.runs.drain()
        await self._health.enter_graceful_shutdown()
        await self._idle_within(self._settings.grace)
        self._pool.abort()
        await self._idle_within(LAST_SECONDS)
        await server.stop(LAST_SECONDS)  # with nothing left but health watches, that is for clients to part in peace

    async def _idle_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._activity.idle.wait(), seconds)

    def _make_server(self) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(options=grpc_options(self._settings))
        kept = self._kept
        methods = service.Service(self._settings, self._executor, kept.graphs, kept.datasets)
        handlers = methods.handlers(self._host) | StatusMethod(self._view).handlers(self._host)
        handlers |= StreamMethods(self._settings, methods.gradient, self._draining).handlers(self._host)
        handlers |= DatasetMethods(self._settings, kept.datasets, kept.uploads).handlers(self._host)
        handlers |= RunMethods(self._settings, kept.runs, methods.graph, methods.granted).handlers(self._host)
        contributions = Contributions(self._settings, self._executor, methods.graph, kept.datasets, methods.granted)
        handlers |= StepMethod(self._settings, kept.runs, contributions).handlers(self._host)
        server.add_generic_rpc_handlers(
            (
                Gate(service.NAME, handlers, self._host),
                reflection_handler((service.NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), self._host),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            port = self._security.add_port(server, self._settings.address)
        except RuntimeError as error:
            raise StartError(f"can't listen on {self._settings.address}: {error}") from error
        return server, port

    def _listen_for_the_end(self, exit_with_parent: bool) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        if exit_with_parent:
            threading.Thread(target=_wait_for_parent, args=[loop, self._stop], daemon=True).start()


def computing(settings: Settings) -> tuple[Workers, Executor]:
    """What computes, and who does it. Raises StartError."""
    if settings.executor == PROCESSES:
        pool = Pool(settings)
        return pool, ProcessExecutor(pool, settings)
    try:
        from .cluster.connection import Cluster
        from .cluster.executor import DaskExecutor
    except ImportError as error:
        raise StartError(f"the executor {settings.executor} needs Dask ({error}): pip install 'sumgrad[dask]'") from error
    try:
        cluster = Cluster(settings)
    except ValueError as error:
        raise StartError(str(error)) from error
    return cluster, DaskExecutor(cluster, settings)


async def first_of(*events: asyncio.Event) -> None:
    """Waits until one of these is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _with_port(address: str, port: int) -> str:
    """The address with the port that was chosen for port 0."""
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def _wait_for_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Sets the event when stdin ends, which is when the parent is gone."""
    while os.read(STDIN, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


def announcement(address: str, metrics: str | None) -> str:
    """What a parent process reads; `metrics` is the address of metrics and the page, or null."""
    return json.dumps({"address": address, "pid": os.getpid(), "metrics": metrics})


def greeting(address: str, metrics: str | None) -> str:
    """What a person reads."""
    page = f", its page on {metrics}" if metrics else ""
    return f"sumgrad serves on {address}{page} (process {os.getpid()}); Control-C ends it"
