"""Differentiation: random expressions against finite differences, and everything that a gradient promises around it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given, settings
from hypothesis import strategies as st
from sumgrad_engine.program import EvaluateProgram
from sumgrad_engine.trace import trace

SEEDS = st.integers(0, 1 << 32)
STEPS = st.integers(1, 14)


def _shifted(params: dict[str, Any], directions: dict[str, Any], step: float) -> dict[str, Any]:
    return {name: value + step * directions[name] for name, value in params.items()}


def _directions(params: dict[str, Any], seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=np.shape(value)) for name, value in params.items()}


def _objective(made: Any) -> sg.Objective:
    """The loss, and all parameters in the penalty too, so that each has a gradient to speak of."""
    leaves = {node.name: node for node in made.pool if node.name in made.params}
    return sg.Objective(made.value, penalty=sum((sg.sum(sg.sin(leaf)) for leaf in leaves.values()), sg.Value(0.0)))


@settings(max_examples=120, deadline=None)
@given(SEEDS, STEPS)
def test_gradients_of_random_expressions(graphs: ModuleType, seed: int, steps: int) -> None:
    """<gradient, direction> is the central difference of the value along the direction."""
    made = graphs.make(seed, steps)
    objective, directions, h = _objective(made), _directions(made.params, seed), 1e-6
    inputs = {name: made.inputs[name] for name in objective.inputs}
    found = objective.value_and_grad(made.params, inputs)
    above = objective.value_and_grad(_shifted(made.params, directions, h), inputs).value
    below = objective.value_and_grad(_shifted(made.params, directions, -h), inputs).value
    slope = sum(float(np.sum(found.grads[name] * directions[name])) for name in directions)
    assert slope == pytest.approx((above - below) / (2 * h), rel=2e-6, abs=2e-7)


@settings(max_examples=60, deadline=None)
@given(SEEDS, STEPS)
def test_summed_gradients_are_sums_of_gradients_of_samples(graphs: ModuleType, seed: int, steps: int) -> None:
    """The gradient that is derived over all samples equals grad for one sample, evaluated and added up."""
    made = graphs.make(seed, steps)
    leaves = {node.name: node for node in made.pool if node.name in made.params and node in set(made.value.nodes())}
    if not leaves:
        return
    slopes = dict(zip(leaves, sg.grad(made.value, list(leaves.values())), strict=True))
    traced = trace({"loss": made.value, **slopes})
    params = {leaf.name: made.params[leaf.name] for leaf in traced.parameters}
    inputs = {leaf.name: made.inputs[leaf.name] for leaf in traced.inputs}
    rows = EvaluateProgram(traced).run(params, inputs, 0, graphs.SAMPLES)
    columns = inputs or {"x": made.inputs["x"]}
    loss = made.value if inputs else made.value + 0.0 * sg.input("x")
    found = sg.Objective(loss).value_and_grad(params, columns)
    assert found.value == pytest.approx(rows["loss"].sum(), rel=1e-11, abs=1e-12)
    for name in slopes:
        np.testing.assert_allclose(found.grads[name], rows[name].sum(axis=0), rtol=1e-9, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(SEEDS, STEPS)
def test_second_derivatives_of_random_expressions(graphs: ModuleType, seed: int, steps: int) -> None:
    """hvp is the central difference of the gradient along the vectors, and <u, H v> = <v, H u>."""
    made = graphs.make(seed, steps)
    nodes = {node.name: node for node in made.value.nodes() if node.name in made.params}
    if not nodes:
        return
    wrt, v, u, h = list(nodes.values()), _directions(made.params, seed), _directions(made.params, seed + 1), 1e-5
    outputs = {f"grad {name}": g for name, g in zip(nodes, sg.grad(made.value, wrt), strict=True)}
    outputs |= {f"v {name}": p for name, p in zip(nodes, sg.hvp(made.value, wrt, [v[name] for name in nodes]), strict=True)}
    outputs |= {f"u {name}": p for name, p in zip(nodes, sg.hvp(made.value, wrt, [u[name] for name in nodes]), strict=True)}
    graph = trace(outputs)
    inputs = {leaf.name: made.inputs[leaf.name] for leaf in graph.inputs}
    program = EvaluateProgram(graph)

    def run(params: dict[str, Any]) -> dict[str, Any]:
        return program.run({leaf.name: params[leaf.name] for leaf in graph.parameters}, inputs, 0, graphs.SAMPLES if inputs else 1)

    at, above, below = run(made.params), run(_shifted(made.params, v, h)), run(_shifted(made.params, v, -h))
    for name in nodes:
        np.testing.assert_allclose(at[f"v {name}"], (above[f"grad {name}"] - below[f"grad {name}"]) / (2 * h), rtol=2e-5, atol=2e-5)
    left = sum(float(np.sum(u[name] * at[f"v {name}"])) for name in nodes)
    right = sum(float(np.sum(v[name] * at[f"u {name}"])) for name in nodes)
    assert left == pytest.approx(right, rel=1e-9, abs=1e-10)


def _eager(made: Any, sample: int) -> tuple[sg.Value, dict[str, sg.Value]]:
    """The same expression of Values that hold one sample's data."""
    data = {**made.params, **{name: array[sample] for name, array in made.inputs.items()}}
    leaves: dict[str, sg.Value] = {}
    copies: dict[int, Any] = {}
    for node in made.value.nodes():
        if node.name in data:
            array = np.asarray(data[node.name])
            copies[id(node)] = leaves[node.name] = sg.Value(array) if array.dtype.kind != "i" else array
        elif not node.operands:
            copies[id(node)] = node.data
        else:
            copies[id(node)] = node.op(*[copies[id(operand)] for operand in node.operands], **node.attributes)
    return copies[id(made.value)], {name: leaf for name, leaf in leaves.items() if isinstance(leaf, sg.Value) and name in made.params}


@settings(max_examples=80, deadline=None)
@given(SEEDS, STEPS)
def test_backward_equals_grad(graphs: ModuleType, seed: int, steps: int) -> None:
    """backward() on Values with data, grad of them, and grad of the symbolic expression agree."""
    made = graphs.make(seed, steps)
    value, leaves = _eager(made, 2)
    if not isinstance(value, sg.Value) or not leaves:
        return
    symbolic = {node.name: node for node in made.value.nodes() if node.name in leaves}
    graph = trace(dict(zip(symbolic, sg.grad(made.value, list(symbolic.values())), strict=True)))
    inputs = {leaf.name: made.inputs[leaf.name][2:3] for leaf in graph.inputs}
    rows = EvaluateProgram(graph).run({leaf.name: made.params[leaf.name] for leaf in graph.parameters}, inputs, 0, 1)
    value.backward()
    for (name, leaf), derived in zip(leaves.items(), sg.grad(value, list(leaves.values())), strict=True):
        np.testing.assert_allclose(leaf.grad, derived.data, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(leaf.grad, rows[name][0], rtol=1e-12, atol=1e-13)


def test_gradient_with_respect_to_any_node() -> None:
    """Intermediate nodes count, each on its own; nodes that play no part give zeros of their shape."""
    x, other = sg.param("x", [1.0, 2.0]), sg.param("other", np.ones((2, 3)))
    square = x * x
    again = x * x
    loss = sg.sum(sg.sin(square) * again)
    values = {"square": np.cos([1.0, 4.0]) * [1.0, 4.0], "again": np.sin([1.0, 4.0]), "loss": 1.0, "other": np.zeros((2, 3))}
    slopes = dict(zip(values, sg.grad(loss, [square, again, loss, other]), strict=True))
    found = EvaluateProgram(trace({**slopes, "all": sg.grad(loss, x)})).run(
        {"x": np.array([1.0, 2.0]), **({"other": np.ones((2, 3))} if "other" in _names(slopes) else {})}, {}, 0, 1
    )
    for name, expected in values.items():
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-15)
    np.testing.assert_allclose(found["all"][0], 2 * np.array([1.0, 2.0]) * (values["square"] + values["again"]), rtol=1e-14)


def _names(outputs: dict[str, sg.Value]) -> set[str]:
    return {leaf.name for leaf in trace(outputs).leaves.values()}


def test_equal_values_are_still_two() -> None:
    """Two Values with the same data, or constants equal to numbers in rules, stay apart in every derivative."""
    a, b = sg.Value(2.0), sg.Value(2.0)
    loss = a * a * b
    assert [g.data for g in sg.grad(loss, [a, b])] == [8.0, 4.0]
    loss.backward()
    assert (a.grad, b.grad) == (8.0, 4.0)
    second = [[g.data for g in row] for row in sg.hessian(loss, [a, b])]
    assert second == [[4.0, 4.0], [4.0, 0.0]]


@pytest.mark.parametrize("point", [0.0, 1.0, 2.0, 0.5, -1.0])
def test_values_that_equal_numbers_of_the_rules(point: float) -> None:
    """Derivatives of every order at points whose bits stand in rules as constants."""
    x = sg.Value(point)
    first = sg.grad(x**3 + 2.0 * x * x, x)
    second = sg.grad(first, x)
    third = sg.grad(second, x)
    fourth = sg.grad(third, x)
    assert [first.data, second.data, third.data, fourth.data] == [3 * point**2 + 4 * point, 6 * point + 4, 6.0, 0.0]


def test_backward_adds_up_until_zeroed() -> None:
    """Twice gives twice, as in micrograd; zero_grad starts afresh; intermediate nodes have gradients."""
    a, b = sg.Value(3.0), sg.Value([1.0, 2.0])
    product = a * b
    loss = sg.sum(product * product)
    loss.backward()
    first = (a.grad, b.grad.copy(), product.grad.copy(), loss.grad)
    assert first[0] == 30.0
    assert first[1].tolist() == [18.0, 36.0]
    assert first[2].tolist() == [6.0, 12.0]
    assert first[3] == 1.0
    loss.backward()
    assert (a.grad, loss.grad) == (60.0, 2.0)
    assert product.grad.tolist() == [12.0, 24.0]
    loss.zero_grad()
    assert (a.grad, b.grad, product.grad, loss.grad) == (0.0, 0.0, 0.0, 0.0)


def test_micrograd_readme() -> None:
    """The expression of micrograd's README."""
    a, b = sg.Value(-4.0), sg.Value(2.0)
    c, d = a + b, a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    assert (g.data, a.grad, b.grad) == pytest.approx((24.70408163265306, 138.83381924198252, 645.5772594752187), rel=1e-15)


def test_what_cannot_be_differentiated() -> None:
    """Arrays and booleans are refused with the line; backward of symbols says what to use."""
    x = sg.param("x", [1.0, 2.0])
    with pytest.raises(sg.DifferentiationError, match=r"test_grad\.py"):
        sg.grad(x * 2.0, x)
    with pytest.raises(sg.DifferentiationError):
        sg.grad(sg.sum(x) > 0, x)
    with pytest.raises(sg.GraphError, match="parameter 'x'"):
        sg.sum(x).backward()
    with pytest.raises(sg.GraphError, match="sum it first"):
        sg.Value([1.0, 2.0]).backward()
    with pytest.raises(sg.GraphError, match="one vector"):
        sg.hvp(sg.sum(x), [x], [])


def test_hessian_of_several_nodes() -> None:
    """Blocks of shape s_i + s_j."""
    random = np.random.default_rng(0)
    a, b = sg.Value(random.normal(size=(2, 2))), sg.Value(random.normal(size=3))
    loss = sg.sum(sg.sin(a)) * sg.sum(b**3)
    blocks = sg.hessian(loss, [a, b])
    assert [[block.shape for block in row] for row in blocks] == [[(2, 2, 2, 2), (2, 2, 3)], [(3, 2, 2), (3, 3)]]
    np.testing.assert_allclose(blocks[0][1].data, np.cos(a.data)[..., None] * 3 * b.data**2)
    np.testing.assert_allclose(blocks[1][1].data, np.diag(6 * b.data) * np.sin(a.data).sum())
    np.testing.assert_allclose(sg.hessian(loss, b).data, blocks[1][1].data)
    np.testing.assert_allclose(sg.hvp(loss, b, np.ones(3)).data, blocks[1][1].data.sum(axis=1))


def test_a_loss_without_inputs_counts_once_a_sample() -> None:
    """The loss is for one sample: what does not depend on the sample is added up as often as there are samples."""
    x, w = sg.input("x"), sg.param("w", 3.0)
    data = {"x": np.arange(700.0)}
    objective = sg.Objective(w * w + 0.0 * x, penalty=w * 10.0)
    found = objective.value_and_grad({"w": 3.0}, data)
    assert (found.value, found.grads["w"]) == (700 * 9.0 + 30.0, 700 * 6.0 + 10.0)
    plain = sg.Objective(w * w, metrics={"x": x})
    found = plain.value_and_grad({"w": 3.0}, data)
    assert (found.value, found.grads["w"], found.metrics["x"]) == (700 * 9.0, 700 * 6.0, data["x"].sum())


def test_embeddings_add_up_through_take() -> None:
    """The gradient of a table is the sum over the samples that used each row, within samples and across blocks."""
    random = np.random.default_rng(4)
    table = sg.param("table", random.normal(size=(5, 2)))
    k, y = sg.input("k", shape=3, dtype=int), sg.input("y", shape=(3, 2))
    objective = sg.Objective(sg.sum(sg.take(table, k, 0) * y))
    indices, weights = random.integers(0, 5, (1300, 3)), random.normal(size=(1300, 3, 2))
    found = objective.value_and_grad(objective.params, {"k": indices, "y": weights})
    expected = np.zeros((5, 2))
    np.add.at(expected, indices.ravel(), weights.reshape(-1, 2))
    np.testing.assert_allclose(found.grads["table"], expected, rtol=1e-11)


def test_parameters_that_are_used_in_every_way() -> None:
    """One parameter in the loss, in a part that no sample changes, and in the penalty; another in nothing."""
    x, w, idle = sg.input("x", shape=2), sg.param("w", [1.0, -2.0]), sg.param("idle", [5.0])
    scale = sg.exp(sg.sum(w * w))
    objective = sg.Objective(x @ w * scale, penalty=3.0 * sg.sum(w), metrics={"idle": sg.sum(idle)})
    data = np.random.default_rng(1).normal(size=(30, 2))
    w0 = np.array([0.3, -0.2])
    found = objective.value_and_grad({"w": w0, "idle": [7.0]}, {"x": data})
    big, total = np.exp(w0 @ w0), data.sum(axis=0)
    np.testing.assert_allclose(found.grads["w"], total * big + (total @ w0) * big * 2 * w0 + 3.0, rtol=1e-13)
    np.testing.assert_array_equal(found.grads["idle"], [0.0])
    assert found.metrics["idle"] == 210.0


def test_derivatives_of_what_is_no_part_are_refused() -> None:
    """An equal node is another node, and a name is no node; a leaf that is not used has derivative 0."""
    x, w = sg.input("x"), sg.param("w", 2.0)
    expression = sg.square(x * w)
    for wrong, said in ((x * w, "not a part"), ("w", "with respect to Values")):
        with pytest.raises(sg.DifferentiationError, match=said):
            sg.grad(expression, [wrong])  # type: ignore[list-item]
    assert sg.grad(expression, sg.param("other", 1.0)).data == 0.0
