"""The errors of calls to the service: one class per gRPC status that the service gives.

    SumgradError                            the engine's base of all errors
    └── ServiceError                        status, request_id, context; itself for any other status
        ├── InvalidArgumentError            also ValueError: the graph, an array or an option is wrong; context says which
        │   └── NonFiniteError              also the engine's NumericalError: the first NaN or infinity of a call with debug=True
        ├── NotFoundError                   no such graph, dataset, or run
        ├── AlreadyExistsError              a name that stands for another dataset, or for a run of another specification
        ├── DataLossError                   bytes that were damaged on their way, or on the server's disk
        ├── ResourceExhaustedError          a limit or a full queue; retry_after says when to come back, if the server knows
        ├── UnauthenticatedError            who are you?
        ├── PermissionDeniedError           not for you
        ├── DeadlineExceededError           also TimeoutError: the call took longer than its timeout
        ├── CancelledError                  the call was stopped
        ├── AbortedError                    it clashed with another call
        │   └── SupersededError             another process has joined the run under this member's name
        ├── UnavailableError                also ConnectionError: nobody answers, or the server is going down
        └── InternalError                   the service's own fault; its log has the request id
    ServerStartError                        a server on this machine did not start (SumgradError, RuntimeError)

`context` holds, as strings, what the service said of the place: node, op, source ("train.py:12"), field, sample, limit, request_id.
The message ends with the line of the user's program that made the node, where it is known.
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from sumgrad_engine.errors import NumericalError, SumgradError

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "CancelledError",
    "DataLossError",
    "DeadlineExceededError",
    "InternalError",
    "InvalidArgumentError",
    "NonFiniteError",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "ServerStartError",
    "ServiceError",
    "SupersededError",
    "UnauthenticatedError",
    "UnavailableError",
]


class ServiceError(SumgradError):
    """A call that failed. `status` is the gRPC status, such as "NOT_FOUND"; `request_id` finds the call in the server's log."""

    status: str = "UNKNOWN"

    def __init__(self, message: str, **details: Any) -> None:
        SumgradError.__init__(self, message, **details)
        self.status = details.get("status", type(self).status)
        self.request_id: str | None = details.get("request_id")

    def located(self, source: str | None) -> Self:
        """The same error with the line of the user's program that made its node, if that was not known."""
        if source is None or "source" in self.details:
            return self
        return type(self)(self.message, **{**self.details, "source": source})

    def __str__(self) -> str:
        return self.message + _place(self.message, self.context) + _line(self.context.get("source"))


class InvalidArgumentError(ServiceError, ValueError):
    """The graph, an array or an option is wrong; the context says which."""

    status = "INVALID_ARGUMENT"


class NonFiniteError(InvalidArgumentError, NumericalError):
    """The first NaN or infinity of a call with debug=True: which node, made where, at which sample."""

    reason: ClassVar[str] = "NON_FINITE"

    def __init__(self, message: str, **details: Any) -> None:
        InvalidArgumentError.__init__(self, message, **details)
        self.node, self.sample = _number(details.get("node")), _number(details.get("sample"))
        self.op, self.source = details.get("op"), details.get("source")


class NotFoundError(ServiceError):
    """The service does not know what was asked for."""

    status = "NOT_FOUND"


class AlreadyExistsError(ServiceError):
    """A dataset's name stands for another dataset: delete that, or upload with replace=True. Or a run's for one that was made in another way."""

    status = "ALREADY_EXISTS"


class DataLossError(ServiceError):
    """Bytes were damaged, on their way or on the server's disk."""

    status = "DATA_LOSS"


class ResourceExhaustedError(ServiceError):
    """A limit, named in the message, or a full queue. `retry_after` is in seconds; None if coming back does not help."""

    status = "RESOURCE_EXHAUSTED"

    @property
    def retry_after(self) -> float | None:
        """Seconds after which the server expects to have room."""
        seconds: float | None = self.details.get("retry_after")
        return seconds


class UnauthenticatedError(ServiceError):
    """The service does not know who calls."""

    status = "UNAUTHENTICATED"


class PermissionDeniedError(ServiceError):
    """The caller may not do this."""

    status = "PERMISSION_DENIED"


class DeadlineExceededError(ServiceError, TimeoutError):
    """The call took longer than its timeout; the service has stopped working on it."""

    status = "DEADLINE_EXCEEDED"


class CancelledError(ServiceError):
    """The call was stopped."""

    status = "CANCELLED"


class AbortedError(ServiceError):
    """The call clashed with another one."""

    status = "ABORTED"


class SupersededError(AbortedError):
    """Another process has joined the run under this member's name: each needs a name of its own."""

    reason: ClassVar[str] = "SUPERSEDED"


class UnavailableError(ServiceError, ConnectionError):
    """Nobody answers at the address, or the server is going down."""

    status = "UNAVAILABLE"


class InternalError(ServiceError):
    """The service's own fault; its log tells more under the request id."""

    status = "INTERNAL"


class ServerStartError(SumgradError, RuntimeError):
    """A server on this machine did not start; the message has what it said and, if known, the cure."""


BY_STATUS: Mapping[str, type[ServiceError]] = {
    kind.status: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        AlreadyExistsError,
        DataLossError,
        ResourceExhaustedError,
        UnauthenticatedError,
        PermissionDeniedError,
        DeadlineExceededError,
        CancelledError,
        AbortedError,
        UnavailableError,
        InternalError,
    )
}
BY_REASON: Mapping[str, type[ServiceError]] = {kind.reason: kind for kind in (NonFiniteError, SupersededError)}


# What a context may know of a place, how to say it, and how a message says it that does already.
_PLACES = (("node", "node {}", "node {}"), ("op", "op {}", "{}"), ("sample", "sample {}", "sample {}"), ("source", "made at {}", "{}"))


def _number(text: str | int | None) -> int | None:
    return None if text is None else int(text)


def _place(message: str, context: Mapping[str, str]) -> str:
    """What is known of the place and not yet said: " (node 4, op log, made at train.py:12)"."""
    unsaid = [
        phrase.format(context[name])
        for name, phrase, said_as in _PLACES
        if name in context and said_as.format(context[name]) not in message
    ]
    return f" ({', '.join(unsaid)})" if unsaid else ""


def _line(source: str | None) -> str:
    """The text of a line of the user's program, below the message; empty where this machine does not have it."""
    file, _, number = (source or "").rpartition(":")
    text = linecache.getline(file, int(number)).strip() if file and number.isdecimal() else ""
    return f"\n    {source}: {text}" if text else ""
