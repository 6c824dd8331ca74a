"""Graphs as columns: the way there and back, the rules one by one against hostile columns, and legality after every pass."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given, settings
from hypothesis import strategies as st
from sumgrad_engine.grad import differentiate
from sumgrad_engine.ir import Graph, replay
from sumgrad_engine.ops import OPS
from sumgrad_engine.ops.contraction import sum_samples
from sumgrad_engine.simplify import Simplifier, simplify
from sumgrad_engine.table import GraphTable, Limits, from_table, to_table, verify
from sumgrad_engine.trace import trace
from sumgrad_engine.types import DType, Leaf

SEEDS, STEPS = st.integers(0, 1 << 32), st.integers(1, 20)


def _same(one: Graph, other: Graph) -> None:
    """Everything that a graph says is the same in both."""
    assert list(one.rows()) == list(other.rows())
    assert list(one.types) == list(other.types)
    assert (one.leaves, one.outputs) == (other.leaves, other.outputs)
    assert list(one.leaves) == list(other.leaves)
    np.testing.assert_array_equal(one.per_sample, other.per_sample)
    assert one.constants.keys() == other.constants.keys()
    for node, value in one.constants.items():
        assert (value.dtype, value.shape, value.tobytes()) == (
            other.constants[node].dtype,
            other.constants[node].shape,
            other.constants[node].tobytes(),
        )


@settings(max_examples=100, deadline=None)
@given(SEEDS, STEPS, st.booleans())
def test_round_trip(graphs: ModuleType, seed: int, steps: int, wild: bool) -> None:
    """A graph comes back from its columns with every node, type, leaf, constant and output as it was."""
    made = graphs.make(seed, steps, wild)
    graph = trace({"value": made.value, **{f"node {k}": value for k, value in enumerate(made.pool[:30])}})
    _same(graph, from_table(to_table(graph), sources=graph.sources))


@settings(max_examples=60, deadline=None)
@given(SEEDS, STEPS, st.booleans())
def test_every_pass_gives_legal_graphs(graphs: ModuleType, seed: int, steps: int, wild: bool) -> None:
    """After tracing, simplifying and differentiating, twice: all rules hold, and types are those that follow from the leaves."""
    made = graphs.make(seed, steps, wild)
    graph = trace({"loss": made.value})
    verify(graph)
    verify(simplify(graph))
    builder = Simplifier()
    ids = replay(graph, builder)
    wrt = [ids[node] for node, leaf in graph.leaves.items() if leaf.dtype is DType.FLOAT]
    total = builder.add(sum_samples, [ids[graph.outputs["loss"]]])
    slopes = differentiate(builder, total, wrt, over_samples=True)
    derived = builder.graph({"total": total, **{str(k): node for k, node in enumerate(slopes)}})
    verify(derived)
    assert [derived.shape(derived.outputs[str(k)]) for k in range(len(slopes))] == [builder.types[node].shape for node in wrt]
    verify(simplify(derived))


def test_verify_notices_a_wrong_type() -> None:
    """A graph that lies about a shape is refused by node."""
    graph = trace({"y": sg.input("x", shape=2) * 2.0})
    wrong = dataclasses.replace(graph, types=[*graph.types[:-1], graph.types[-1]._replace(shape=(3,))])
    with pytest.raises(sg.GraphError, match=r"node 2.*float of shape \(3,\)"):
        verify(wrong)


def table(**changes: Any) -> GraphTable:
    """x * w + 2 with x an input of shape (2,), summed; changed as said."""
    columns: dict[str, Any] = {
        "opcodes": [1, 2, 13, 3, 11, 103],
        "operand_counts": [0, 0, 2, 0, 2, 1],
        "operands": [0, 1, 2, 3, 4],
        "attributes": [(5, "axes", [0])],
        "inputs": [Leaf("x", (2,))],
        "parameters": [Leaf("w", ())],
        "scalars": [2.0],
        "constants": [],
        "outputs": [("loss", 5)],
    } | changes
    for name in ("opcodes", "operand_counts", "operands"):
        columns[name] = np.array(columns[name], np.uint32)
    columns["scalars"] = np.array(columns["scalars"], np.float64)
    return GraphTable(**columns)


def unary(op: str, leaf: Leaf, attributes: list[tuple[int, str, list[int]]], *more: Leaf) -> GraphTable:
    """One op of inputs."""
    leaves = [leaf, *more]
    return table(
        opcodes=[1] * len(leaves) + [OPS[op].number],
        operand_counts=[0] * len(leaves) + [len(leaves)],
        operands=list(range(len(leaves))),
        attributes=attributes,
        inputs=leaves,
        parameters=[],
        scalars=[],
        outputs=[("loss", len(leaves))],
    )


def test_the_good_table_is_good() -> None:
    """What the hostile ones below differ from."""
    graph = from_table(table())
    assert graph.shape(5) == ()
    assert graph.per_sample.tolist() == [True, False, True, False, True, True]


X = Leaf("x", (2, 3))
HOSTILE: dict[str, tuple[Callable[[], GraphTable], int | None, str]] = {
    "no nodes": (lambda: table(opcodes=[], operand_counts=[], operands=[]), None, "no nodes"),
    "too few counts": (lambda: table(operand_counts=[0, 0, 2]), 3, "3 entries for 6 nodes"),
    "too many counts": (lambda: table(operand_counts=[0, 0, 2, 0, 2, 1, 0]), 6, "7 entries for 6 nodes"),
    "counts that overflow": (lambda: table(operand_counts=[0, 0, 2**32 - 1, 0, 2**32 - 1, 7]), 5, "add up to 8589934597"),
    "too few operands": (lambda: table(operands=[0, 1, 2]), 5, "there are 3 operands"),
    "forward reference": (lambda: table(operands=[0, 4, 2, 3, 4]), 2, "operand 4 is not an earlier node"),
    "self reference": (lambda: table(operands=[0, 1, 4, 3, 4]), 4, "operand 4 is not an earlier node"),
    "huge operand": (lambda: table(operands=[0, 2**32 - 1, 2, 3, 4]), 2, "operand 4294967295"),
    "unknown opcode": (lambda: table(opcodes=[1, 2, 13, 3, 9999, 103]), 4, "unknown opcode 9999"),
    "opcode zero": (lambda: table(opcodes=[1, 2, 0, 3, 11, 103]), 2, "unknown opcode 0"),
    "opcode beyond 16 bits": (lambda: table(opcodes=[1, 2, 65536 + 13, 3, 11, 103]), 2, "unknown opcode 65549"),
    "derived opcode": (lambda: table(opcodes=[1, 2, 13, 3, 11, 120], attributes=[]), 5, r"120 \(sum_samples\)"),
    "arity": (lambda: table(opcodes=[1, 2, 13, 3, 30, 103]), 4, "exp takes 1 operands, not 2"),
    "leaf with operands": (lambda: table(opcodes=[1, 2, 2, 3, 11, 103]), 2, "parameter takes 0 operands"),
    "concat of nothing": (lambda: table(opcodes=[1, 2, 13, 107, 11, 103], scalars=[]), 3, "at least 1 operand"),
    "missing input": (lambda: table(inputs=[]), 0, "1 input nodes, but 0 entries"),
    "extra input": (lambda: table(inputs=[Leaf("x", ()), Leaf("y", ())]), None, "2 entries in inputs"),
    "missing parameter": (lambda: table(parameters=[]), 1, "0 entries in parameters"),
    "missing scalar": (lambda: table(scalars=[]), 3, "0 entries in scalars"),
    "extra scalars": (lambda: table(scalars=[1.0, 2.0]), None, "2 entries in scalars"),
    "extra constants": (lambda: table(constants=[np.zeros(2)]), None, "1 entries in constants"),
    "duplicate names": (lambda: table(parameters=[Leaf("x", ())]), None, "'x' is used twice"),
    "empty name": (lambda: table(parameters=[Leaf("", ())]), None, "no name"),
    "duplicate outputs": (lambda: table(outputs=[("loss", 5), ("loss", 4)]), None, "'loss' is used twice"),
    "empty output name": (lambda: table(outputs=[("", 5)]), None, "output has no name"),
    "no outputs": (lambda: table(outputs=[]), None, "no outputs"),
    "output beyond the end": (lambda: table(outputs=[("loss", 6)]), 6, "output 'loss' is node 6"),
    "negative output": (lambda: table(outputs=[("loss", -1)]), -1, "output 'loss' is node -1"),
    "negative leaf shape": (lambda: table(inputs=[Leaf("x", (-2,))]), None, "leaf 'x' has shape"),
    "wrong leaf dtype": (lambda: table(inputs=[Leaf("x", (), 7)]), None, "leaf 'x'"),  # type: ignore[arg-type]
    "integer parameter": (lambda: table(parameters=[Leaf("w", (), DType.INT)]), None, "'w' must be of floats"),
    "boolean operand": (lambda: table(inputs=[Leaf("x", (2,), DType.BOOL)]), 2, "operand 0 is of kind BOOL"),
    "integer operand": (lambda: table(inputs=[Leaf("x", (2,), DType.INT)]), 2, "operand 0 is of kind INT"),
    "shapes that do not fit": (lambda: table(parameters=[Leaf("w", (3,))]), 2, "do not broadcast"),
    "missing attribute": (lambda: table(attributes=[]), 5, "sum needs the attribute 'axes'"),
    "unknown attribute": (lambda: table(attributes=[(5, "axis", [0])]), 5, "not 'axis'"),
    "attribute twice": (lambda: table(attributes=[(5, "axes", [0]), (5, "axes", [0])]), 5, "once"),
    "attribute of a leaf": (lambda: table(attributes=[(0, "axes", [0]), (5, "axes", [0])]), 0, "'axes'"),
    "attribute of no node": (lambda: table(attributes=[(77, "axes", [0])]), 77, "belongs to node 77"),
    "axis out of range": (lambda: table(attributes=[(5, "axes", [3])]), 5, "axis 3 is out of range"),
    "axis negative": (lambda: table(attributes=[(5, "axes", [-(2**63)])]), 5, "out of range"),
    "several axes for one": (lambda: unary("concat", X, [(1, "axis", [0, 1])]), 1, "single number"),
    "no axis": (lambda: unary("concat", X, [(1, "axis", [])]), 1, "single number"),
    "negative extents": (lambda: unary("reshape", X, [(1, "shape", [-2, -3])]), 1, "negative extent"),
    "reshape": (lambda: unary("reshape", X, [(1, "shape", [7])]), 1, "cannot reshape"),
    "huge reshape": (lambda: unary("reshape", X, [(1, "shape", [2**62, 2**62])]), 1, "cannot reshape"),
    "max far out": (lambda: unary("max", X, [(1, "axes", [-100])]), 1, "out of range"),
    "polygamma order": (lambda: unary("polygamma", X, [(1, "order", [2**62])]), 1, "order"),
    "take of floats": (lambda: unary("take", X, [(2, "axis", [0])], Leaf("i", ())), 2, "operand 1 is of kind FLOAT"),
    "slice": (lambda: unary("slice", X, [(1, "start", [0, 0]), (1, "stop", [2, 2**63 - 1]), (1, "step", [1, 1])]), 1, "does not lie in axis 1"),
    "slice ranks": (lambda: unary("slice", X, [(1, "start", [0]), (1, "stop", [2, 3]), (1, "step", [1, 1])]), 1, "one number for each"),
    "pad": (lambda: unary("pad", X, [(1, "start", [2**62, 0]), (1, "step", [1, 1]), (1, "shape", [2, 3])]), 1, "does not fit"),
    "text constant": (
        lambda: table(opcodes=[1, 2, 13, 4, 11, 103], scalars=[], constants=[np.array(["a"])]),
        None,
        "constant 0 has elements of type",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "node", "text"), HOSTILE.values(), ids=HOSTILE)
def test_malformed_columns_are_refused(make: Callable[[], GraphTable], node: int | None, text: str) -> None:
    """A GraphError that says what is wrong and names the node, where there is one."""
    with pytest.raises(sg.GraphError, match=text) as caught:
        from_table(make())
    assert caught.value.node == node


OVER_LIMITS: dict[str, tuple[Callable[[], GraphTable], Limits, str]] = {
    "nodes": (table, Limits(max_nodes=5), "max_nodes"),
    "operands": (table, Limits(max_operands=4), "max_operands"),
    "outputs": (lambda: table(outputs=[("a", 5), ("b", 5)]), Limits(max_outputs=1), "max_outputs"),
    "name of a leaf": (lambda: table(inputs=[Leaf("é" * 200, (2,))]), Limits(), "max_name_bytes"),
    "name of an output": (lambda: table(outputs=[("o" * 257, 5)]), Limits(), "max_name_bytes"),
    "rank of a leaf": (lambda: table(inputs=[Leaf("x", (1,) * 17)]), Limits(), "max_rank"),
    "elements of a leaf": (lambda: table(inputs=[Leaf("x", (2**40, 2**40))]), Limits(), "max_elements"),
    "elements of a node": (lambda: unary("broadcast_to", X, [(1, "shape", [2**40, 2, 3])]), Limits(), "max_elements"),
    "elements by broadcasting": (lambda: unary("add", Leaf("x", (2**14, 1)), [], Leaf("y", (2**14,))), Limits(), "max_elements"),
    "elements of one_hot": (lambda: unary("one_hot", Leaf("x", (), DType.INT), [(1, "extent", [2**63 - 1])]), Limits(), "max_elements"),
    "rank of a node": (lambda: unary("reshape", X, [(1, "shape", [1] * 15 + [2, 3])]), Limits(), "max_rank"),
    "rank of a constant": (
        lambda: table(opcodes=[1, 2, 13, 4, 11, 103], scalars=[], constants=[np.zeros((1,) * 17)]),
        Limits(),
        "max_rank",
    ),
}


@pytest.mark.parametrize(("make", "limits", "name"), OVER_LIMITS.values(), ids=OVER_LIMITS)
def test_limits(make: Callable[[], GraphTable], limits: Limits, name: str) -> None:
    """A LimitError that names the limit, what was asked and what is allowed."""
    with pytest.raises(sg.LimitError) as caught:
        from_table(make(), limits)
    error = caught.value
    assert error.limit == name
    assert error.value is not None
    assert error.allowed is not None
    assert error.value > error.allowed


def test_a_billion_claimed_nodes_are_refused() -> None:
    """Columns that only claim a size cost nothing: opcodes of a broadcast scalar stand in for them."""
    claim = np.broadcast_to(np.uint32(11), 10**9)
    with pytest.raises(sg.LimitError, match="max_nodes"):
        from_table(dataclasses.replace(table(), opcodes=claim))


def test_nan_constants_are_fine() -> None:
    """NaN and infinities may be sent; their bits stay."""
    for value in (math.nan, -math.nan, math.inf, -0.0):
        graph = from_table(table(scalars=[value]))
        assert graph.constants[3].tobytes() == np.float64(value).tobytes()


def test_errors_name_the_source_line() -> None:
    """If the lines of the nodes are known, the error has that of the node at fault."""
    graph = trace({"y": sg.sum(sg.input("x", shape=2) * 2.0)})
    broken = dataclasses.replace(to_table(graph), attributes=[])
    with pytest.raises(sg.GraphError, match="needs the attribute 'axes'") as caught:
        from_table(broken, sources=graph.sources)
    assert caught.value.source == graph.describe(3)
    assert "test_table.py" in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.integers(1, 12), st.data())
def test_mutated_columns_never_break_the_checker(graphs: ModuleType, seed: int, steps: int, data: Any) -> None:
    """Random damage to the columns of a good graph gives a graph or one of our errors, nothing else."""
    columns = to_table(trace({"value": graphs.make(seed, steps).value}))
    name = data.draw(st.sampled_from(["opcodes", "operand_counts", "operands", "attributes", "outputs"]))
    column = list(getattr(columns, name))
    if not column:
        return
    place = data.draw(st.integers(0, len(column) - 1))
    if name == "attributes":
        node, attribute, values = column[place]
        changed = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 5), max_size=5))
        column[place] = data.draw(
            st.sampled_from([(node, attribute, changed), (node + 1, attribute, values), (node, attribute + "x", values)])
        )
    elif name == "outputs":
        column[place] = (column[place][0], data.draw(st.integers(-(2**31), 2**32)))
    else:
        column[place] = data.draw(st.integers(0, 130) | st.integers(0, 2**32 - 1))
    broken = column if isinstance(getattr(columns, name), list) else np.array(column, np.uint32)
    with contextlib.suppress(sg.GraphError, sg.LimitError):
        verify(from_table(dataclasses.replace(columns, **{name: broken})))


def test_empty_shapes_of_huge_extents() -> None:
    """No elements times 2**62 is no array that NumPy can make: the extents are bounded, not just their product."""
    columns = to_table(trace({"y": sg.sum(sg.reshape(sg.input("x", shape=(0,)), (7, 0)))}))
    hostile = [(node, name, [2**62, 0] if name == "shape" else values) for node, name, values in columns.attributes]
    with pytest.raises(sg.LimitError, match="max_elements"):
        from_table(dataclasses.replace(columns, attributes=hostile))
