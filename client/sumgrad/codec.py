"""Between what Python holds and what goes over the wire: arrays, graphs, source maps.

A graph is serialised once, deterministically, and named by the SHA-256 of those bytes. Nothing here knows of connections.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.errors import InputError
from sumgrad_engine.ir import Graph
from sumgrad_engine.sources import Sources
from sumgrad_engine.table import GraphTable, from_table, to_table
from sumgrad_engine.types import DType, Leaf
from sumgrad_proto.v1 import graph_pb2 as wire

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

Array = NDArray[Any]

_KINDS = {DType.FLOAT: wire.DTYPE_F64, DType.INT: wire.DTYPE_I64, DType.BOOL: wire.DTYPE_BOOL}
_DTYPES = {kind: dtype for dtype, kind in _KINDS.items()}

_NUMPY: dict[wire.DType, np.dtype[Any]] = {
    wire.DTYPE_F64: np.dtype("<f8"),
    wire.DTYPE_F32: np.dtype("<f4"),
    wire.DTYPE_I64: np.dtype("<i8"),
    wire.DTYPE_I32: np.dtype("<i4"),
    wire.DTYPE_BOOL: np.dtype("?"),
}
_WIRE = {dtype: number for number, dtype in _NUMPY.items()}

# Types that the wire does not have, and the smallest one that holds all their values. (uint64 is checked value by value.)
_WIDER = {"f2": "<f4", "i1": "<i4", "i2": "<i4", "u1": "<i4", "u2": "<i4", "u4": "<i8", "u8": "<i8"}


@dataclass(frozen=True, eq=False)
class EncodedGraph:
    """A graph ready to be sent: its bytes, their name, and what the client keeps to explain errors."""

    graph: Graph
    data: bytes = field(repr=False)
    id: str

    @classmethod
    def of(cls, graph: Graph) -> EncodedGraph:
        """Serialises and names a graph."""
        data = encode_graph(graph)
        return cls(graph, data, graph_id(data))


def graph_id(data: bytes) -> str:
    """The name of a graph: SHA-256 of its bytes, in lowercase hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def encode_graph(graph: Graph) -> bytes:
    """The bytes of a graph; the same graph always gives the same ones."""
    table = to_table(graph)
    message = wire.Graph(
        opcodes=table.opcodes.tolist(),
        operand_counts=table.operand_counts.tolist(),
        operands=table.operands.tolist(),
        attributes=[wire.Attribute(node=node, name=name, values=values) for node, name, values in table.attributes],
        inputs=map(_encode_leaf, table.inputs),
        parameters=map(_encode_leaf, table.parameters),
        scalars=table.scalars.tolist(),
        constants=map(encode_array, table.constants),
        outputs=[wire.Output(name=name, node=node) for name, node in table.outputs],
    )
    return message.SerializeToString(deterministic=True)


def decode_graph(data: bytes, sources: wire.SourceMap | None = None) -> Graph:
    """The graph of these bytes. Raises GraphError or LimitError, naming the node, if they are none."""
    message = wire.Graph.FromString(data)
    table = GraphTable(
        opcodes=np.array(message.opcodes, dtype=np.uint32),
        operand_counts=np.array(message.operand_counts, dtype=np.uint32),
        operands=np.array(message.operands, dtype=np.uint32),
        attributes=[(part.node, part.name, list(part.values)) for part in message.attributes],
        inputs=[_decode_leaf(leaf) for leaf in message.inputs],
        parameters=[_decode_leaf(leaf) for leaf in message.parameters],
        scalars=np.array(message.scalars, dtype=np.float64),
        constants=[decode_array(array) for array in message.constants],
        outputs=[(output.name, output.node) for output in message.outputs],
    )
    return from_table(table, sources=decode_sources(sources) if sources is not None else None)


def _encode_leaf(leaf: Leaf) -> wire.Leaf:
    return wire.Leaf(name=leaf.name, shape=leaf.shape, dtype=_KINDS[leaf.dtype])


def _decode_leaf(leaf: wire.Leaf) -> Leaf:
    return Leaf(leaf.name, tuple(leaf.shape), _DTYPES[leaf.dtype])


def encode_sources(sources: Sources | None) -> wire.SourceMap | None:
    """Where the nodes were made, for error messages; None if nothing is known."""
    if sources is None:
        return None
    return wire.SourceMap(files=sources.files, file=sources.file.tolist(), line=sources.line.tolist())


def decode_sources(sources: wire.SourceMap) -> Sources | None:
    """The engine's form of a source map; None if it is empty."""
    if not sources.files:
        return None
    return Sources(tuple(sources.files), np.array(sources.file, dtype=np.uint32), np.array(sources.line, dtype=np.uint32))


def encode_array(array: Array) -> wire.Array:
    """The wire form of an array of a type that the wire has (or of another byte order), contiguous or not."""
    message = wire.Array()
    _write_array(message, array)
    return message


def _write_array(message: wire.Array, array: Array) -> None:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)
    message.dtype = _WIRE[little.dtype]
    message.shape.extend(little.shape)
    message.data = little.tobytes()


def decode_array(array: wire.Array) -> Array:
    """A new, writable NumPy array in the machine's byte order."""
    dtype = _NUMPY[array.dtype]
    return np.frombuffer(bytearray(array.data), dtype=dtype).astype(dtype.newbyteorder("="), copy=False).reshape(tuple(array.shape))


def numpy_type(number: int) -> np.dtype[Any]:
    """NumPy's type for one of the wire."""
    return _NUMPY[cast(wire.DType, number)]


def wire_type(dtype: np.dtype[Any]) -> wire.DType:
    """The wire's type for one of NumPy's that it has."""
    return _WIRE[dtype]


def type_name(dtype: np.dtype[Any]) -> str:
    """The wire's name for one of NumPy's types that it has: f64, f32, i64, i32 or bool."""
    return wire.DType.Name(_WIRE[dtype]).removeprefix("DTYPE_").lower()


def decode_flat(data: bytes) -> NDArray[np.float64]:
    """The float64 numbers of a flat byte string."""
    return np.frombuffer(data, dtype="<f8").astype(np.float64)


def add_arrays(messages: RepeatedCompositeFieldContainer[wire.NamedArray], arrays: Mapping[str, Array]) -> None:
    """Writes arrays with names into a field of a message: in place, for messages put into others are copied."""
    for name, array in arrays.items():
        _write_array(messages.add(name=name).array, array)


def decode_arrays(arrays: Iterable[wire.NamedArray]) -> dict[str, Array]:
    """Arrays by name."""
    return {named.name: decode_array(named.array) for named in arrays}


def sendable(values: ArrayLike, field: str) -> Array:
    """The values as an array of a type that the wire has: f32 and integers stay what they are, small and unsigned integers are widened.

    `field` names them in the InputError that text, objects, complex numbers and integers beyond 63 bits get.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{field} is no array: {error}", field=field) from None
    if array.dtype.kind == "O":
        array = _floats(array, field)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{field} has elements of type {array.dtype}: use floats, integers or booleans", field=field)
    if array.dtype.str[1:] == "u8" and array.size and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{field} has integers above 2**63 - 1, which do not fit int64", field=field)
    target = _WIDER.get(array.dtype.str[1:], "<f8" if array.dtype.itemsize > 8 else array.dtype)
    return array.astype(target, copy=False)


def _floats(array: Array, field: str) -> Array:
    """Objects that are numbers (decimals, the None-free column of a table) as floats."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{field} has elements that are not numbers", field=field) from None
