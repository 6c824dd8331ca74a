"""Streams of gradients: requests are sent without waiting for the answers of those before, so that the way there and back is hidden.

What the stream can't answer (it broke, the server is full, or has lost the graph) is asked again by a call of its own, with all that calls do to get an answer.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
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
from .conversation import source_of
from .errors import CancelledError, NotFoundError, ResourceExhaustedError, ServiceError, UnavailableError
from .protocol import Arrays, Data, read_result
from .resident import RowChoice
from .status import from_status

if TYPE_CHECKING:
    from .connection import Service

__all__ = ["GradientStream"]


class Awaited(Future[Result]):
    """A result that is awaited until a deadline at most: that of the connection."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline
        self.set_running_or_notify_cancel()  # it is under way, and can't be cancelled by itself

    def result(self, timeout: float | None = None) -> Result:
        """The result. Raises the errors of a call, DeadlineExceededError, and TimeoutError after `timeout` seconds."""
        left = None if self.done() else self._deadline.remaining()
        if left is None or (timeout is not None and timeout <= left):
            return super().result(timeout)
        try:
            return super().result(left)
        except TimeoutError:
            if self.done():
                raise
            raise self._deadline.exceeded() from None


@dataclass(eq=False)
class Asked:
    """A request on its way, and the future of its result."""

    graph: EncodedGraph
    request: wire.GradientRequest
    future: Awaited


def error_in(graph: EncodedGraph, said: wire.StreamError) -> ServiceError:
    """The error that a stream answered with, with the line of the user's program where it is known."""
    error = from_status(said.code, said.message, said.details)
    return error.located(source_of(graph.graph, error))


def is_to_be_asked_again(error: ServiceError) -> bool:
    """Whether a call of its own may well get an answer: it tries again, registers graphs that were lost, waits for a server that is full."""
    lost = isinstance(error, NotFoundError) and error.details.get("reason") == "UNKNOWN_GRAPH"
    busy = isinstance(error, ResourceExhaustedError) and error.retry_after is not None
    return lost or busy or isinstance(error, UnavailableError)


class GradientStream:
    """A stream of gradients over a connection; made by `Service.stream`, used in a `with`, by one thread.

    At most `window` requests are unanswered at a time: the next one waits. Results come in the order of the requests.
    """

    def __init__(self, service: Service, window: int) -> None:
        if window < 1:
            raise ValueError(f"window counts requests from 1, not {window}")
        self._service = service
        self._room = threading.Semaphore(window)
        self._line: _Line | None = None

    def value_and_grad(
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
    ) -> Future[Result]:
        """As `Service.value_and_grad`, but the result is a future: `result()` waits for it, and raises what the call would."""
        steps = self._service.protocol.registered_request(
            objective, params, data, rows=rows, wrt=wrt, debug=debug, evaluator=evaluator, precision=precision
        )
        graph, request, deadline = self._service.carry_out(steps)
        asked = Asked(graph, request, Awaited(deadline))
        if not self._room.acquire(timeout=deadline.remaining()):
            raise deadline.exceeded()
        if self._line is None or not self._line.send(asked):
            self.close()
            self._line = _Line(self._service, self._room)
            self._line.send(asked)
        return asked.future

    def close(self) -> None:
        """Waits for all results. Closing twice is fine."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def cancel(self) -> None:
        """Gives up what is not answered yet: its futures raise CancelledError, and the server stops working on it."""
        if self._line is not None:
            self._line.cancel()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self.cancel()


class _Line:
    """One call of GradientStream, with the thread that takes its answers."""

    def __init__(self, service: Service, room: threading.Semaphore) -> None:
        self._service, self._room = service, room
        self._outbox: queue.SimpleQueue[wire.GradientRequest | None] = queue.SimpleQueue()
        self._asked: deque[Asked] = deque()
        self._lock = threading.Lock()
        self._over = self._cancelled = False
        self._call: Any = service.open_stream(self._requests())
        self._thread = threading.Thread(target=self._take_answers, name="sumgrad-stream", daemon=True)
        self._thread.start()

    def send(self, asked: Asked) -> bool:
        """Sends a request; False if the call has ended."""
        with self._lock:
            if self._over:
                return False
            self._asked.append(asked)
        self._outbox.put(asked.request)
        return True

    def close(self) -> None:
        """No more requests; waits for the answers."""
        self._outbox.put(None)
        self._thread.join()

    def cancel(self) -> None:
        """No more answers."""
        self._cancelled = True
        self._call.cancel()

    def _requests(self) -> Iterator[wire.GradientRequest]:
        while (request := self._outbox.get()) is not None:
            yield request

    def _take_answers(self) -> None:
        try:
            for answer in self._call:
                self._fulfil(self._asked[0], answer)
                self._answered()
        except grpc.RpcError:
            pass  # what it has left unanswered is asked again
        with self._lock:
            self._over = True
        while self._asked:
            self._ask_again(self._asked[0])
            self._answered()

    def _answered(self) -> None:
        self._asked.popleft()
        self._room.release()

    def _fulfil(self, asked: Asked, answer: wire.GradientStreamResponse) -> None:
        if answer.HasField("gradient"):
            asked.future.set_result(read_result(answer.gradient))
            return
        error = error_in(asked.graph, answer.error)
        if is_to_be_asked_again(error):
            self._ask_again(asked)
        else:
            asked.future.set_exception(error)

    def _ask_again(self, asked: Asked) -> None:
        if self._cancelled:
            asked.future.set_exception(CancelledError("the stream was given up before this was answered", status="CANCELLED"))
            return
        try:
            asked.future.set_result(self._service.carry_out(self._service.protocol.answered(asked.graph, asked.request)))
        except SumgradError as error:
            asked.future.set_exception(error)
