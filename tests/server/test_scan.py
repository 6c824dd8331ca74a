"""The look at a message's bytes before protobuf reads them: what is honest passes, what would take all time and memory does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from sumgrad_engine.errors import LimitError
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.codec import request_bounds
from sumgrad_server.faults import MalformedMessageError
from sumgrad_server.scan import SMALL, Most, plainly_small, scan
from sumgrad_server.settings import Settings

BOUNDS = request_bounds(Settings())


def named(name: str, array: Any) -> graph_pb2.NamedArray:
    """An array by name."""
    return graph_pb2.NamedArray(name=name, array=graph_pb2.Array(dtype=graph_pb2.DTYPE_F64, shape=array.shape, data=array.tobytes()))


def test_one_large_array_is_plainly_small() -> None:
    """However many bytes an array has, it is some fields."""
    request = wire.GradientRequest(request_id="r", graph_id="g" * 64, inputs=[named("x", np.zeros((100_000, 3)))])
    assert plainly_small(wire.GradientRequest, request.SerializeToString())
    chunk = wire.UploadDatasetRequest(chunk=wire.UploadChunk(column=1, offset=5, data=bytes(1 << 20)))
    assert plainly_small(wire.UploadDatasetRequest, chunk.SerializeToString())


def test_as_many_arrays_as_may_be_pass() -> None:
    """A parameter for every array that a request may have is honest."""
    arrays = [named(f"layers.{number}.weight", np.array(0.5)) for number in range(Settings().max_arrays)]
    data = wire.GradientRequest(parameters=arrays).SerializeToString()
    assert not plainly_small(wire.GradientRequest, data)
    scan(wire.GradientRequest, data, BOUNDS)


def test_a_large_graph_passes() -> None:
    """The columns of a graph with a million nodes are numbers, and few fields."""
    nodes = 1_000_000
    graph = graph_pb2.Graph(opcodes=[11] * nodes, operand_counts=[2] * nodes, operands=range(2 * nodes), scalars=[0.5] * nodes)
    scan(graph_pb2.Graph, graph.SerializeToString(), Most(nodes, "max_nodes", 8 * nodes, "max_nodes"))


@pytest.mark.parametrize(
    ("kind", "data", "limit"),
    [
        (wire.GradientRequest, b"\x1a\x00" * 3_000_000, "max_arrays"),  # parameters
        (wire.GradientRequest, b"\x2a\x00" * 3_000_000, "max_arrays"),  # wrt
        (wire.GradientRequest, b"\xa8\x06\x01" * 1_000_000, "max_arrays"),  # a field that nobody knows
        (wire.RegisterGraphRequest, wire.RegisterGraphRequest(sources={"files": [""] * 3_000_000}).SerializeToString(), "max_arrays"),
        (wire.RegisterGraphRequest, wire.RegisterGraphRequest(sources={"line": [1] * 5_000_000}).SerializeToString(), "max_nodes"),
        (wire.GradientRequest, wire.GradientRequest(parameters=[{"array": {"shape": [1] * 5_000_000}}]).SerializeToString(), "max_nodes"),
        (wire.GradientRequest, (b"\x1a\xc8\x01" + b"\x0a\x00" * 100) * 200_000, "max_arrays"),  # many parts with many fields each
    ],
)
def test_millions_of_fields_are_refused(kind: type[Message], data: bytes, limit: str) -> None:
    """Empty fields and numbers in their millions meet the limit that they break."""
    with pytest.raises(LimitError) as refused:
        scan(kind, data, BOUNDS)
    assert refused.value.context["limit"] == limit


@given(st.binary(min_size=1, max_size=40), st.integers(0, SMALL))
def test_any_bytes_are_taken_or_refused(start: bytes, skip: int) -> None:
    """Whatever the bytes are, the look ends: with nothing, or with an error of the table."""
    data = start + wire.GradientRequest(inputs=[named("x", np.zeros(SMALL))]).SerializeToString()[skip:]
    try:
        scan(wire.GradientRequest, data, BOUNDS)
    except (LimitError, MalformedMessageError):
        return


def test_truncated_messages_are_refused() -> None:
    """A message that ends in a field is no message."""
    data = wire.GradientRequest(inputs=[named("x", np.zeros(SMALL))]).SerializeToString()
    with pytest.raises(MalformedMessageError):
        scan(wire.GradientRequest, data[:-1], BOUNDS)
