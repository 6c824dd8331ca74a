"""The asyncio twin of the service: `sg.aio.connect`, `sg.aio.local`, with the methods of `Service` to be awaited.

async with sg.aio.connect("127.0.0.1:50051") as service:
    results = await asyncio.gather(*[service.value_and_grad(objective, params, batch) for batch in batches])
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import grpc
import grpc.aio
from sumgrad_engine.options import Evaluator
from sumgrad_proto.v1 import service_pb2 as wire

from . import calls
from .aio_stream import AsyncGradientStream
from .calls import METHODS, Call, Method, Pause, Steps
from .channel import MAX_MESSAGE_BYTES, channel_options, checked_address, error_of, shown_signature
from .credentials import TLSChoice, credentials
from .errors import ServiceError, UnavailableError
from .launch import ServerProcess
from .protocol import Protocol
from .retry import DEFAULT_RETRY, Retry

__all__ = ["AsyncService", "connect", "local"]

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _awaited(
    method: Callable[Concatenate[Protocol, Arguments], Steps[Answer]],
) -> Callable[Concatenate[AsyncService, Arguments], Coroutine[Any, Any, Answer]]:
    """A method of the protocol as a coroutine of the service that carries its steps out and returns the answer."""

    @functools.wraps(method)
    async def call(service: AsyncService, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        return await service.carry_out(method(service.protocol, *args, **kwargs))

    return shown_signature(call)


class AsyncService:
    """A connection to a server for asyncio, to be used in the event loop that made it. Close it, or use it in an `async with`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        protocol: Protocol,
        process: ServerProcess | None = None,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._channel = channel
        self.protocol = protocol
        self._metadata = metadata
        self._stubs = {method.path: _stub(channel, method) for method in METHODS}
        self._closed = False
        self.process = process  # the server, if `local` started it

    value_and_grad = _awaited(Protocol.value_and_grad)
    evaluate = _awaited(Protocol.evaluate)
    backward = _awaited(Protocol.backward)
    get_graph = _awaited(Protocol.get_graph)
    upload = _awaited(Protocol.upload)
    datasets = _awaited(Protocol.datasets)
    dataset = _awaited(Protocol.dataset)
    delete_dataset = _awaited(Protocol.delete_dataset)
    status = _awaited(Protocol.status)
    runs = _awaited(Protocol.runs)
    run_info = _awaited(Protocol.run_info)
    run_params = _awaited(Protocol.run_params)
    run_ledger = _awaited(Protocol.run_ledger)
    stop_run = _awaited(Protocol.stop_run)
    health = _awaited(Protocol.health)

    def stream(self, window: int = 16) -> AsyncGradientStream:
        """A stream of gradients, for an `async with`: at most `window` requests are unanswered at a time, and results come in their order.

        `value_and_grad` of the stream returns a future, so that requests can be sent before the results of others are there. The server has a window
        too (`--max-stream-window`, 64).
        """
        return AsyncGradientStream(self, window)

    def open_stream(self, requests: AsyncIterator[wire.GradientRequest]) -> Any:
        """The call behind a stream: its answers, one after another."""
        return self._stubs[calls.GRADIENT_STREAM.path](requests, metadata=self._metadata)

    async def close(self) -> None:
        """Closes the connection, and stops the server if `local` started it. Closing twice is fine."""
        self._closed = True
        await self._channel.close()
        if self.process is not None:
            await asyncio.to_thread(self.process.stop)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Carries out what a method of the protocol asks for, and returns its answer."""
        if self._closed:
            raise UnavailableError("this connection was closed: make another with connect or local", status="UNAVAILABLE")
        reply: Any = None
        error: ServiceError | None = None
        while True:
            try:
                step = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
            reply, error = None, None
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            try:
                reply = await self._call(step)
            except grpc.RpcError as refused:
                error = error_of(refused)

    async def _call(self, call: Call) -> Any:
        pending = self._stubs[call.method.path](call.request, timeout=call.timeout, metadata=self._metadata)
        return [reply async for reply in pending] if call.method.streams else await pending


def _stub(channel: grpc.aio.Channel, method: Method[Any, Any]) -> Any:
    if method.sends and not method.streams:
        send: Any = channel.stream_unary(method.path, response_deserializer=method.reply.FromString)  # the requests are serialised already
        return lambda requests, **options: send(_in_thread(requests), **options)
    kind = channel.stream_stream if method.sends else channel.unary_stream if method.streams else channel.unary_unary
    return kind(method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.reply.FromString)


async def _in_thread(items: Iterator[bytes]) -> AsyncIterator[bytes]:
    """What an iterator gives that reads files and computes: each item from a thread, so that the event loop goes on."""
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield cast(bytes, item)


def connect(
    address: str,
    *,
    timeout: float | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    retry: Retry = DEFAULT_RETRY,
    insecure: bool = False,
    tls: TLSChoice = None,
    token: str | None = None,
) -> AsyncService:
    """A connection to the server at "host:port", with the meanings of `sumgrad.connect`. Call it where an event loop runs."""
    chosen = credentials(tls, token)
    target = checked_address(address, insecure=insecure or chosen.tls is not None)
    options = [*channel_options(max_message_bytes), *chosen.options]
    channel = (
        grpc.aio.secure_channel(target, chosen.tls.channel_credentials(), options)
        if chosen.tls
        else grpc.aio.insecure_channel(target, options)
    )
    return AsyncService(channel, Protocol(timeout=timeout, retry=retry), metadata=chosen.metadata)


@asynccontextmanager
async def local(
    workers: int = 2,
    *,
    evaluator: Evaluator = "auto",
    state_dir: str | os.PathLike[str] | None = None,
    flags: Sequence[str] = (),
    timeout: float | None = None,  # noqa: ASYNC109 - of each call to the service, as in `sumgrad.local`
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> AsyncIterator[AsyncService]:
    """`async with sg.aio.local(workers=2) as service:` starts a server on this machine, as `sumgrad.local` does, and stops it at the end."""
    process = await asyncio.to_thread(ServerProcess.start, workers=workers, evaluator=evaluator, state_dir=state_dir, flags=flags)
    try:
        async with connect(process.address, timeout=timeout, max_message_bytes=max_message_bytes, tls=False, token="") as service:
            service.process = process
            yield service
    finally:
        await asyncio.to_thread(process.stop)
