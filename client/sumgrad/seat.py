"""A member's seat in a run, as the network sees it: a stream that is attached again when it breaks, and a thread that keeps the lease."""

from __future__ import annotations

import math
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from sumgrad_proto.v1 import service_pb2 as wire

from .calls import Steps
from .channel import error_of
from .errors import AbortedError, DeadlineExceededError, ResourceExhaustedError, ServiceError, UnavailableError

if TYPE_CHECKING:
    from .connection import Service

Answer = TypeVar("Answer")
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds before the stream is attached again, doubled each time it breaks without an answer."""
BEATS, LEAST_BEAT = 3, 0.05
"""Signs of life in one lease, and seconds between them at least."""
SESSION_BYTES = 12
GONE = ("SUPERSEDED", "UNKNOWN_RUN")
"""Why a stream ends whose member has no seat any more, and gets none."""
LEAVE_SECONDS = 2.0
"""How long one waits for the server to hear that one leaves."""


class Seat:
    """Used by one thread. `timeout` is how long, in seconds, `receive` waits for the server and the other members (None: for ever).

    `attachments` counts the streams: what was said on one of them may not have reached the other end if there is another now.
    """

    def __init__(self, service: Service, run: str, name: str, timeout: float | None) -> None:
        """Joins the run. Raises ServiceError, ValueError for a timeout that is no time."""
        if timeout is not None and not timeout > 0.0:
            raise ValueError(f"timeout must be above 0 seconds, or None for ever, not {timeout}")
        self._service, self._name, self._timeout = service, name, timeout
        self._line: _Line | None = None
        self._over = threading.Event()
        self._until: float | None = None
        self._gone = False  # there is nothing to give up
        self._failures = 0
        self.attachments = 0
        self.run, self.number, self._session = service.carry_out(service.protocol.join_run(run, name, _new_session(), timeout=timeout))
        beat = self.run.lease / BEATS
        period = beat if timeout is None else min(beat, timeout / 4)
        self._keeper = threading.Thread(target=self._keep, args=[max(LEAST_BEAT, period)], name="sumgrad-lease", daemon=True)
        self._keeper.start()

    def send(self, request: wire.StepRequest) -> None:
        """Sends a request, if the stream is whole; if it is not, `receive` notices. Raises ValueError if the seat was closed."""
        self._require_open()
        if self._line is not None:
            self._line.send(request)

    def receive(self) -> wire.StepResponse:
        """What the server says next. After a lost connection, or a seat that was given up, that is the turn as it is now.

        Raises SupersededError, DeadlineExceededError, and ServiceError where attaching again does not help; ValueError if the seat was closed.
        """
        self._require_open()
        with self._waiting():
            while True:
                try:
                    self._line = self._line or self._attached()
                    response: wire.StepResponse = next(self._line.responses)
                except grpc.RpcError as refused:
                    self._recover(error_of(refused))
                except StopIteration:
                    self._recover(UnavailableError("the server ended the stream", status="UNAVAILABLE"))
                except BaseException:  # Ctrl-C, say: gRPC goes on with no call that was left in the middle of a wait
                    self.interrupt()
                    raise
                else:
                    self._failures, self._gone = 0, False
                    return response

    def ask(self, steps: Callable[..., Steps[Answer]]) -> Answer:
        """The answer to a call beside the stream, made again for as long as nobody answers. Raises DeadlineExceededError, ServiceError."""
        with self._waiting():
            while True:
                try:
                    return self._service.carry_out(steps(timeout=self._left()))
                except (UnavailableError, DeadlineExceededError) as error:
                    self._pause(error)

    def interrupt(self) -> None:
        """Ends the stream, so that its thread ends too. The next one begins with the turn as it is then."""
        line, self._line = self._line, None
        if line is not None:
            line.cancel()

    def close(self, *, leave: bool) -> None:
        """Ends the stream; `leave` gives the seat up. The second time nothing happens."""
        if self._over.is_set():
            return
        self._over.set()
        try:
            if leave and not self._gone:
                self._leave()
        finally:
            self.interrupt()
            self._keeper.join()

    def _leave(self) -> None:
        """Gives the seat up: over another stream if this one does not answer. What holds it up at the server ends with it."""
        for _ in range(2):
            try:
                self._line = self._line or self._attached()
            except ValueError:  # the connection was closed before
                return
            if self._line.leave():
                return
            self.interrupt()

    def _require_open(self) -> None:
        if self._over.is_set():
            raise ValueError("this member was closed: join the run again")

    def _attached(self) -> _Line:
        self.attachments += 1
        attach = wire.Attach(run=self.run.id, number=self.number, session=self._session, count=self.attachments)
        return _Line(self._service, wire.StepRequest(attach=attach))

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """What is done in the block may take `timeout`, unless it is a part of something that may."""
        if self._until is not None:
            yield
            return
        self._until = math.inf if self._timeout is None else time.monotonic() + self._timeout
        try:
            yield
        finally:
            self._until = None

    def _recover(self, error: ServiceError) -> None:
        """Makes ready for another try, or raises what no try would mend."""
        self.interrupt()
        if isinstance(error, AbortedError) and error.details.get("reason") == "LEFT_BEHIND":
            self._join_again()
        elif isinstance(error, UnavailableError):
            self._pause(error)
        else:
            self._gone = error.details.get("reason") in GONE
            raise error

    def _join_again(self) -> None:
        """Takes a seat, as soon as there is one. Raises DeadlineExceededError, ServiceError."""
        join = partial(self._service.protocol.join_run, self.run.id, self._name, _new_session())
        while True:
            try:
                self.run, self.number, self._session = self.ask(join)
            except ResourceExhaustedError as error:
                if error.details.get("limit") != "max_run_members":
                    raise
                self._pause(error)
            else:
                return

    def _left(self) -> float | None:
        """Seconds that are left; None if there is no end."""
        return None if self._until in (None, math.inf) else max(LEAST_BEAT, self._until - time.monotonic())

    def _pause(self, error: ServiceError) -> None:
        """Waits until something is tried again. Raises DeadlineExceededError if there is no time left for that."""
        left = (self._until if self._until is not None else math.inf) - time.monotonic()
        if left <= 0.0:
            raise DeadlineExceededError(
                f"the run has waited for its members, or the server, for longer than timeout={self._timeout} s: give it more time"
            ) from error
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._failures)
        self._failures += 1
        self._over.wait(min(left, pause * (0.5 + random.random() / 2)))  # noqa: S311 - so that members don't come back all at once

    def _keep(self, period: float) -> None:
        """Gives signs of life, and looks at the time."""
        beat = wire.StepRequest(heartbeat=wire.Heartbeat())
        while not self._over.wait(period):
            line, until = self._line, self._until
            if line is None:
                continue
            line.send(beat)
            if until is not None and time.monotonic() >= until:
                line.cancel()


def _new_session() -> str:
    """For a seat: it is asked for with the same one until there is an answer, so that no request that was lost on its way takes the seat later."""
    return secrets.token_hex(SESSION_BYTES)


class _Line:
    """One call of Step."""

    def __init__(self, service: Service, first: wire.StepRequest) -> None:
        self._outbox: queue.SimpleQueue[wire.StepRequest | None] = queue.SimpleQueue()
        self._outbox.put(first)
        self.responses: Any = service.open_steps(self._requests())

    def send(self, request: wire.StepRequest) -> None:
        """Sends a request; one that the stream can't take any more is lost."""
        self._outbox.put(request)

    def leave(self) -> bool:
        """Gives the seat up, and waits for a while until the server has heard it: whether it has. If not, the lease will run out."""
        self.send(wire.StepRequest(leave=wire.Leave()))
        timer = threading.Timer(LEAVE_SECONDS, self.responses.cancel)
        timer.start()
        try:
            while not next(self.responses).HasField("ended"):
                pass
        except (grpc.RpcError, StopIteration):
            return False
        finally:
            timer.cancel()
        return True

    def cancel(self) -> None:
        """No more messages."""
        self._outbox.put(None)
        self.responses.cancel()

    def _requests(self) -> Iterator[wire.StepRequest]:
        while (request := self._outbox.get()) is not None:
            yield request
