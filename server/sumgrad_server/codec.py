"""Protobuf to what the engine takes, and back. Everything that comes in may be hostile: each check names the field or the node.

Arrays that come in are views of the bytes that protobuf gives, which are a copy of the message's: nothing more is copied here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError, Message
from sumgrad_engine.errors import GraphError, InputError, LimitError
from sumgrad_engine.ir import Graph
from sumgrad_engine.sources import Sources
from sumgrad_engine.table import GraphTable, Limits, from_table
from sumgrad_engine.types import Array, DType, Leaf
from sumgrad_proto.v1 import graph_pb2, service_pb2

from .faults import MalformedMessageError
from .resident import ResidentDataset, Rows
from .scan import Most, scan
from .settings import Settings

AnyMessage = TypeVar("AnyMessage", bound=Message)

MAX_RANK = 16
FIELDS = 8
"""Fields of a message for an array in it, and operands in a graph for a node of it, at most."""

_NUMPY: dict[int, np.dtype[Any]] = {
    graph_pb2.DTYPE_F64: np.dtype("<f8"),
    graph_pb2.DTYPE_F32: np.dtype("<f4"),
    graph_pb2.DTYPE_I64: np.dtype("<i8"),
    graph_pb2.DTYPE_I32: np.dtype("<i4"),
    graph_pb2.DTYPE_BOOL: np.dtype("?"),
}
_WIRE = {dtype: number for number, dtype in _NUMPY.items()}
_KINDS = {graph_pb2.DTYPE_F64: DType.FLOAT, graph_pb2.DTYPE_I64: DType.INT, graph_pb2.DTYPE_BOOL: DType.BOOL}


def parse(kind: type[AnyMessage], data: bytes) -> AnyMessage:
    """The message in these bytes. Raises MalformedMessageError."""
    try:
        return kind.FromString(data)
    except (DecodeError, UnicodeDecodeError) as error:
        raise MalformedMessageError(f"these {len(data)} bytes are no {kind.DESCRIPTOR.full_name}: {error}") from None


def request_bounds(settings: Settings) -> Most:
    """How much may be in a request, whatever it is."""
    return Most(FIELDS * settings.max_arrays, "max_arrays", settings.max_nodes, "max_nodes")


def decode_array(array: graph_pb2.Array, field: str) -> Array:
    """A read-only view of an array's bytes. Raises InputError."""
    dtype = _NUMPY.get(array.dtype)
    if dtype is None:
        raise InputError(f"{field} has dtype {array.dtype}, which is none of {_dtype_names()}", field=field)
    if len(array.shape) > MAX_RANK:
        raise InputError(f"{field} has {len(array.shape)} axes; at most {MAX_RANK} are allowed", field=field)
    shape, data = tuple(array.shape), array.data  # read once: protobuf copies every time
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes != len(data):
        raise InputError(f"{field} has {len(data)} bytes of data, but its shape {shape} and dtype need {nbytes}", field=field)
    return _view(data, dtype, shape, field)


def _view(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], field: str) -> Array:
    if dtype.kind == "b" and data and np.frombuffer(data, np.uint8).max() > 1:
        raise InputError(f"{field} has bytes other than 0 and 1, which are no booleans", field=field)
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError:  # extents that NumPy can't hold, beside one of 0
        raise InputError(f"{field} has the shape {shape}, which is too large", field=field) from None


def _dtype_names() -> str:
    return ", ".join(graph_pb2.DType.Name(number) for number in _NUMPY)


def decode_arrays(arrays: Sequence[graph_pb2.NamedArray], field: str, settings: Settings) -> dict[str, Array]:
    """Arrays by name; `field` ("parameters", "inputs") is what an error calls them. Raises InputError and LimitError."""
    within(settings.max_arrays, "max_arrays", len(arrays), f"number of {field}")
    found: dict[str, Array] = {}
    for named in arrays:
        place = f"{field}.{named.name[:80]}"
        if named.name in found:
            raise InputError(f"{place} is given twice", field=place)
        found[named.name] = decode_array(named.array, place)
    return found


def decode_rows(rows: service_pb2.Rows, dataset: ResidentDataset) -> Rows:
    """Which samples of a dataset are meant: all of them, if nothing is said. Raises InputError."""
    have, kind = dataset.sample_count, rows.WhichOneof("rows")
    if kind is None:
        return Rows(dataset, have)
    if kind == "indices":
        return Rows(dataset, len(found := _indices(rows.indices, have)), indices=found)
    start, stop = rows.range.start, rows.range.stop
    if not start < stop <= have:
        raise InputError(f"rows.range is {start} to {stop}; the dataset has {have} samples, and at least one is needed", field="rows.range")
    return Rows(dataset, stop - start, start)


def _indices(array: graph_pb2.Array, have: int) -> Array:
    found = decode_array(array, "rows.indices")
    if found.ndim != 1 or found.dtype.kind != "i":
        raise InputError(f"rows.indices must be integers of shape (n,), not {found.dtype} of shape {found.shape}", field="rows.indices")
    if not len(found):
        raise InputError("rows.indices is empty; at least one sample is needed", field="rows.indices")
    wrong = found[(found < 0) | (found >= have)]
    if len(wrong):
        raise InputError(f"rows.indices has {wrong[0]}; the dataset has {have} samples, counted from 0", field="rows.indices")
    return found


def encode_array(array: Array) -> graph_pb2.Array:
    """A float64, float32, int64, int32 or bool array on the wire."""
    wire = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return graph_pb2.Array(dtype=graph_pb2.DType.Name(_WIRE[wire.dtype]), shape=array.shape, data=wire.tobytes())


def encode_arrays(arrays: Mapping[str, Array]) -> list[graph_pb2.NamedArray]:
    """Arrays by name, in order."""
    return [graph_pb2.NamedArray(name=name, array=encode_array(array)) for name, array in arrays.items()]


def within(allowed: int, limit: str, value: int, what: str) -> None:
    """Raises LimitError if a value is over a limit."""
    if value > allowed:
        raise LimitError(f"{what}: {value:,} is more than {limit} = {allowed:,}", limit=limit, value=value, allowed=allowed)


def parse_graph(graph: bytes, sources: bytes, settings: Settings) -> Graph:
    """The graph in these bytes, checked whole. Raises GraphError, LimitError, InputError (sources) and MalformedMessageError."""
    scan(graph_pb2.Graph, graph, Most(settings.max_nodes, "max_nodes", FIELDS * settings.max_nodes, "max_nodes"))
    message = parse(graph_pb2.Graph, graph)
    limits = Limits(max_nodes=settings.max_nodes, max_elements=settings.max_elements)
    within(settings.max_nodes, "max_nodes", len(message.opcodes), "number of nodes")
    within(settings.max_arrays, "max_arrays", len(message.inputs) + len(message.parameters), "number of inputs and parameters")
    known = _sources(parse(graph_pb2.SourceMap, sources), len(message.opcodes))
    return from_table(_table(message), limits, known)


def _table(message: graph_pb2.Graph) -> GraphTable:
    opcodes = _column(message.opcodes)
    return GraphTable(
        opcodes=opcodes,
        operand_counts=_column(message.operand_counts),
        operands=_column(message.operands),
        attributes=[(entry.node, entry.name, list(entry.values)) for entry in message.attributes],
        inputs=[_leaf(leaf, f"inputs[{position}]") for position, leaf in enumerate(message.inputs)],
        parameters=[_leaf(leaf, f"parameters[{position}]") for position, leaf in enumerate(message.parameters)],
        scalars=np.fromiter(message.scalars, np.float64, len(message.scalars)),
        constants=_constants(message, opcodes),
        outputs=[(output.name, output.node) for output in message.outputs],
    )


def _column(numbers: Sequence[int]) -> npt.NDArray[np.uint32]:
    # Enums on the wire may be negative: those become large numbers, which no opcode has.
    return np.fromiter(numbers, np.int64, len(numbers)).astype(np.uint32)


def _leaf(leaf: graph_pb2.Leaf, field: str) -> Leaf:
    kind = _KINDS.get(leaf.dtype)
    if kind is None:
        raise GraphError(f"{field} ({leaf.name[:80]!r}) has dtype {leaf.dtype}: leaves are DTYPE_F64, DTYPE_I64 or DTYPE_BOOL")
    if len(leaf.shape) > MAX_RANK:
        raise GraphError(f"{field} ({leaf.name[:80]!r}) has {len(leaf.shape)} axes; at most {MAX_RANK} are allowed")
    return Leaf(leaf.name, tuple(leaf.shape), kind)


def _constants(message: graph_pb2.Graph, opcodes: npt.NDArray[np.uint32]) -> list[Array]:
    nodes = np.flatnonzero(opcodes == graph_pb2.OPCODE_CONSTANT).tolist()
    return [_constant(array, position, nodes) for position, array in enumerate(message.constants)]


def _constant(array: graph_pb2.Array, position: int, nodes: Sequence[int]) -> Array:
    try:
        return decode_array(array, f"constants[{position}]")
    except InputError as error:
        node = nodes[position] if position < len(nodes) else None
        raise GraphError(error.message, node=node, op="constant") from None


def _sources(message: graph_pb2.SourceMap, nodes: int) -> Sources | None:
    if not message.file and not message.line:
        return None
    if len(message.file) != nodes or len(message.line) != nodes:
        said = f"sources has {len(message.file)} files and {len(message.line)} lines for {nodes} nodes; it needs one of each, or none"
        raise InputError(said, field="sources")
    return Sources(tuple(message.files), _column(message.file), _column(message.line))
