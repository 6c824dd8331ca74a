"""A member's seat in a run, as the network sees it: a stream that is attached again when it breaks, and a thread that keeps the lease."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
from sumgrad_proto.v1 import service_pb2 as wire

from .channel import error_of
from .errors import AbortedError, DeadlineExceededError, NotFoundError, ServiceError, UnavailableError
from .runs import RunInfo

if TYPE_CHECKING:
    from .connection import Service

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds before the stream is attached again, doubled each time it breaks without an answer."""
BEATS = 3
"""Signs of life in one lease."""


class Seat:
    """Used by one thread. `timeout` is how long, in seconds, `receive` waits for the server and the other members (None: for ever)."""

    def __init__(self, service: Service, run: str, name: str, timeout: float | None) -> None:
        """Joins the run. Raises ServiceError."""
        self._service, self._name, self._timeout = service, name, timeout
        self._line: _Line | None = None
        self._over = threading.Event()
        self._until: float | None = None
        self._overdue = False
        self._failures = 0
        self.run, self.number, self._session = self._joined(run)
        beat = self.run.lease / BEATS
        period = beat if timeout is None else min(beat, timeout / 4)
        self._keeper = threading.Thread(target=self._keep, args=[period], name="sumgrad-lease", daemon=True)
        self._keeper.start()

    def send(self, request: wire.StepRequest) -> None:
        """Sends a request, if the stream is whole; if it is not, `receive` notices."""
        if self._line is not None:
            self._line.send(request)

    def receive(self) -> wire.StepResponse:
        """What the server says next. After a lost connection, or a seat that was given up, that is the turn as it is now.

        Raises SupersededError, DeadlineExceededError, and ServiceError where attaching again does not help.
        """
        self._until = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            while True:
                try:
                    line = self._line = self._line or self._attached()
                    response: wire.StepResponse = next(line.responses)
                except grpc.RpcError as refused:
                    self._recover(error_of(refused))
                except ServiceError as error:  # of joining again
                    self._recover(error)
                except StopIteration:
                    self._recover(UnavailableError("the server ended the stream", status="UNAVAILABLE"))
                else:
                    self._failures = 0
                    return response
        finally:
            self._until = None

    def close(self, *, leave: bool) -> None:
        """Ends the stream; `leave` gives the seat up."""
        self._over.set()
        if self._line is not None:
            if leave:
                self._line.leave()
            self._line.cancel()
            self._line = None
        self._keeper.join()

    def _joined(self, run: str) -> tuple[RunInfo, int, str]:
        return self._service.carry_out(self._service.protocol.join_run(run, self._name))

    def _attached(self) -> _Line:
        attach = wire.Attach(run=self.run.id, number=self.number, session=self._session)
        return _Line(self._service, wire.StepRequest(attach=attach))

    def _recover(self, error: ServiceError) -> None:
        """Makes ready for another try, or raises what no try would mend."""
        self._line = None
        if self._overdue:
            raise DeadlineExceededError(
                f"the run has waited for its members, or the server, for longer than timeout={self._timeout} s: give it more time"
            )
        reason = error.details.get("reason")
        if isinstance(error, AbortedError) and reason == "LEFT_BEHIND":
            self._rejoin()
        elif not isinstance(error, UnavailableError):
            raise error
        else:
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._failures)
            self._failures += 1
            self._over.wait(pause * (0.5 + random.random() / 2))  # noqa: S311 - so that members don't come back all at once

    def _rejoin(self) -> None:
        try:
            self.run, self.number, self._session = self._joined(self.run.id)
        except UnavailableError:
            self._failures += 1
        except NotFoundError as error:
            raise error from None

    def _keep(self, period: float) -> None:
        """Gives signs of life, and looks at the time."""
        beat = wire.StepRequest(heartbeat=wire.Heartbeat())
        while not self._over.wait(period):
            line, until = self._line, self._until
            if line is None:
                continue
            line.send(beat)
            if until is not None and time.monotonic() > until:
                self._overdue = True
                line.cancel()


class _Line:
    """One call of Step."""

    def __init__(self, service: Service, first: wire.StepRequest) -> None:
        self._outbox: queue.SimpleQueue[wire.StepRequest | None] = queue.SimpleQueue()
        self._outbox.put(first)
        self.responses: Any = service.open_steps(self._requests())

    def send(self, request: wire.StepRequest) -> None:
        """Sends a request; one that the stream can't take any more is lost."""
        self._outbox.put(request)

    def leave(self) -> None:
        """Gives the seat up, and waits until the server has heard it."""
        self.send(wire.StepRequest(leave=wire.Leave()))
        try:
            while not next(self.responses).HasField("ended"):
                pass
        except (grpc.RpcError, StopIteration):
            pass  # the lease will run out

    def cancel(self) -> None:
        """No more messages."""
        self._outbox.put(None)
        self.responses.cancel()

    def _requests(self) -> Iterator[wire.StepRequest]:
        while (request := self._outbox.get()) is not None:
            yield request
