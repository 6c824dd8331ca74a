"""From what gRPC says of a failed call to one of our errors."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from .errors import BY_REASON, BY_STATUS, ServiceError


def from_status(code: int, message: str, details: bytes | None = None) -> ServiceError:
    """The error for a status number, its message and the bytes of the google.rpc.Status that came with it."""
    status = code_pb2.Code.Name(code) if code in code_pb2.Code.values() else f"status {code}"
    said = _read_details(details) if details else {}
    reason = str(said.get("reason", ""))
    kind = BY_REASON.get(reason) or BY_STATUS.get(status, ServiceError)
    return kind(message or f"the service answered {status}", **{**said, "status": status})


def _read_details(details: bytes) -> dict[str, Any]:
    """What google.rpc says of the error, by name. Details that can't be read are as good as none: the status stands."""
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        return {}
    known: dict[str, Any] = {}
    for part in status.details:
        info, request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if part.Unpack(info):
            known |= {**info.metadata, "reason": info.reason}
        elif part.Unpack(request) and request.field_violations:
            known.setdefault("field", request.field_violations[0].field)
        elif part.Unpack(retry):
            known["retry_after"] = retry.retry_delay.ToTimedelta().total_seconds()
    known.pop("message", None)  # the status has it
    return known
