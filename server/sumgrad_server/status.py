"""What becomes of each error on the wire: one table, and the google.rpc details that go along."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from sumgrad_engine.errors import (
    Cancelled,
    DifferentiationError,
    GraphError,
    InputError,
    LimitError,
    NumericalError,
    ShapeError,
    SumgradError,
)

from .faults import (
    ROOM_ERRORS,
    BrokenRunError,
    BusyError,
    DamagedError,
    DrainingError,
    LeftBehindError,
    MalformedMessageError,
    NameTakenError,
    NoRoomError,
    PermissionDeniedError,
    StaleStepError,
    SupersededError,
    UnauthenticatedError,
    UnknownDatasetError,
    UnknownGraphError,
    UnknownRunError,
    WorkersLostError,
    WrongVersionError,
    no_room,
)

log = logging.getLogger(__name__)

DOMAIN = "sumgrad"
DETAILS_KEY = "grpc-status-details-bin"
MAX_MESSAGE = 1000
"""Characters: statuses travel in HTTP headers, of which gRPC takes 8 KiB, with all but ASCII escaped."""
MAX_VALUE = 200


@dataclass(frozen=True)
class Row:
    """Errors of a kind, and their status and reason on the wire."""

    kind: type[BaseException]
    code: grpc.StatusCode
    reason: str


TABLE = (
    Row(UnknownGraphError, grpc.StatusCode.NOT_FOUND, "UNKNOWN_GRAPH"),
    Row(UnknownDatasetError, grpc.StatusCode.NOT_FOUND, "UNKNOWN_DATASET"),
    Row(UnknownRunError, grpc.StatusCode.NOT_FOUND, "UNKNOWN_RUN"),
    Row(StaleStepError, grpc.StatusCode.ABORTED, "STALE_STEP"),
    Row(SupersededError, grpc.StatusCode.ABORTED, "SUPERSEDED"),
    Row(LeftBehindError, grpc.StatusCode.ABORTED, "LEFT_BEHIND"),
    Row(NameTakenError, grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN"),
    Row(DamagedError, grpc.StatusCode.DATA_LOSS, "DAMAGED"),
    Row(UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    Row(PermissionDeniedError, grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    Row(NoRoomError, grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_ROOM"),
    Row(MalformedMessageError, grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    Row(InputError, grpc.StatusCode.INVALID_ARGUMENT, "BAD_INPUT"),
    Row(ShapeError, grpc.StatusCode.INVALID_ARGUMENT, "BAD_SHAPE"),
    Row(DifferentiationError, grpc.StatusCode.INVALID_ARGUMENT, "NOT_DIFFERENTIABLE"),
    Row(GraphError, grpc.StatusCode.INVALID_ARGUMENT, "BAD_GRAPH"),
    Row(NumericalError, grpc.StatusCode.INVALID_ARGUMENT, "NON_FINITE"),
    Row(BusyError, grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY"),
    Row(LimitError, grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
    Row(DrainingError, grpc.StatusCode.UNAVAILABLE, "DRAINING"),
    Row(WorkersLostError, grpc.StatusCode.INTERNAL, "WORKERS_LOST"),
    Row(BrokenRunError, grpc.StatusCode.INTERNAL, "BROKEN_RUN"),
    Row(WrongVersionError, grpc.StatusCode.INTERNAL, "WRONG_VERSION"),
    Row(Cancelled, grpc.StatusCode.CANCELLED, "CANCELLED"),
    Row(TimeoutError, grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    Row(asyncio.CancelledError, grpc.StatusCode.CANCELLED, "CANCELLED"),
)
"""The first row that fits holds, so a kind stands above the kinds it is derived from."""

OUR_FAULT = Row(BaseException, grpc.StatusCode.INTERNAL, "INTERNAL")
BAD_NODE = Row(LimitError, grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
"""For a limit that one node of a graph breaks: no server with this limit ever takes this graph."""


@dataclass(frozen=True)
class Refusal:
    """An error as the client gets it."""

    code: grpc.StatusCode
    message: str
    status: status_pb2.Status

    @property
    def trailer(self) -> tuple[str, bytes]:
        """The metadata that carries the details."""
        return DETAILS_KEY, self.status.SerializeToString()


def row_of(error: BaseException) -> Row:
    """The row of the table for an error."""
    if isinstance(error, LimitError) and error.node is not None:
        return BAD_NODE
    return next((row for row in TABLE if isinstance(error, row.kind)), OUR_FAULT)


def refusal(error: BaseException, request_id: str, retry_seconds: float) -> Refusal:
    """What to answer. Our own faults go to the log with an id that the client gets instead of their story."""
    if isinstance(error, OSError) and error.errno in ROOM_ERRORS:
        error = no_room(error)
    row = row_of(error)
    message, known = _said(error, row)
    known = {**known, **({"request_id": request_id} if request_id else {})}
    status = status_pb2.Status(code=row.code.value[0], message=message)
    for detail in _details(error, row, message, known, retry_seconds):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return Refusal(row.code, status.message, status)


def _said(error: BaseException, row: Row) -> tuple[str, dict[str, str]]:
    if row is not OUR_FAULT:
        known = error.context if isinstance(error, SumgradError) else {}
        return _cut(str(error) or row.reason, MAX_MESSAGE), {name: _cut(value, MAX_VALUE) for name, value in known.items()}
    fault = secrets.token_hex(8)
    log.error("fault %s", fault, exc_info=error)
    return f"the service failed; its log tells more under {fault}", {"fault": fault}


def _cut(text: str, most: int) -> str:
    # Names that come with hostile graphs may hold what UTF-8 can't; and other letters than ASCII take up to twelve characters each.
    clean = text.encode(errors="replace").decode()
    return clean[:most] if clean.isascii() else clean[: most // 4]


def _details(error: BaseException, row: Row, message: str, known: dict[str, str], retry_seconds: float) -> list[Message]:
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=row.reason, domain=DOMAIN, metadata=known)]
    if row.code is grpc.StatusCode.INVALID_ARGUMENT:
        field = known.get("field") or (f"graph.nodes[{known['node']}]" if "node" in known else "request")
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=_cut(message, MAX_VALUE))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, BusyError):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details
