"""Large graphs: cut into pieces, compiled in a time that grows linearly, rolled where they are dense layers, and left alone where it does not pay."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine import program
from sumgrad_engine.native import Job
from sumgrad_engine.native.lanes import F64
from sumgrad_engine.native.lower import Lowering
from sumgrad_engine.options import Options
from sumgrad_engine.program import GradientProgram, derived, gradient_layout


def tangle(nodes: int, seed: int = 0) -> sg.Objective:
    """Scalars combined at random: no layer to be found."""
    r = random.Random(seed)
    pool: list[Any] = [sg.input("x"), sg.input("y"), *(sg.param(f"p{k}", 0.05 * k) for k in range(20))]
    while len(pool) < nodes:
        a, b, chance = r.choice(pool[-150:]), r.choice(pool[-150:]), r.random()
        pool.append(a * b if chance < 0.25 else a + b if chance < 0.5 else a - b if chance < 0.7 else sg.tanh(a))
    return sg.Objective(sum(pool[-50:], 0.0) * 1e-3)


def data(samples: int = 200) -> dict[str, Any]:
    """Data for it."""
    r = np.random.default_rng(samples)
    return {"x": r.normal(size=samples), "y": r.normal(size=samples)}


@pytest.mark.parametrize("nodes", [300, 3000])
def test_tangles(nodes: int) -> None:
    """Graphs of one piece and of many, compiled with care and quickly, agree with the reference."""
    objective = tangle(nodes)
    found = objective.value_and_grad(objective.params, data(), evaluator="compiled")
    wanted = objective.value_and_grad(objective.params, data(), evaluator="reference")
    assert found.value == pytest.approx(wanted.value, rel=1e-11)
    scale = max(abs(float(g)) for g in wanted.grads.values())
    for name, gradient in wanted.grads.items():
        np.testing.assert_allclose(found.grads[name], gradient, rtol=1e-11, atol=1e-12 * scale)


def test_pieces_are_bounded() -> None:
    """Twice the graph is twice as many pieces of the same size, not longer ones: LLVM's time grows faster than the length of a function."""
    counts = []
    for nodes in (20_000, 40_000):
        graph = tangle(nodes).graph
        lowering = Lowering(*derived(graph, gradient_layout(graph), "loss"), F64)
        lengths = [len(step.cells.cells) for step in lowering.steps.tile]  # type: ignore[attr-defined]
        assert max(lengths) < 4000
        counts.append(len(lengths))
    assert 1.7 < counts[1] / counts[0] < 2.3


def test_huge_graphs_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where compiling does not pay the reference evaluator runs, unless compiled code is asked for."""
    monkeypatch.setattr(program, "COMPILED_NODES", 1000)
    graph = tangle(2000).graph
    assert GradientProgram(graph).evaluator == "reference"
    assert GradientProgram(graph, options=Options("compiled")).evaluator == "compiled"
    assert program.EvaluateProgram(graph).evaluator == "reference"


def scalar_network(sizes: list[int]) -> sg.Objective:
    """A network as micrograd writes it: every weight a parameter, every neuron a sum of scalars."""
    r = np.random.default_rng(0)
    x = sg.input("x", shape=sizes[0])
    values = [x[k] for k in range(sizes[0])]
    for layer, (m, n) in enumerate(itertools.pairwise(sizes)):
        values = [sg.tanh(_neuron(r, f"{layer}.{j}", values, m)) for j in range(n)]
    return sg.Objective(sum((sg.square(v) for v in values), 0.0) + 0.0 * sg.input("y"))


def _neuron(r: np.random.Generator, name: str, values: list[Any], m: int) -> Any:
    weights = [sg.param(f"{name}.w{i}", r.normal() / np.sqrt(m)) for i in range(m)]
    return sum((w * v for w, v in zip(weights, values, strict=True)), sg.param(f"{name}.b", 0.1))


def test_dense_layers_in_scalars() -> None:
    """They become matrix products, and the gradients are those of the scalars, by name."""
    objective = scalar_network([12, 9, 8])
    graph = objective.graph
    r = np.random.default_rng(1)
    arrays = {"x": r.normal(size=(700, 12)), "y": r.normal(size=700)}
    found = objective.value_and_grad(objective.params, arrays, evaluator="compiled")
    wanted = objective.value_and_grad(objective.params, arrays, evaluator="reference")
    assert list(found.grads) == list(wanted.grads)
    for name, gradient in wanted.grads.items():
        assert found.grads[name] == pytest.approx(float(gradient), rel=1e-10, abs=1e-10)
    assert GradientProgram(graph)._packing.graph.node_count < graph.node_count / 4


def test_some_parameters_of_a_rolled_layer() -> None:
    """`wrt` may name any of the scalars that were packed together."""
    objective = scalar_network([12, 9, 8])
    arrays = {"x": np.random.default_rng(1).normal(size=(70, 12)), "y": np.zeros(70)}
    names = ["1.3.w2", "0.0.b", "0.8.w11"]
    found = objective.value_and_grad(objective.params, arrays, wrt=names, evaluator="compiled")
    wanted = objective.value_and_grad(objective.params, arrays, wrt=names, evaluator="reference")
    assert set(found.grads) == set(names)
    for name in names:
        assert found.grads[name] == pytest.approx(float(wanted.grads[name]), rel=1e-10)


def test_a_job_of_no_samples_is_compiled_too() -> None:
    """What depends on parameters alone: one value for every sample."""
    w = sg.param("w", [1.0, 2.0])
    graph = sg.Objective(sg.sum(sg.exp(w))).graph
    lowering = Lowering(*derived(graph, gradient_layout(graph), "loss"), F64)
    assert Job(*derived(graph, gradient_layout(graph), "loss")).rows is False
    assert lowering.inputs == []
    objective = sg.Objective(sg.sum(sg.exp(w)))
    found = objective.value_and_grad({"w": [1.0, 2.0]}, {}, evaluator="compiled")
    assert found.value == pytest.approx(np.exp(1.0) + np.exp(2.0), rel=1e-15)
