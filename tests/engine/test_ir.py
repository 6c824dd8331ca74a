"""Graphs and their builder: sharing by bits, order, casts, and what is kept."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.ir import Builder, replay
from sumgrad_engine.ops.arithmetic import add, less, logical_and, multiply, subtract
from sumgrad_engine.ops.movement import reshape
from sumgrad_engine.table import verify
from sumgrad_engine.trace import trace, trace_nodes
from sumgrad_engine.types import DType, Leaf


def _nan(payload: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000000 | payload))[0])


def test_constants_are_keyed_by_their_bits() -> None:
    """0.0 is not -0.0, a NaN equals itself, and NaNs with other bits are others."""
    builder = Builder()
    assert builder.constant(0.0) == builder.constant(0.0)
    assert builder.constant(0.0) != builder.constant(-0.0)
    assert builder.constant(math.nan) == builder.constant(math.nan)
    assert builder.constant(_nan(1)) != builder.constant(_nan(2))
    assert builder.constant(1) == builder.constant(1.0)
    assert builder.constant(True) != builder.constant(1.0)
    assert builder.constant(np.array([1.0])) != builder.constant(1.0)
    assert builder.constant(np.array([1, 2])) != builder.constant(np.array([1.0, 2.0]))
    assert builder.constant(np.zeros((2, 3))) != builder.constant(np.zeros((3, 2)))


def test_equal_nodes_are_made_once() -> None:
    """Also with the operands of a commutative op exchanged; attributes tell nodes apart."""
    builder = Builder()
    x, y = builder.input(Leaf("x", (2, 3))), builder.parameter(Leaf("y", (2, 3)))
    assert builder.add(add, [x, y]) == builder.add(add, [y, x])
    assert builder.add(subtract, [x, y]) != builder.add(subtract, [y, x])
    assert builder.add(reshape, [x], {"shape": (6,)}) != builder.add(reshape, [x], {"shape": (3, 2)})
    assert builder.add(reshape, [x], {"shape": (6,)}) == builder.add(reshape, [x], {"shape": (6,)})


def test_without_sharing_every_node_is_its_own() -> None:
    """What shows the nodes of Values as the user made them."""
    builder = Builder(share=False)
    x = builder.constant(1.0)
    assert builder.constant(1.0) != x
    assert builder.add(add, [x, x]) != builder.add(add, [x, x])


def test_constants_cannot_be_changed() -> None:
    """Neither by who gave the array nor by who reads the graph."""
    data = np.array([1.0, 2.0])
    builder = Builder()
    node = builder.constant(data)
    data[0] = 9.0
    assert builder.constants[node].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        builder.constants[node][0] = 5.0


def test_operands_are_cast_where_floats_are_needed() -> None:
    """Integers and booleans become floats; floats never become booleans."""
    builder = Builder()
    k, x = builder.input(Leaf("k", (), DType.INT)), builder.input(Leaf("x", ()))
    node = builder.add(add, [k, x])
    assert [builder.ops[o].name for o in builder.operands[node]] == ["cast_float", "input"]
    assert builder.types[builder.add(less, [k, x])].dtype is DType.BOOL
    with pytest.raises(sg.ShapeError, match="needs a boolean, not a float"):
        builder.add(logical_and, [x, x])
    with pytest.raises(sg.GraphError, match="takes 2 operands, not 1"):
        builder.add(add, [x])


def test_a_graph_keeps_what_is_needed() -> None:
    """Dead nodes go, inputs and parameters stay, operands come before their users."""
    x, w, unused = sg.input("x"), sg.param("w", 1.0), sg.param("unused", 2.0)
    kept = x * w + 1.0
    _ = kept * unused
    graph = trace({"a": kept, "b": kept * 2.0})
    verify(graph)
    assert [leaf.name for leaf in (*graph.inputs, *graph.parameters)] == ["x", "w"]
    assert {op.name for _, op, _, _ in graph.rows()} == {"input", "parameter", "scalar", "multiply", "add"}
    assert all(k < node for node, _, operands, _ in graph.rows() for k in operands)
    assert graph.node_of("w") in graph.arguments(graph.arguments(graph.outputs["a"])[0])
    assert (graph.shape(graph.outputs["a"]), graph.dtype(graph.outputs["a"])) == ((), DType.FLOAT)


def test_replaying_a_graph_gives_it_again() -> None:
    """Node by node, with its sources."""
    x = sg.input("x", shape=3)
    graph = trace({"y": sg.softmax(sg.tanh(x) * 2.0)})
    builder = Builder()
    ids = replay(graph, builder)
    again = builder.graph({name: ids[node] for name, node in graph.outputs.items()})
    assert ids == list(range(graph.node_count))
    assert [again.describe(node) for node in ids] == [graph.describe(node) for node in ids]
    assert list(again.rows()) == list(graph.rows())


def test_sources_name_the_lines() -> None:
    """Each node knows the line that made it; equal nodes keep the first."""
    x = sg.input("x")
    first = x * 2.0
    second = x * 2.0
    graph = trace({"first": first, "second": second})
    assert graph.outputs["first"] == graph.outputs["second"]
    line = first.place[1] if first.place else 0
    assert graph.describe(graph.outputs["first"]) == f"{__file__}:{line}"
    assert graph.sources is not None
    assert graph.sources.place(10**6) is None


def test_leaves_of_one_name() -> None:
    """The same input twice is one; another type, or a second parameter, is refused."""
    a, b = sg.input("x"), sg.input("x")
    assert len(trace({"y": a + b}).inputs) == 1
    conflicts: list[tuple[Any, Any]] = [
        (a, sg.input("x", shape=2)),
        (a, sg.param("x", 1.0)),
        (a * 1.0, sg.input("x", dtype=bool) * 1.0),
        (sg.param("x", 1.0), sg.param("x", 2.0)),
    ]
    for left, right in conflicts:
        with pytest.raises(sg.GraphError, match=r"'x'.*test_ir\.py"):
            trace({"y": sg.sum(left + right)})


def test_a_node_for_every_value() -> None:
    """trace_nodes keeps equal Values apart, in the order of the Values that it returns."""
    a, b = sg.Value(2.0), sg.Value(2.0)
    graph, nodes = trace_nodes(a * b + a * b)
    assert graph.node_count == len(nodes) == 5
    assert [graph.op(node).name for node in range(5)] == [
        {"scalar": "scalar"}.get(v.op.name, v.op.name.replace("constant", "scalar")) for v in nodes
    ]
    assert multiply.name in {v.op.name for v in nodes}
