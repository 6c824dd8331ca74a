"""Messages from outside: every hostile array and graph is refused with its field or node, and good ones survive."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given
from hypothesis import strategies as st
from sumgrad_engine.errors import GraphError, InputError, LimitError, SumgradError
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import graph_pb2
from sumgrad_server import codec
from sumgrad_server.faults import MalformedMessageError
from sumgrad_server.settings import Settings

F64, F32, I64, I32, BOOL = (graph_pb2.DTYPE_F64, graph_pb2.DTYPE_F32, graph_pb2.DTYPE_I64, graph_pb2.DTYPE_I32, graph_pb2.DTYPE_BOOL)
SETTINGS = Settings(max_nodes=1000, max_elements=10_000)


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<i8", "<i4", "?"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (4, 0, 2)])
def test_array_survives_the_wire(dtype: str, shape: tuple[int, ...]) -> None:
    """An array comes back with its bits, its shape and its type; the view is read-only."""
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    back = codec.decode_array(codec.encode_array(array), "x")
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
    assert not back.flags.writeable


def test_strided_and_big_endian_arrays_are_encoded_right() -> None:
    """What is not row-major or little-endian in memory is so on the wire."""
    array = np.arange(12.0).reshape(3, 4).T
    assert codec.decode_array(codec.encode_array(array), "x").tolist() == array.tolist()
    assert codec.decode_array(codec.encode_array(array.astype(">f8")), "x").tolist() == array.tolist()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (graph_pb2.Array(shape=[1], data=bytes(8)), "dtype 0"),
        (graph_pb2.Array(dtype=99, shape=[1], data=bytes(8)), "dtype 99"),  # type: ignore[arg-type]
        (graph_pb2.Array(dtype=F64, shape=[2], data=bytes(8)), "8 bytes of data"),
        (graph_pb2.Array(dtype=F64, shape=[1], data=bytes(9)), "9 bytes of data"),
        (graph_pb2.Array(dtype=F64, data=b""), "0 bytes of data"),
        (graph_pb2.Array(dtype=F32, shape=[2**32, 2**32], data=b""), "0 bytes of data"),
        (graph_pb2.Array(dtype=F64, shape=[2**63, 2], data=b""), "0 bytes of data"),
        (graph_pb2.Array(dtype=F64, shape=[2**64 - 1, 0], data=b""), "too large"),
        (graph_pb2.Array(dtype=F64, shape=[1] * 17, data=bytes(8)), "17 axes"),
        (graph_pb2.Array(dtype=BOOL, shape=[2], data=b"\x01\x02"), "other than 0 and 1"),
    ],
)
def test_hostile_array_is_refused(array: graph_pb2.Array, said: str) -> None:
    """Every claim about an array is checked, and the error names the field."""
    with pytest.raises(InputError, match=said) as refused:
        codec.decode_array(array, "inputs.x")
    assert refused.value.field == "inputs.x"


def test_name_that_comes_twice_is_refused() -> None:
    """One name, one array."""
    one = graph_pb2.NamedArray(name="x", array=codec.encode_array(np.ones(2)))
    with pytest.raises(InputError, match="given twice"):
        codec.decode_arrays([one, one], "inputs", SETTINGS)


def test_too_many_arrays_are_refused() -> None:
    """The number of arrays is a limit with a name."""
    with pytest.raises(LimitError, match="max_arrays"):
        codec.decode_arrays([graph_pb2.NamedArray()] * 3, "inputs", Settings(max_arrays=2))


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    """Bytes are a message or a MalformedMessageError; nothing else comes out."""
    with contextlib.suppress(MalformedMessageError):
        codec.parse(graph_pb2.Graph, data)


@pytest.fixture
def good(support: Any) -> graph_pb2.Graph:
    """A graph with every part: inputs, parameters, scalars, constants, attributes."""
    x, w = sg.input("x", shape=(3,)), sg.param("w", np.ones(3))
    table = sg.Value(np.arange(6.0).reshape(2, 3))
    message: graph_pb2.Graph = support.graph_message(trace({"loss": sg.sum((table @ (x * w)) ** 2.0) + 1.5}))
    return message


def parsed(message: graph_pb2.Graph, sources: graph_pb2.SourceMap | None = None) -> Any:
    """The engine's graph of a message."""
    return codec.parse_graph(message.SerializeToString(), (sources or graph_pb2.SourceMap()).SerializeToString(), SETTINGS)


def test_good_graph_is_read(good: graph_pb2.Graph, support: Any) -> None:
    """A graph comes back as it was sent, to the byte."""
    assert support.graph_bytes(parsed(good)) == good.SerializeToString(deterministic=True)


def change_operand(message: graph_pb2.Graph) -> None:
    message.operands[0] = len(message.opcodes)


HOSTILE: dict[str, Callable[[graph_pb2.Graph], Any]] = {
    "nothing": lambda m: m.Clear(),
    "unknown opcode": lambda m: m.opcodes.__setitem__(-1, 9999),
    "negative opcode": lambda m: m.opcodes.__setitem__(-1, -1),
    "unspecified opcode": lambda m: m.opcodes.__setitem__(-1, 0),
    "derived opcode": lambda m: m.opcodes.__setitem__(-1, graph_pb2.OPCODE_SUM_SAMPLES),
    "count for no node": lambda m: m.operand_counts.append(0),
    "billions of operands": lambda m: m.operand_counts.__setitem__(-1, 2**32 - 1),
    "missing operand": lambda m: m.operands.pop(),
    "operand too many": lambda m: m.operands.append(0),
    "forward reference": change_operand,
    "self reference": lambda m: m.operands.__setitem__(-1, len(m.opcodes) - 1),
    "operand out of range": lambda m: m.operands.__setitem__(-1, 2**32 - 1),
    "missing input": lambda m: m.inputs.pop(),
    "input too many": lambda m: m.inputs.add(name="z", dtype=F64),
    "missing parameter": lambda m: m.parameters.pop(),
    "same name twice": lambda m: setattr(m.parameters[0], "name", "x"),
    "leaf without name": lambda m: setattr(m.inputs[0], "name", ""),
    "leaf of no dtype": lambda m: setattr(m.inputs[0], "dtype", 0),
    "leaf of f32": lambda m: setattr(m.inputs[0], "dtype", F32),
    "leaf of unknown dtype": lambda m: setattr(m.inputs[0], "dtype", 77),
    "parameter of integers": lambda m: setattr(m.parameters[0], "dtype", I64),
    "leaf of many axes": lambda m: m.inputs[0].shape.extend([1] * 20),
    "wrong shape": lambda m: m.inputs[0].shape.append(7),
    "missing scalar": lambda m: m.scalars.pop(),
    "scalar too many": lambda m: m.scalars.append(1.0),
    "missing constant": lambda m: m.constants.pop(),
    "constant of wrong length": lambda m: setattr(m.constants[0], "data", b"\0" * 8),
    "constant of no dtype": lambda m: setattr(m.constants[0], "dtype", 0),
    "missing attribute": lambda m: m.attributes.pop(),
    "unknown attribute": lambda m: setattr(m.attributes[0], "name", "color"),
    "attribute twice": lambda m: m.attributes.append(m.attributes[0]),
    "attribute of no node": lambda m: setattr(m.attributes[0], "node", 2**32 - 1),
    "attribute of huge numbers": lambda m: m.attributes[0].values.__setitem__(slice(None), [2**63 - 1, -(2**63)]),
    "no outputs": lambda m: m.ClearField("outputs"),
    "output twice": lambda m: m.outputs.add(name="loss", node=0),
    "output of no node": lambda m: setattr(m.outputs[0], "node", 10_000),
    "output without name": lambda m: setattr(m.outputs[0], "name", ""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_graph_is_refused(good: graph_pb2.Graph, what: str) -> None:
    """Each way to be malformed is a GraphError, with the node wherever there is one."""
    HOSTILE[what](good)
    with pytest.raises(GraphError):
        parsed(good)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        (lambda m: m.inputs[0].shape.__setitem__(0, 2**40), "max_elements"),
        (lambda m: setattr(m.inputs[0], "name", "n" * 300), "max_name_bytes"),
        (lambda m: m.opcodes.extend([graph_pb2.OPCODE_SCALAR] * 1000), "max_nodes"),
    ],
)
def test_graph_over_a_limit_is_refused(good: graph_pb2.Graph, change: Any, limit: str) -> None:
    """A graph that asks for too much is refused with the name of the limit."""
    change(good)
    with pytest.raises(LimitError) as refused:
        parsed(good)
    assert refused.value.limit == limit


def test_sources_must_fit(good: graph_pb2.Graph) -> None:
    """A source map has an entry for each node, or none."""
    with pytest.raises(InputError, match="sources"):
        parsed(good, graph_pb2.SourceMap(files=["a.py"], file=[1], line=[1, 2]))


@given(st.data())
def test_changed_graphs_parse_or_are_refused(support: Any, data: Any) -> None:
    """A graph with any byte changed is a graph, or an error of ours: the engine's checks have no hole."""
    x = sg.input("x", shape=(2, 2))
    message = support.graph_bytes(trace({"y": sg.logsumexp(sg.transpose(x) @ x, axis=0), "z": sg.reshape(x, (4,))[1:3]}))
    changed = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SumgradError):
        codec.parse_graph(bytes(changed), b"", SETTINGS)
