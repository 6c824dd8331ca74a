"""Old clients keep working: golden messages, written once, are read and answered by every later version."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad as sg
from google.protobuf import text_format
from sumgrad import codec
from sumgrad_engine.ops import OPS
from sumgrad_proto.v1 import graph_pb2, service_pb2

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.binpb"))


def kind_of(path: Path) -> Any:
    """The class of a golden file's message."""
    name = path.stem.partition("-")[0]
    return getattr(graph_pb2, name, None) or getattr(service_pb2, name)


def load(name: str) -> Any:
    """A golden message."""
    path = GOLDEN / f"{name}.binpb"
    return kind_of(path).FromString(path.read_bytes())


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """The script that wrote them."""
    path = Path(__file__).parent / "write_golden.py"
    spec = importlib.util.spec_from_file_location("sumgrad_tests_write_golden", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def given(writer: ModuleType) -> dict[str, Any]:
    """What servers of this version answer to all golden requests, sent in the order in which they were numbered.

    Those that ask for compiled code need a server that compiles. The others were answered when there was the reference evaluator alone.
    """
    asked = {path.stem: load(path.stem) for path in FILES if path.stem.partition("-")[0].endswith("Request")}
    with sg.local(workers=1) as service:
        compiled = dict(writer.answers(service.process.address, asked))
    old = {name: request for name, request in asked.items() if not name.endswith("-compiled")}
    with sg.local(workers=1, evaluator="reference") as service:
        return {**compiled, **dict(writer.answers(service.process.address, old))}


def test_every_message_kind_has_a_golden_file() -> None:
    """A message added to the protocol needs a golden file: python tests/proto/write_golden.py."""
    kinds = {*graph_pb2.DESCRIPTOR.message_types_by_name, *service_pb2.DESCRIPTOR.message_types_by_name}
    assert kinds == {path.stem.partition("-")[0] for path in FILES}


def test_the_golden_graph_has_every_opcode_that_may_be_sent() -> None:
    """An op added to the table needs a golden graph."""
    sent = {
        number
        for path in GOLDEN.glob("RegisterGraphRequest*.binpb")
        for number in graph_pb2.Graph.FromString(load(path.stem).graph).opcodes
    }
    assert sent >= {op.number for op in OPS.values() if not op.over_samples}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_golden_bytes_mean_what_they_meant(path: Path) -> None:
    """No field was renumbered, retyped or dropped: the bytes read as the text beside them, and write as the same bytes."""
    message = kind_of(path).FromString(path.read_bytes())
    assert text_format.MessageToString(message) == path.with_suffix(".txtpb").read_text()
    assert message.SerializeToString(deterministic=True) == path.read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        path.stem
        for path in FILES
        if ("Response" in path.stem or "RunProgress" in path.stem) and not path.stem.endswith(("every-op", "unanswered"))
    ],
)
def test_golden_requests_are_answered_to_the_bit(given: dict[str, Any], name: str) -> None:
    """An old client's request gets the answer that it always got."""
    assert given[name] == load(name)


def test_every_op_gives_what_it_gave(given: dict[str, Any]) -> None:
    """The graph with every op is still taken and evaluates to the same values; last bits of elementary functions are the platform's."""
    assert given["RegisterGraphResponse-every-op"] == load("RegisterGraphResponse-every-op")
    before, now = (codec.decode_arrays(reply.outputs) for reply in (load("EvaluateResponse-every-op"), given["EvaluateResponse-every-op"]))
    assert list(before) == list(now)
    for name, values in before.items():
        np.testing.assert_allclose(now[name], values, rtol=1e-13, err_msg=name)


def test_an_unknown_opcode_is_refused_by_number() -> None:
    """A graph of a newer client names the node that this server does not know."""
    newer = graph_pb2.Graph.FromString(load("RegisterGraphRequest").graph)
    newer.opcodes[-1] = 9999
    with sg.local(workers=1) as service, grpc.insecure_channel(service.process.address) as channel:
        call = channel.unary_unary("/sumgrad.v1.GradientService/RegisterGraph")
        with pytest.raises(grpc.RpcError) as refused:
            call(service_pb2.RegisterGraphRequest(graph=newer.SerializeToString()).SerializeToString())
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "unknown opcode 9999" in refused.value.details()


def test_the_writer_still_writes(writer: ModuleType) -> None:
    """The script that adds golden files builds every message that it once wrote, to the same bytes."""
    for name, message in {**writer.parts(), **writer.requests()}.items():
        assert message.SerializeToString(deterministic=True) == (GOLDEN / f"{name}.binpb").read_bytes(), name
