"""Arrays and graphs on the wire: nothing is lost, and the same graph has the same name."""

from __future__ import annotations

import decimal
import hashlib
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from numpy.typing import NDArray
from sumgrad import codec
from sumgrad_engine.table import to_table
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import graph_pb2 as wire

ARRAYS: list[NDArray[Any]] = [
    np.array(1.5),
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.arange(6, dtype=np.int64).reshape(3, 2),
    np.array([2**31 - 1, -(2**31)], dtype=np.int32),
    np.array([True, False]),
    np.zeros((0, 4)),
    np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 5e-324]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_round_trip(array: NDArray[Any]) -> None:
    """Type, shape and bits survive, and what comes back can be written to."""
    again = codec.decode_array(codec.encode_array(array))
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()
    assert again.flags.writeable


def test_big_endian_arrays_are_turned() -> None:
    """Numbers survive whatever byte order they come in."""
    message = codec.encode_array(np.array([1.0, 2.0], dtype=">f8"))
    assert message.data == np.array([1.0, 2.0], dtype="<f8").tobytes()


@pytest.mark.parametrize("view", [np.s_[::2], np.s_[:, 1], np.s_[::-1, ::-1]], ids=["rows", "column", "reversed"])
def test_views_are_sent_in_their_own_order(view: Any) -> None:
    """A strided view is sent as what it shows."""
    shown = np.arange(12.0).reshape(4, 3)[view]
    assert codec.decode_array(codec.encode_array(shown)).tolist() == shown.tolist()


def test_fortran_order_is_turned() -> None:
    """Column-major arrays are sent row by row."""
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert codec.decode_array(codec.encode_array(array)).tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.ones(2, np.float32), "f4"),
        (np.ones(2, np.int32), "i4"),
        (np.ones(2, np.float16), "f4"),
        (np.ones(2, np.uint8), "i4"),
        (np.ones(2, np.int16), "i4"),
        (np.ones(2, np.uint32), "i8"),
        (np.ones(2, np.uint64), "i8"),
        (np.ones(2, np.longdouble), "f8"),
        (np.ones(2, ">f4"), "f4"),
        ([1.0, 2], "f8"),
        ([True], "b1"),
        ([decimal.Decimal("1.5")], "f8"),
    ],
)
def test_sendable_types(values: Any, dtype: str) -> None:
    """Floats and integers keep their width if the wire has it, and get the next one that holds them if not."""
    array = codec.sendable(values, "inputs.x")
    assert array.dtype.newbyteorder("=") == np.dtype(dtype)
    assert array.tolist() == np.asarray(values, dtype=object).astype(dtype).tolist()


@pytest.mark.parametrize("values", ["text", [1j], [object()], np.array([2**63], np.uint64)], ids=["text", "complex", "object", "uint64"])
def test_other_types_are_refused_by_field(values: Any) -> None:
    """What can't be sent is an InputError that names the field."""
    with pytest.raises(sg.InputError, match=r"inputs\.x") as caught:
        codec.sendable(values, "inputs.x")
    assert caught.value.field == "inputs.x"


def small_graph() -> sg.Graph:
    """A graph with every kind of leaf and an attribute."""
    x, label = sg.input("x", shape=(3,)), sg.input("label", dtype=int)
    w = sg.param("w", np.ones(3))
    return trace({"a": sg.sum(x * w) + 2.5, "b": sg.take(w * np.array([1.0, 2.0, 3.0]), label), "c": x[0] > 0.0})


def test_graphs_round_trip() -> None:
    """A decoded graph has the same table and gives the same bytes."""
    graph = small_graph()
    data = codec.encode_graph(graph)
    again = codec.decode_graph(data, codec.encode_sources(graph.sources))
    first, second = to_table(graph), to_table(again)
    assert (first.attributes, first.inputs, first.parameters, first.outputs) == (
        second.attributes,
        second.inputs,
        second.parameters,
        second.outputs,
    )
    for column in ("opcodes", "operand_counts", "operands", "scalars"):
        assert getattr(first, column).tolist() == getattr(second, column).tolist()
    assert codec.encode_graph(again) == data


def test_graphs_have_one_name() -> None:
    """The same expression written twice has the same bytes; the name is their SHA-256."""
    first, second = codec.EncodedGraph.of(small_graph()), codec.EncodedGraph.of(small_graph())
    assert first.data == second.data
    assert first.id == second.id == hashlib.sha256(first.data).hexdigest()


def test_source_lines_are_not_part_of_the_name() -> None:
    """Where an expression was written does not change its bytes, but travels beside them."""
    here = trace({"y": sg.input("x") + 1.0})
    there = trace({"y": sg.input("x") + 1.0})
    assert codec.encode_graph(here) == codec.encode_graph(there)
    assert here.sources is not None
    assert there.sources is not None
    node = here.outputs["y"]
    again = codec.decode_sources(codec.encode_sources(here.sources) or wire.SourceMap())
    assert again is not None
    assert again.describe(node) == here.sources.describe(node) != there.sources.describe(node)


def test_no_sources() -> None:
    """A graph whose places are unknown sends none."""
    assert codec.encode_sources(None) is None
    assert codec.decode_sources(wire.SourceMap()) is None
