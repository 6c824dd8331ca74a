"""The status table: every error of ours has its row, and the details say what is known."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from sumgrad_engine import errors
from sumgrad_server import faults
from sumgrad_server.status import TABLE, refusal, row_of

CODES = grpc.StatusCode

EXPECTED: list[tuple[BaseException, grpc.StatusCode, str]] = [
    (faults.UnknownGraphError("abc"), CODES.NOT_FOUND, "UNKNOWN_GRAPH"),
    (faults.MalformedMessageError("no"), CODES.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    (errors.InputError("no", field="inputs.x"), CODES.INVALID_ARGUMENT, "BAD_INPUT"),
    (errors.ShapeError("no", node=3), CODES.INVALID_ARGUMENT, "BAD_SHAPE"),
    (errors.DifferentiationError("no", op="floor"), CODES.INVALID_ARGUMENT, "NOT_DIFFERENTIABLE"),
    (errors.GraphError("no", node=3, op="add", source="train.py:12"), CODES.INVALID_ARGUMENT, "BAD_GRAPH"),
    (errors.NumericalError("no", node=3, op="log", sample=7), CODES.INVALID_ARGUMENT, "NON_FINITE"),
    (faults.BusyError("no", limit="max_queue", value=9, allowed=8), CODES.RESOURCE_EXHAUSTED, "BUSY"),
    (errors.LimitError("no", limit="max_nodes", value=9, allowed=8), CODES.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
    (errors.LimitError("no", limit="max_elements", value=9, allowed=8, node=2), CODES.INVALID_ARGUMENT, "LIMIT_EXCEEDED"),
    (faults.DrainingError(), CODES.UNAVAILABLE, "DRAINING"),
    (faults.WorkersLostError("no", graph_id="abc"), CODES.INTERNAL, "WORKERS_LOST"),
    (errors.Cancelled("no"), CODES.CANCELLED, "CANCELLED"),
    (TimeoutError(), CODES.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    (asyncio.CancelledError(), CODES.CANCELLED, "CANCELLED"),
    (KeyError("no"), CODES.INTERNAL, "INTERNAL"),
    (MemoryError(), CODES.INTERNAL, "INTERNAL"),
]


def details(error: BaseException) -> tuple[Any, dict[str, Any]]:
    """The refusal of an error and its google.rpc details by type."""
    found = refusal(error, "request-1", 2.5)
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo)
    parts: dict[str, Any] = {}
    for detail in found.status.details:
        for kind in kinds:
            message = kind()
            if detail.Unpack(message):
                parts[kind.DESCRIPTOR.name] = message
    return found, parts


@pytest.mark.parametrize(("error", "code", "reason"), EXPECTED, ids=[f"{type(e).__name__}-{reason}" for e, _, reason in EXPECTED])
def test_error_has_its_row(error: BaseException, code: grpc.StatusCode, reason: str) -> None:
    """Each kind of error has the status and the reason that clients rely on."""
    found, parts = details(error)
    info = parts["ErrorInfo"]
    assert (found.code, info.reason, info.domain) == (code, reason, "sumgrad")
    assert info.metadata["request_id"] == "request-1"
    assert ("BadRequest" in parts) == (code is CODES.INVALID_ARGUMENT)
    assert ("RetryInfo" in parts) == isinstance(error, faults.BusyError)


def test_every_error_of_ours_has_a_row() -> None:
    """No error class of the engine or the server falls through to INTERNAL, but for what can't come from a request."""
    classes = {value for module in (errors, faults) for value in vars(module).values() if isinstance(value, type)}
    ours = {kind for kind in classes if issubclass(kind, errors.SumgradError)} - {errors.SumgradError, errors.MissingDependencyError}
    assert all(any(issubclass(kind, row.kind) for row in TABLE) for kind in ours)


def test_no_row_is_hidden_by_one_above_it() -> None:
    """A kind stands above the kinds from which it is derived."""
    for position, row in enumerate(TABLE):
        assert not any(issubclass(row.kind, above.kind) for above in TABLE[:position])
    assert row_of(errors.ShapeError("no")).reason == "BAD_SHAPE"


def test_what_is_known_is_told() -> None:
    """Node, op, source line and sample are in the metadata, the place is a field violation, and the retry has its time."""
    _, parts = details(errors.GraphError("no", node=3, op="add", source="train.py:12"))
    assert dict(parts["ErrorInfo"].metadata) == {"node": "3", "op": "add", "source": "train.py:12", "request_id": "request-1"}
    assert parts["BadRequest"].field_violations[0].field == "graph.nodes[3]"
    _, parts = details(errors.InputError("no", field="inputs.x"))
    assert parts["BadRequest"].field_violations[0].field == "inputs.x"
    _, parts = details(faults.BusyError("no", limit="max_queue"))
    assert parts["RetryInfo"].retry_delay.ToNanoseconds() == 2_500_000_000


def test_our_own_fault_tells_no_story(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets an id; the log has the traceback under it."""
    with caplog.at_level(logging.ERROR):
        found, parts = details(KeyError("secret"))
    fault = parts["ErrorInfo"].metadata["fault"]
    assert "secret" not in found.message
    assert fault in found.message
    assert fault in caplog.text
    assert "secret" in caplog.text


@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 100_000, "\ud800 lone surrogate", "line\nbreak\x00"])
def test_hostile_names_make_no_hostile_headers(text: str) -> None:
    """However long or odd a name is, the status fits into the headers that gRPC takes."""
    found, _ = details(errors.InputError(f"inputs.{text} is missing", field=f"inputs.{text}"))
    escaped = sum(1 if 32 <= byte < 127 and byte != 37 else 3 for byte in found.message.encode())
    assert escaped + len(found.trailer[1]) * 4 // 3 < 8000
