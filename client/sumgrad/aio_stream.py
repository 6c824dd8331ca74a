"""The asyncio twin of stream.py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
from sumgrad_engine.errors import SumgradError
from sumgrad_engine.objective import Objective
from sumgrad_engine.options import Evaluator, Precision
from sumgrad_engine.program import Result
from sumgrad_proto.v1 import service_pb2 as wire

from .calls import Deadline
from .codec import EncodedGraph
from .protocol import Arrays, Data, read_result
from .resident import RowChoice
from .stream import error_in, is_to_be_asked_again

if TYPE_CHECKING:
    from .aio import AsyncService

__all__ = ["AsyncGradientStream"]


class AsyncGradientStream:
    """A stream of gradients over a connection; made by `AsyncService.stream`, used in an `async with`.

    At most `window` requests are unanswered at a time: the next one waits. Results come in the order of the requests.
    """

    def __init__(self, service: AsyncService, window: int) -> None:
        if window < 1:
            raise ValueError(f"window counts requests from 1, not {window}")
        self._service = service
        self._room = asyncio.Semaphore(window)
        self._line: _Line | None = None

    async def value_and_grad(
        self,
        objective: Objective,
        params: Arrays,
        data: Data,
        *,
        rows: RowChoice | None = None,
        wrt: Iterable[str] | str | None = None,
        debug: bool = False,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> asyncio.Future[Result]:
        """As `AsyncService.value_and_grad`, but what this waits for is room in the window: the result is a future."""
        steps = self._service.protocol.registered_request(
            objective, params, data, rows=rows, wrt=wrt, debug=debug, evaluator=evaluator, precision=precision
        )
        graph, request, deadline = await self._service.carry_out(steps)
        asked = _Asked(graph, request)
        left = deadline.remaining()
        if left is not None:
            asyncio.get_running_loop().call_later(left, _expire, asked.future, deadline)
        try:
            await asyncio.wait_for(self._room.acquire(), left)
        except TimeoutError:
            raise deadline.exceeded() from None
        if self._line is None or not self._line.send(asked):
            await self.close()
            self._line = _Line(self._service, self._room)
            self._line.send(asked)
        return asked.future

    async def close(self) -> None:
        """Waits for all results. Closing twice is fine."""
        if self._line is not None:
            line, self._line = self._line, None
            await line.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and self._line is not None:
            self._line.cancel()
        await self.close()


class _Asked:
    """A request on its way, and the future of its result."""

    def __init__(self, graph: EncodedGraph, request: wire.GradientRequest) -> None:
        self.graph, self.request = graph, request
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()


class _Line:
    """One call of GradientStream, with the task that takes its answers."""

    def __init__(self, service: AsyncService, room: asyncio.Semaphore) -> None:
        self._service, self._room = service, room
        self._outbox: asyncio.Queue[wire.GradientRequest | None] = asyncio.Queue()
        self._asked: deque[_Asked] = deque()
        self._over = False
        self._call: Any = service.open_stream(self._requests())
        self._taking = asyncio.ensure_future(self._take_answers())

    def send(self, asked: _Asked) -> bool:
        """Sends a request; False if the call has ended."""
        if not self._over:
            self._asked.append(asked)
            self._outbox.put_nowait(asked.request)
        return not self._over

    async def close(self) -> None:
        """No more requests; waits for the answers."""
        self._outbox.put_nowait(None)
        await asyncio.wait([self._taking])

    def cancel(self) -> None:
        """No more answers."""
        self._call.cancel()
        self._taking.cancel()
        for asked in self._asked:
            asked.future.cancel()

    async def _requests(self) -> AsyncIterator[wire.GradientRequest]:
        while (request := await self._outbox.get()) is not None:
            yield request

    async def _take_answers(self) -> None:
        try:
            async for answer in self._call:
                await self._fulfil(self._asked[0], answer)
                self._answered()
        except grpc.RpcError:
            pass  # what it has left unanswered is asked again
        self._over = True
        while self._asked:
            await self._ask_again(self._asked[0])
            self._answered()

    def _answered(self) -> None:
        self._asked.popleft()
        self._room.release()

    async def _fulfil(self, asked: _Asked, answer: wire.GradientStreamResponse) -> None:
        if answer.HasField("gradient"):
            _settle(asked.future, read_result(answer.gradient))
            return
        error = error_in(asked.graph, answer.error)
        if is_to_be_asked_again(error):
            await self._ask_again(asked)
        else:
            _settle(asked.future, error)

    async def _ask_again(self, asked: _Asked) -> None:
        try:
            _settle(asked.future, await self._service.carry_out(self._service.protocol.answered(asked.graph, asked.request)))
        except SumgradError as error:
            _settle(asked.future, error)


def _expire(future: asyncio.Future[Result], deadline: Deadline) -> None:
    _settle(future, deadline.exceeded())


def _settle(future: asyncio.Future[Result], outcome: Result | SumgradError) -> None:
    """Tells whoever waits, unless they have given up."""
    if future.done():
        return
    if isinstance(outcome, SumgradError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
