"""Errors: one class for each status, what they carry, and what they say."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from sumgrad import errors
from sumgrad.errors import BY_STATUS, NonFiniteError, ResourceExhaustedError, ServiceError
from sumgrad.status import from_status
from sumgrad_engine import NumericalError, SumgradError


def details(*parts: Message) -> bytes:
    """The bytes that the server sends beside a status."""
    packed = []
    for part in parts:
        holder = any_pb2.Any()
        holder.Pack(part)
        packed.append(holder)
    return bytes(status_pb2.Status(details=packed).SerializeToString())


def info(reason: str = "", **metadata: str) -> error_details_pb2.ErrorInfo:
    """An ErrorInfo of the service."""
    return error_details_pb2.ErrorInfo(reason=reason, domain="sumgrad", metadata=metadata)


@pytest.mark.parametrize("status", sorted(BY_STATUS))
def test_each_status_has_its_class(status: str) -> None:
    """A status number becomes its class, with message, status and request id."""
    error = from_status(code_pb2.Code.Value(status), "it went wrong", details(info(request_id="r1")))
    assert type(error) is BY_STATUS[status]
    assert isinstance(error, SumgradError)
    assert (error.status, error.request_id, error.message) == (status, "r1", "it went wrong")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.InvalidArgumentError, ValueError),
        (errors.DeadlineExceededError, TimeoutError),
        (errors.UnavailableError, ConnectionError),
        (errors.NonFiniteError, NumericalError),
        (errors.NonFiniteError, ArithmeticError),
    ],
)
def test_errors_are_pythons_too(kind: type[ServiceError], builtin: type[Exception]) -> None:
    """Those that Python has a word for can be caught by it."""
    with pytest.raises(builtin, match="oh"):
        raise kind("oh")


def test_other_statuses_are_plain_service_errors() -> None:
    """A status without a class of its own keeps its name."""
    error = from_status(code_pb2.UNIMPLEMENTED, "no such method")
    assert type(error) is ServiceError
    assert error.status == "UNIMPLEMENTED"
    assert from_status(77, "").message == "the service answered status 77"


def test_field_of_a_bad_request() -> None:
    """The field of a BadRequest is in the context."""
    violation = error_details_pb2.BadRequest.FieldViolation(field="inputs.x", description="missing")
    error = from_status(code_pb2.INVALID_ARGUMENT, "it is missing", details(error_details_pb2.BadRequest(field_violations=[violation])))
    assert error.context["field"] == "inputs.x"


def test_retry_info() -> None:
    """When to come back is in seconds, and None where the server does not know."""
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000))
    error = from_status(code_pb2.RESOURCE_EXHAUSTED, "full", details(retry))
    assert isinstance(error, ResourceExhaustedError)
    assert error.retry_after == 0.25
    assert ResourceExhaustedError("too large").retry_after is None


def test_non_finite_reason() -> None:
    """The reason NON_FINITE makes the engine's NumericalError with its place."""
    error = from_status(code_pb2.INVALID_ARGUMENT, "NaN", details(info("NON_FINITE", node="4", op="log", sample="17", source="a.py:3")))
    assert isinstance(error, NonFiniteError)
    assert (error.node, error.op, error.sample, error.source) == (4, "log", 17, "a.py:3")


def test_the_users_line_is_shown(tmp_path: Path) -> None:
    """The message ends with the line of the program that made the node."""
    program = tmp_path / "train.py"
    program.write_text("import sumgrad as sg\nloss = sg.log(w)\n")
    error = from_status(code_pb2.INVALID_ARGUMENT, "bad", details(info(node="4", op="log", source=f"{program}:2")))
    assert str(error) == f"bad (node 4, op log, made at {program}:2)\n    {program}:2: loss = sg.log(w)"


def test_what_the_message_says_is_not_said_twice() -> None:
    """A place that the server put into its message is not repeated."""
    error = from_status(code_pb2.INVALID_ARGUMENT, "node 4 is bad", details(info(node="4", op="log")))
    assert str(error) == "node 4 is bad (op log)"


def test_located_fills_in_the_source_once() -> None:
    """A client that knows the line adds it; one that the server gave stays."""
    assert ServiceError("bad", node="1").located("train.py:9").context["source"] == "train.py:9"
    assert ServiceError("bad", source="a.py:1").located("train.py:9").context["source"] == "a.py:1"


@pytest.mark.parametrize("kind", [*BY_STATUS.values(), NonFiniteError, ServiceError, errors.ServerStartError])
def test_errors_pickle(kind: type[SumgradError]) -> None:
    """Errors cross process boundaries whole."""
    error = kind("bad", node="1", request_id="r") if issubclass(kind, ServiceError) else kind("bad")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.context) == (str(error), error.context)


def test_unreadable_details_are_ignored() -> None:
    """Garbage beside a status does not hide the status."""
    assert from_status(code_pb2.NOT_FOUND, "gone", b"\xff\xff\xff").context == {"status": "NOT_FOUND"}
