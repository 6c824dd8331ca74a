"""GradientStream: many gradients over one call, computed as they come and answered in their order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
from sumgrad_engine.errors import SumgradError
from sumgrad_proto.v1 import service_pb2 as wire

from . import rpc, status
from .faults import DrainingError
from .rpc import Call, Host, RpcHandler
from .settings import Settings

PART = "GradientStream.Gradient"
"""What one request of a stream is called by those who observe."""

Method: TypeAlias = Callable[[Call, wire.GradientRequest], Awaitable[wire.GradientResponse]]


class StreamMethods:
    """The method, on top of that for one gradient. When the server drains, streams end as soon as what they have asked is answered."""

    def __init__(self, settings: Settings, gradient: Method, draining: asyncio.Event) -> None:
        self._settings = settings
        self._gradient = gradient
        self._draining = draining

    def handlers(self, host: Host) -> dict[str, RpcHandler]:
        """The method by name, as gRPC calls it."""
        return {"GradientStream": rpc.bidirectional(host, "compute", "GradientStream", wire.GradientRequest, self.gradient_stream)}

    async def gradient_stream(self, call: Call, requests: AsyncIterator[wire.GradientRequest | SumgradError]) -> None:
        """Reads on while the window has room for more unanswered requests; whoever leaves takes all of them along."""
        window = _Window(self._settings.max_stream_window, self._settings.max_message_bytes)
        reading = asyncio.ensure_future(self._read(call, requests, window))
        parting: asyncio.Future[Any] = asyncio.ensure_future(self._draining.wait())
        try:
            while (task := await window.first(reading, parting)) is not None:
                await call.send(await task)
                window.release()
            if not reading.done():
                raise DrainingError
            reading.result()
        finally:
            await _given_up([reading, parting, *window.tasks])

    async def _read(self, call: Call, requests: AsyncIterator[wire.GradientRequest | SumgradError], window: _Window) -> None:
        async for request in requests:
            nbytes = 0 if isinstance(request, SumgradError) else request.ByteSize()
            window.put(asyncio.ensure_future(self._answer(call, request)), nbytes)
            await window.room()

    async def _answer(self, call: Call, request: wire.GradientRequest | SumgradError) -> wire.GradientStreamResponse:
        """What a call of its own would have been answered, or ended with. Whoever observes hears of it as of one."""
        began, code, said, samples = time.monotonic(), grpc.StatusCode.OK, "", 0
        request_id = "" if isinstance(request, SumgradError) else request.request_id
        call.host.observer.call_began(PART)
        try:
            gradient = await self._computed(call, request)
            samples = gradient.sample_count
            return wire.GradientStreamResponse(gradient=gradient)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001 - the status table has a row for the rest
            refusal = status.refusal(error, request_id, self._settings.retry_seconds)
            code, said = refusal.code, refusal.message
            return wire.GradientStreamResponse(error=stream_error(refusal, request_id))
        finally:
            call.host.observer.call_ended(call.part(PART, request_id, code, time.monotonic() - began, said, samples))

    async def _computed(self, call: Call, request: wire.GradientRequest | SumgradError) -> wire.GradientResponse:
        if isinstance(request, SumgradError):  # of reading it
            raise request
        return await self._gradient(call, request)


def stream_error(refusal: status.Refusal, request_id: str) -> wire.StreamError:
    """An error within a stream, which goes on."""
    details = refusal.status.SerializeToString()
    return wire.StreamError(code=refusal.code.value[0], message=refusal.message, details=details, request_id=request_id)


Answer: TypeAlias = "asyncio.Future[wire.GradientStreamResponse]"


class _Window:
    """The unanswered requests of a stream, in order: at most so many, and no more than so many bytes before the last one."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._sizes: deque[int] = deque()
        self._changed = asyncio.Event()
        self.tasks: deque[Answer] = deque()

    def put(self, task: Answer, nbytes: int) -> None:
        """Takes a request that is being answered."""
        self.tasks.append(task)
        self._sizes.append(nbytes)
        self._changed.set()

    def release(self) -> None:
        """The first one is answered."""
        self.tasks.popleft()
        self._sizes.popleft()
        self._changed.set()

    async def room(self) -> None:
        """Waits until there is room for another request."""
        while len(self.tasks) >= self._most or sum(self._sizes) > self._most_bytes:
            self._changed.clear()
            await self._changed.wait()

    async def first(self, reading: asyncio.Future[None], parting: asyncio.Future[Any]) -> Answer | None:
        """The answer whose turn is next; None when there are no more, or the server drains."""
        while not self.tasks:
            if reading.done() or parting.done():
                return None
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait((changed, reading, parting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
        return self.tasks[0]


async def _given_up(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancels tasks and waits for their end: some write to memory that is to be used again."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
