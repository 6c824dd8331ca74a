"""The conversation with one server: which graphs it was sent, and how calls are tried again."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import Message
from sumgrad_engine.ir import Graph
from sumgrad_proto.v1 import service_pb2 as wire

from . import calls, codec
from .calls import Deadline, Method, Steps, unary
from .codec import EncodedGraph
from .errors import (
    DeadlineExceededError,
    InternalError,
    NonFiniteError,
    NotFoundError,
    ResourceExhaustedError,
    ServiceError,
    UnavailableError,
)
from .recent import Recent
from .retry import DEFAULT_RETRY, Retry

Answer = TypeVar("Answer")
Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


class Conversation:
    """The conversation with one server: which graphs it was sent, and how calls are tried again.

    `timeout` (seconds; None waits for ever) holds for every call that is given none, retries included. Clock, dice and request ids can be
    replaced, which is what tests do.
    """

    def __init__(
        self,
        *,
        timeout: float | None = None,
        retry: Retry = DEFAULT_RETRY,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
        new_request_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._timeout = timeout
        self._retry = retry
        self._clock = clock
        self._dice = dice
        self._new_request_id = new_request_id
        self._registered: set[str] = set()
        self._encoded: Recent[EncodedGraph] = Recent()
        self._traced: Recent[EncodedGraph] = Recent()

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._clock, self._timeout if timeout is None else timeout)

    def _with_graph(
        self,
        graph: EncodedGraph,
        method: Method[Request, Reply],
        send: Callable[[Method[Request, Reply], Request, float | None], Steps[Answer]],
        request: Request,
        deadline: Deadline,
    ) -> Steps[Answer]:
        """A call that names a graph: registers it if this connection has not, and again if the server has lost it since."""
        try:
            yield from self._register(graph, deadline)
            try:
                return (yield from self._send(method, send, request, deadline))
            except NotFoundError as error:
                if error.details.get("reason") in ("UNKNOWN_DATASET", "UNKNOWN_RUN"):
                    raise
                self._registered.discard(graph.id)
                yield from self._register(graph, deadline)
                return (yield from self._send(method, send, request, deadline))
        except ServiceError as error:
            raise error.located(source_of(graph.graph, error)) from None

    def _register(self, graph: EncodedGraph, deadline: Deadline) -> Steps[None]:
        """Registers a graph, unless this connection has."""
        if graph.id in self._registered:
            return
        request = wire.RegisterGraphRequest(
            request_id=self._new_request_id(), graph=graph.data, sources=codec.encode_sources(graph.graph.sources)
        )
        reply = yield from self._send(calls.REGISTER_GRAPH, unary, request, deadline)
        if reply.graph_id != graph.id:
            raise InternalError(f"the service names the graph {reply.graph_id}, not {graph.id}", request_id=request.request_id)
        self._registered.add(graph.id)

    def _send(
        self,
        method: Method[Request, Reply],
        send: Callable[[Method[Request, Reply], Request, float | None], Steps[Answer]],
        request: Request,
        deadline: Deadline,
    ) -> Steps[Answer]:
        """One call, sent again under the same request id while the server is unavailable, or full and says when to come back."""
        attempt = 1
        while True:
            try:
                return (yield from send(method, request, deadline.remaining()))
            except DeadlineExceededError as error:
                raise deadline.exceeded(**error.details) from None
            except (UnavailableError, ResourceExhaustedError) as error:
                pause = self._retry.pause(attempt, self._dice(), error)
                if pause is None or not deadline.allows(pause):
                    raise
                yield calls.Pause(pause)
                attempt += 1


def source_of(graph: Graph, error: ServiceError) -> str | None:
    """The line that made the node which the error names; in debug mode the server numbers the nodes of what it derived."""
    if isinstance(error, NonFiniteError):
        return None
    node = error.context.get("node", "")
    return graph.sources.describe(int(node)) if graph.sources is not None and node.isdecimal() else None
