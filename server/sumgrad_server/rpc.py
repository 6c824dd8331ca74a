"""What all methods have in common: reading the request, its id and its deadline, and turning errors into statuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from sumgrad_engine.errors import InputError
from sumgrad_proto.v1 import service_pb2 as wire

from . import codec, status
from .settings import Settings

AnyRequest: TypeAlias = (
    wire.RegisterGraphRequest | wire.GetGraphRequest | wire.GradientRequest | wire.EvaluateRequest | wire.BackwardRequest
)
Request = TypeVar("Request", bound=AnyRequest)
Answer = TypeVar("Answer")
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


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


@dataclass
class Call:
    """One call, as far as all methods care."""

    context: Context
    settings: Settings
    request_id: str = ""

    def read(self, kind: type[Request], data: bytes) -> Request:
        """The request in these bytes. Raises MalformedMessageError, InputError."""
        request = codec.parse(kind, data)
        if len(request.request_id.encode()) > self.settings.max_request_id_bytes:
            raise InputError(f"request_id has more than max_request_id_bytes = {self.settings.max_request_id_bytes}", field="request_id")
        self.request_id = request.request_id
        return request

    def written(self, response: Message) -> bytes:
        """The bytes of a response. Raises LimitError if they are more than a message may have."""
        codec.within(self.settings.max_message_bytes, "max_message_bytes", response.ByteSize(), "bytes of the response")
        return response.SerializeToString()

    async def send(self, response: Message) -> None:
        """Sends one of a stream's responses."""
        await self.context.write(self.written(response))

    async def guarded(self, method: Callable[[Call, Request], Awaitable[Answer]], kind: type[Request], data: bytes) -> Answer:
        """Runs a method until its deadline; its errors become the call's status. A client that left gets none, and stops it."""
        try:
            async with asyncio.timeout(self.context.time_remaining()):
                return await method(self, self.read(kind, data))
        except Exception as error:  # noqa: BLE001 - the status table has a row for the rest
            refusal = status.refusal(error, self.request_id, self.settings.retry_seconds)
            await self.context.abort(refusal.code, refusal.message, (refusal.trailer,))


Method: TypeAlias = Callable[[Call, Request], Awaitable[Answer]]


def unary(
    settings: Settings, activity: Activity, kind: type[Request], method: Method[Request, Message]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The handler of a method with one response. gRPC passes bytes: what can't be parsed is to be refused by us, not by gRPC."""

    async def respond(call: Call, request: Request) -> bytes:
        return call.written(await method(call, request))

    async def handle(data: bytes, context: Context) -> bytes:
        activity.begin(context)
        return await Call(context, settings).guarded(respond, kind, data)

    return grpc.unary_unary_rpc_method_handler(handle)


def streaming(
    settings: Settings, activity: Activity, kind: type[Request], method: Method[Request, None]
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """The handler of a method that sends its responses itself."""

    async def handle(data: bytes, context: Context) -> None:
        activity.begin(context)
        await Call(context, settings).guarded(method, kind, data)

    return grpc.unary_stream_rpc_method_handler(handle)
