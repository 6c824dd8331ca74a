"""What all methods have in common: who calls, reading the request, its id and its deadline, turning errors into statuses, and telling about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import grpc
from google.protobuf.message import Message
from sumgrad_engine.errors import InputError, SumgradError

from . import codec, status
from .auth import EVERYBODY, Authenticator, NoTokens, Principal, Scope
from .scan import SMALL, plainly_small, scan
from .settings import Settings
from .threads import in_thread

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer")
Plain = TypeVar("Plain")
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"

TRACE_KEYS = frozenset({"traceparent", "tracestate"})


class Activity:
    """How many calls are under way: `idle` is set while there are none."""

    def __init__(self) -> None:
        self._calls = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def begin(self, context: Context) -> None:
        """Counts a call until its last byte is sent, or it is gone."""
        self._calls += 1
        self.idle.clear()
        context.add_done_callback(self._end)  # type: ignore[arg-type]  # the stubs forgot that it is a Protocol

    def _end(self, _: Context) -> None:
        self._calls -= 1
        if not self._calls:
            self.idle.set()


class Finished(NamedTuple):
    """A call that is over, for whoever observes. `seconds` is from its first byte here to its last."""

    method: str
    status: str
    seconds: float
    request_id: str
    caller: str
    received_bytes: int
    sent_bytes: int
    message: str = ""
    """What was wrong, if anything was."""
    samples: int = 0
    """How many it summed or evaluated."""
    trace: Mapping[str, str] = MappingProxyType({})
    """The metadata of W3C Trace Context that came with it."""


class Observer(Protocol):
    """Hears of calls."""

    def call_began(self, method: str) -> None:
        """A call has come."""

    def call_ended(self, call: Finished) -> None:
        """It is over."""


class Unobserved:
    """Hears nothing."""

    def call_began(self, method: str) -> None:
        """A call has come."""

    def call_ended(self, call: Finished) -> None:
        """It is over."""


@dataclass(frozen=True)
class Host:
    """What handlers stand on."""

    settings: Settings
    activity: Activity
    authenticator: Authenticator = field(default_factory=NoTokens)
    observer: Observer = field(default_factory=Unobserved)


@dataclass
class Call:
    """One call, as far as all methods care."""

    context: Context
    host: Host
    method: str
    principal: Principal = EVERYBODY
    request_id: str = ""
    received_bytes: int = 0
    sent_bytes: int = 0
    samples: int = 0
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def client(self) -> str:
        """Whom the service is fair to: a token's owner or, without tokens, a connection."""
        return self.principal.name or self.context.peer()

    async def read(self, kind: type[Request], data: bytes) -> Request:
        """The message in these bytes, whose request id becomes the call's. Raises MalformedMessageError, LimitError, InputError."""
        self.received_bytes += len(data)
        if len(data) > SMALL and not plainly_small(kind, data):
            await in_thread(scan, kind, data, codec.request_bounds(self.host.settings))
        request = codec.parse(kind, data)
        named = getattr(request, "request_id", "")
        if named:
            self.request_id = self.checked_id(named)
        return request

    def checked_id(self, request_id: str) -> str:
        """A request id, if it is not too long. Raises InputError."""
        most = self.host.settings.max_request_id_bytes
        if len(request_id.encode()) > most:
            raise InputError(f"request_id has more than max_request_id_bytes = {most}", field="request_id")
        return request_id

    def written(self, response: Message | bytes) -> bytes:
        """The bytes of a response, which may be those already. Raises LimitError if they are more than a message may have."""
        data = response if isinstance(response, bytes) else response.SerializeToString()
        codec.within(self.host.settings.max_message_bytes, "max_message_bytes", len(data), "bytes of the response")
        self.sent_bytes += len(data)
        return data

    async def send(self, response: Message | bytes) -> None:
        """Sends one of a stream's responses."""
        await self.context.write(self.written(response))

    async def guarded(self, scope: Scope, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Does the work until the call's deadline; errors become the call's status. A client that left gets none, and stops it."""
        began, code, said = time.monotonic(), grpc.StatusCode.OK, ""
        self.host.activity.begin(self.context)
        self.host.observer.call_began(self.method)
        try:
            metadata = self.context.invocation_metadata() or ()
            self.trace = {key: value for key, value in metadata if key in TRACE_KEYS and isinstance(value, str)}
            self.principal = self.host.authenticator.principal(metadata)
            self.principal.require(scope)
            remaining = cast("float | None", self.context.time_remaining())  # the stubs forgot that there may be none
            if remaining is None:
                return await work()
            async with asyncio.timeout(remaining):
                return await work()
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            refusal = status.refusal(error, self.request_id, self.host.settings.retry_seconds)
            code, said = refusal.code, refusal.message
            if self.context.done():  # its deadline has passed, or its client is gone: nobody hears it
                raise asyncio.CancelledError from error
            await self.context.abort(refusal.code, refusal.message, (refusal.trailer,))
        finally:
            self.host.observer.call_ended(self._finished(code, time.monotonic() - began, said))

    def _finished(self, code: grpc.StatusCode, seconds: float, said: str) -> Finished:
        sizes = (self.received_bytes, self.sent_bytes)
        return Finished(self.method, code.name, seconds, self.request_id, self.client, *sizes, said, self.samples, self.trace)

    def part(self, method: str, request_id: str, code: grpc.StatusCode, seconds: float, said: str, samples: int) -> Finished:
        """One request of this call, if it is a stream of them. Its bytes are counted with those of the call."""
        return Finished(method, code.name, seconds, request_id, self.client, 0, 0, said, samples, self.trace)


def unary(
    host: Host, scope: Scope, name: str, kind: type[Request], method: Callable[[Call, Request], Awaitable[Message | bytes]]
) -> RpcHandler:
    """The handler of a method with one response. gRPC passes bytes: what can't be parsed is to be refused by us, not by gRPC."""

    async def handle(data: bytes, context: Context) -> bytes:
        call = Call(context, host, name)

        async def respond() -> bytes:
            return call.written(await method(call, await call.read(kind, data)))

        return await call.guarded(scope, respond)

    return grpc.unary_unary_rpc_method_handler(handle)


def streaming(host: Host, scope: Scope, name: str, kind: type[Request], method: Callable[[Call, Request], Awaitable[None]]) -> RpcHandler:
    """The handler of a method that sends its responses itself."""

    async def handle(data: bytes, context: Context) -> None:
        call = Call(context, host, name)

        async def respond() -> None:
            await method(call, await call.read(kind, data))

        await call.guarded(scope, respond)

    return grpc.unary_stream_rpc_method_handler(handle)


def client_streaming(
    host: Host,
    scope: Scope,
    name: str,
    kind: type[Request],
    method: Callable[[Call, AsyncIterator[Request | Plain]], Awaitable[Message]],
    plain: Callable[[bytes], Plain | None],
) -> RpcHandler:
    """The handler of a method that reads requests as they come, and has one response. Those that `plain` can read are not read by protobuf."""

    async def handle(requests: Any, context: Context) -> bytes:
        call = Call(context, host, name)

        async def respond() -> bytes:
            return call.written(await method(call, _read_plain(call, kind, plain, requests)))

        return await call.guarded(scope, respond)

    return grpc.stream_unary_rpc_method_handler(handle)


def bidirectional(
    host: Host,
    scope: Scope,
    name: str,
    kind: type[Request],
    method: Callable[[Call, AsyncIterator[Request | SumgradError]], Awaitable[None]],
) -> RpcHandler:
    """The handler of a method that reads requests as they come, and sends its responses itself. What is no request comes as the error that it is."""

    async def handle(requests: Any, context: Context) -> None:
        call = Call(context, host, name)

        async def respond() -> None:
            await method(call, _read(call, kind, requests))

        await call.guarded(scope, respond)

    return grpc.stream_stream_rpc_method_handler(handle)


async def _read(call: Call, kind: type[Request], requests: AsyncIterator[bytes]) -> AsyncIterator[Request | SumgradError]:
    async for data in requests:
        try:
            request: Request | SumgradError = await call.read(kind, data)
        except SumgradError as error:
            request = error
        yield request


async def _read_plain(
    call: Call, kind: type[Request], plain: Callable[[bytes], Plain | None], requests: AsyncIterator[bytes]
) -> AsyncIterator[Request | Plain]:
    async for data in requests:
        found = plain(data)
        if found is None:
            yield await call.read(kind, data)
        else:
            call.received_bytes += len(data)
            yield found
