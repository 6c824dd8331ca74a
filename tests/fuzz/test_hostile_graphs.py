"""Graphs that pass every check and would take all memory, or all day: to compile, to run, or to answer. They meet a limit that is named, no worker dies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_tests import support
from sumgrad_tests.requests import logistic, samples

pytestmark = [pytest.mark.fuzz, pytest.mark.slow, pytest.mark.xdist_group("load")]

MIB = 1 << 20
FLAGS = ("--workers", "1", "--max-compile-seconds", "3", "--max-worker-bytes", str(512 * MIB), "--max-shared-bytes", str(1024 * MIB))
LIMITED = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT}
SECONDS = 30.0
"""After which a client gives up: what takes long and nothing else is no mistake."""


class Builder:
    """A graph on the wire, node by node."""

    def __init__(self) -> None:
        self.graph = graph_pb2.Graph()

    def node(self, op: str, *operands: int, **attributes: int | Sequence[int]) -> int:
        """A node; its index."""
        graph = self.graph
        index = len(graph.opcodes)
        graph.opcodes.append(graph_pb2.Opcode.Value(f"OPCODE_{op}"))
        graph.operand_counts.append(len(operands))
        graph.operands.extend(operands)
        for name, values in attributes.items():
            graph.attributes.add(node=index, name=name, values=[values] if isinstance(values, int) else values)
        return index

    def input(self, name: str, *shape: int, dtype: Any = graph_pb2.DTYPE_F64) -> int:
        self.graph.inputs.add(name=name, shape=shape, dtype=dtype)
        return self.node("INPUT")

    def parameter(self, name: str, *shape: int) -> int:
        self.graph.parameters.add(name=name, shape=shape, dtype=graph_pb2.DTYPE_F64)
        return self.node("PARAMETER")

    def scalar(self, value: float) -> int:
        self.graph.scalars.append(value)
        return self.node("SCALAR")

    def total(self, node: int, rank: int) -> int:
        """The sum over all axes."""
        return self.node("SUM", node, axes=list(range(rank)))


def broadcast(b: Builder) -> int:
    x = b.node("MULTIPLY", b.input("x"), b.parameter("w"))
    return b.total(b.node("TANH", b.node("BROADCAST_TO", x, shape=[1 << 13, 1 << 13])), 2)


def doubled(b: Builder) -> int:
    x = b.node("RESHAPE", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[1])
    for _ in range(26):
        x = b.node("CONCAT", x, x, axis=0)
    return b.total(x, 1)


def large_product(b: Builder) -> int:
    x = b.node("BROADCAST_TO", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[4096, 4096])
    return b.total(b.node("MATMUL", b.node("SIN", x), b.node("COS", x)), 2)


def deep_nest(b: Builder) -> int:
    x = b.node("BROADCAST_TO", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[3] * 16)
    x = b.node("TRANSPOSE", b.node("SIN", x), axes=list(reversed(range(16))))
    return b.total(b.node("FLIP", b.node("ADD", x, b.node("EXP", x)), axes=list(range(0, 16, 2))), 16)


def wide_take(b: Builder) -> int:
    table = b.node("BROADCAST_TO", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[1 << 20])
    indices = b.node("BROADCAST_TO", b.input("k", dtype=graph_pb2.DTYPE_I64), shape=[1 << 24])
    return b.total(b.node("TAKE", table, indices, axis=0), 1)


def wide_scatter(b: Builder) -> int:
    x = b.node("BROADCAST_TO", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[16])
    indices = b.node("BROADCAST_TO", b.input("k", dtype=graph_pb2.DTYPE_I64), shape=[16])
    return b.total(b.node("SCATTER_ADD", x, indices, axis=0, extent=1 << 26), 1)


def wide_one_hot(b: Builder) -> int:
    hot = b.node("ONE_HOT", b.input("k", dtype=graph_pb2.DTYPE_I64), extent=1 << 26)
    return b.node("MULTIPLY", b.total(hot, 1), b.node("MULTIPLY", b.input("x"), b.parameter("w")))


def wide_pad(b: Builder) -> int:
    x = b.node("RESHAPE", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[1, 1])
    return b.total(b.node("EXP", b.node("PAD", x, start=[5, 7], step=[1, 1], shape=[1 << 13, 1 << 13])), 2)


def long_chain(b: Builder) -> int:
    x = b.node("MULTIPLY", b.input("x"), b.parameter("w"))
    for _ in range(50_000):
        x = b.node("LGAMMA", b.node("SIN", x))
    return x


def high_order(b: Builder) -> int:
    return b.node("POLYGAMMA", b.node("MULTIPLY", b.input("x"), b.parameter("w")), order=(1 << 62))


def rising_orders(b: Builder) -> int:
    x = b.node("MULTIPLY", b.input("x"), b.parameter("w"))
    for order in range(1, 400):
        x = b.node("POLYGAMMA", x, order=order)
    return x


def many_operands(b: Builder) -> int:
    x = b.node("RESHAPE", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[1])
    return b.total(b.node("CONCAT", *[x] * 1_000_000, axis=0), 1)


def many_outputs(b: Builder) -> int:
    x = b.node("MULTIPLY", b.input("x"), b.parameter("w"))
    b.graph.outputs.extend(graph_pb2.Output(name=f"metric:{k}", node=x) for k in range(90_000))
    return x


def wide_metrics(b: Builder) -> int:
    x = b.node("MULTIPLY", b.input("x"), b.parameter("w"))
    wide = b.node("BROADCAST_TO", x, shape=[1 << 26])
    b.graph.outputs.extend(graph_pb2.Output(name=f"metric:{k}", node=wide) for k in range(1000))
    return x


def empty_and_endless(b: Builder) -> int:
    x = b.node("MULTIPLY", b.input("x"), b.parameter("w"))
    return b.node("ADD", x, b.total(b.node("BROADCAST_TO", x, shape=[0, 1 << 62, 1 << 62]), 3))


def outer_sums(b: Builder) -> int:
    x = b.node("BROADCAST_TO", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[1 << 13])
    column, row = b.node("RESHAPE", x, shape=[1 << 13, 1]), b.node("RESHAPE", b.node("EXP", x), shape=[1, 1 << 13])
    outer = b.node("MULTIPLY", column, row)
    for _ in range(20):
        outer = b.node("ADD", b.node("SIN", outer), b.node("TRANSPOSE", outer, axes=[1, 0]))
    return b.node("LOGSUMEXP", outer, axes=[0, 1])


def many_strides(b: Builder) -> int:
    x = b.node("BROADCAST_TO", b.node("MULTIPLY", b.input("x"), b.parameter("w")), shape=[4096])
    parts = [b.total(b.node("SLICE", x, start=[k % 4096], stop=[4096], step=[1 + k % 7]), 1) for k in range(8_000)]
    while len(parts) > 1:
        parts = [b.node("MULTIPLY", one, other) for one, other in zip(parts[::2], parts[1::2], strict=False)] + parts[len(parts) & ~1 :]
    return parts[0]


GRAPHS: list[Callable[[Builder], int]] = [
    *(broadcast, doubled, large_product, deep_nest, wide_take, wide_scatter, wide_one_hot, wide_pad, long_chain, high_order),
    *(rising_orders, many_operands, many_outputs, wide_metrics, empty_and_endless, outer_sums, many_strides),
]


@pytest.fixture(scope="module")
def server() -> Any:
    with support.running(*FLAGS) as made:
        made.client.gradient(made.client.register(logistic().graph), logistic().params, samples())
        yield made


def arrays(graph: graph_pb2.Graph) -> dict[str, Any]:
    """Arrays for a graph: 600 samples, more than a block."""
    kinds = {graph_pb2.DTYPE_F64: float, graph_pb2.DTYPE_I64: int}
    inputs = {leaf.name: np.ones((600, *leaf.shape), kinds[leaf.dtype]) for leaf in graph.inputs}
    return {
        "parameters": support.named({leaf.name: np.full(leaf.shape, 0.5) for leaf in graph.parameters}),
        "inputs": support.named(inputs),
    }


def assert_limited(error: grpc.RpcError) -> None:
    """An error names a limit or a node; or it took longer than the client waits."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return
    details = support.details_of(error)
    assert error.code() in LIMITED, (error.code(), error.details())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT or details["limit"].startswith("max_"), details


@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_excess_meets_a_limit(server: Any, make: Callable[[Builder], int]) -> None:
    """The graph is refused, or its gradient and outputs are, or they are computed; the worker goes on."""
    builder, workers = Builder(), server.workers()
    builder.graph.outputs.add(name="loss", node=make(builder))
    errors = [
        server.client.raw_error("RegisterGraph", wire.RegisterGraphRequest(graph=builder.graph.SerializeToString()).SerializeToString())
    ]
    if errors == [None]:
        graph_id = hashlib.sha256(builder.graph.SerializeToString()).hexdigest()
        gradient = wire.GradientRequest(graph_id=graph_id, **arrays(builder.graph)).SerializeToString()
        evaluate = wire.EvaluateRequest(graph_id=graph_id, **arrays(builder.graph)).SerializeToString()
        errors = [error_of(server.client, "Gradient", gradient), error_of(server.client, "Evaluate", evaluate)]
    for error in errors:
        if error is not None:
            assert_limited(error)
    objective = logistic()
    assert server.client.gradient(server.client.register(objective.graph), objective.params, samples()).count == len(samples()["y"])
    assert server.workers() == workers, server.said()[-3000:]


def error_of(client: Any, method: str, request: bytes) -> grpc.RpcError | None:
    """What a call is refused with, if it is."""
    answers = client.channel.unary_stream(f"/sumgrad.v1.GradientService/{method}")(request, timeout=SECONDS)
    try:
        for _ in answers:
            pass
    except grpc.RpcError as error:
        return error
    return None
