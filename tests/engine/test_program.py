"""Objectives and programs: arrays that do not fit, results, means, penalties, metrics, subsets, stopping, backward of a whole graph."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given, settings
from hypothesis import strategies as st
from sumgrad_engine.blocks import block_count
from sumgrad_engine.errors import Cancelled, InputError
from sumgrad_engine.objective import fit_arrays
from sumgrad_engine.options import Options
from sumgrad_engine.program import EvaluateProgram, GradientProgram, backward_all, check_arrays, conform, gradient_layout
from sumgrad_engine.trace import trace, trace_nodes
from sumgrad_engine.types import DType, Leaf

REFERENCE = Options("reference")


def objective(reduction: Any = "sum") -> sg.Objective:
    """Least squares with a penalty, a boolean metric, an integer one and an array."""
    x, y, k, t = sg.input("x", shape=2), sg.input("y"), sg.input("k", dtype=int), sg.input("t", dtype=bool)
    w, b = sg.param("w", [0.5, -1.0]), sg.param("b", 0.25)
    score = x @ w + b
    metrics = {"right": (score * y > 0) & t, "k": k, "x": x, "w": sg.sum(w)}
    return sg.Objective(sg.square(score - y), penalty=0.5 * sg.sum(w * w), metrics=metrics, reduction=reduction)


def data(samples: int = 700) -> dict[str, Any]:
    """Arrays for it."""
    random = np.random.default_rng(samples)
    return {
        "x": random.normal(size=(samples, 2)),
        "y": random.normal(size=samples),
        "k": random.integers(-5, 5, samples),
        "t": random.random(samples) < 0.5,
    }


def test_value_gradients_and_metrics() -> None:
    """The sum over samples, the penalty once, metrics summed and not differentiated."""
    given_data, params = data(), objective().params
    found = objective().value_and_grad(params, given_data)
    w, b = params["w"], params["b"]
    residual = given_data["x"] @ w + b - given_data["y"]
    assert found.value == pytest.approx(np.sum(residual**2) + 0.5 * w @ w, rel=1e-13)
    np.testing.assert_allclose(found.grads["w"], 2 * residual @ given_data["x"] + w, rtol=1e-12)
    np.testing.assert_allclose(found.grads["b"], 2 * residual.sum(), rtol=1e-12)
    right = ((residual + given_data["y"]) * given_data["y"] > 0) & given_data["t"]
    assert found.metrics["right"] == right.sum()
    assert found.metrics["k"] == given_data["k"].sum()
    np.testing.assert_allclose(found.metrics["x"], given_data["x"].sum(axis=0), rtol=1e-12)
    assert found.metrics["w"] == pytest.approx(700 * w.sum())
    assert (found.count, found.evaluator) == (700, "compiled")
    assert all(array.dtype == np.float64 for array in (*found.grads.values(), *found.metrics.values()))
    assert isinstance(found.value, float)


def test_means_divide_all_but_the_penalty() -> None:
    """reduction="mean" divides loss, metrics and gradients by the number of samples; the penalty counts once in both."""
    total, mean = objective().value_and_grad(objective().params, data()), objective("mean").value_and_grad(objective().params, data())
    w = objective().params["w"]
    penalty = 0.5 * w @ w
    assert mean.value - penalty == pytest.approx((total.value - penalty) / 700, rel=1e-12)
    np.testing.assert_allclose(mean.grads["w"] - w, (total.grads["w"] - w) / 700, rtol=1e-12)
    assert mean.metrics["right"] == pytest.approx(total.metrics["right"] / 700)
    assert mean.count == 700


def test_some_parameters_only() -> None:
    """wrt names those that are wanted; the rest of the result is the same; unknown names are refused."""
    whole = objective().value_and_grad(objective().params, data())
    some = objective().value_and_grad(objective().params, data(), wrt=["b"])
    assert list(some.grads) == ["b"]
    assert some.value == whole.value
    assert some.grads["b"].tobytes() == whole.grads["b"].tobytes()
    with pytest.raises(InputError, match="no parameter 'nothing'") as caught:
        objective().value_and_grad(objective().params, data(), wrt=["nothing"])
    assert caught.value.field == "wrt.nothing"


Change = Callable[[dict[str, Any], dict[str, Any]], object]
WRONG: dict[str, tuple[Change, str, str]] = {
    "missing parameter": (lambda p, d: p.pop("w"), "parameters.w", "missing"),
    "missing input": (lambda p, d: d.pop("y"), "inputs.y", "missing"),
    "extra parameter": (lambda p, d: p.update(v=1.0), "parameters.v", "not in the graph"),
    "extra input": (lambda p, d: d.update(z=np.ones(700)), "inputs.z", "not in the graph"),
    "shape of a parameter": (lambda p, d: p.update(w=np.ones(3)), "parameters.w", r"\(3,\)"),
    "scalar for an array": (lambda p, d: p.update(w=1.0), "parameters.w", r"\(\)"),
    "shape of an input": (lambda p, d: d.update(x=np.ones((700, 3))), "inputs.x", r"\(700, 3\)"),
    "no sample axis": (lambda p, d: d.update(x=np.ones(2)), "inputs.x", "shape"),
    "scalar input": (lambda p, d: d.update(y=1.0), "inputs.y", "sample axis"),
    "different counts": (lambda p, d: d.update(y=np.ones(699)), "inputs.", "699 samples"),
    "no samples": (lambda p, d: d.update({name: array[:0] for name, array in d.items()}), "inputs.", "at least one"),
    "floats for integers": (lambda p, d: d.update(k=np.ones(700)), "inputs.k", "integers, not float64"),
    "integers for booleans": (lambda p, d: d.update(t=np.ones(700, int)), "inputs.t", "booleans, not int64"),
    "text": (lambda p, d: d.update(y=np.array(["a"] * 700)), "inputs.y", "must hold floats"),
    "complex numbers": (lambda p, d: p.update(b=1j), "parameters.b", "must hold floats"),
    "objects": (lambda p, d: p.update(b=None), "parameters.b", "must hold floats"),
    "dates": (lambda p, d: d.update(y=np.zeros(700, "datetime64[s]")), "inputs.y", "must hold floats"),
    "ragged lists": (lambda p, d: p.update(w=[[1.0], [1.0, 2.0]]), "parameters.w", "array"),
}


@pytest.mark.parametrize(("change", "field", "text"), WRONG.values(), ids=WRONG)
def test_arrays_that_do_not_fit(change: Change, field: str, text: str) -> None:
    """An InputError that names the field and what is wrong with it."""
    params, arrays = objective().params, data()
    change(params, arrays)
    with pytest.raises(InputError, match=text) as caught:
        objective().value_and_grad(params, arrays)
    assert caught.value.field.startswith(field)


def test_kinds_that_are_widened() -> None:
    """Floats and integers of any width, either byte order and any layout give the bits of their float64 copies."""
    arrays = data()
    rounded = {**arrays, "x": arrays["x"].astype(np.float32), "k": arrays["k"].astype(np.int8)}
    expected = objective().value_and_grad(objective().params, {**rounded, "x": rounded["x"].astype(np.float64)})
    strange = {**rounded, "x": np.asfortranarray(rounded["x"]).astype(">f4"), "t": arrays["t"].tolist(), "k": rounded["k"][::-1][::-1]}
    found = objective().value_and_grad({"w": [0.5, -1], "b": np.float32(0.25)}, strange)
    assert found.value == expected.value
    assert found.grads["w"].tobytes() == expected.grads["w"].tobytes()
    flags = conform(Leaf("x", (2,), DType.FLOAT), strange["x"])
    assert flags.dtype == np.float64
    assert flags.flags.c_contiguous
    assert conform(Leaf("y", ()), 3).shape == ()


def test_check_arrays_counts() -> None:
    """The number of samples, and 1 for a graph without inputs."""
    graph = objective().graph
    assert check_arrays(graph, objective().params, data(3)) == 3
    assert check_arrays(sg.Objective(sg.param("w", 1.0) * 2.0).graph, {"w": np.array(1.0)}, {}) == 1


def test_objectives_that_are_none() -> None:
    """The loss must be a float scalar, the penalty must not see data, the reduction is one of two."""
    x, w = sg.input("x", shape=2), sg.param("w", 1.0)
    with pytest.raises(sg.GraphError, match=r"loss must be a float of shape \(\).*test_program\.py"):
        sg.Objective(x * w)
    with pytest.raises(sg.GraphError, match="not BOOL"):
        sg.Objective(sg.sum(x) > 0)
    with pytest.raises(sg.GraphError, match=r"penalty depends on an input.*test_program\.py"):
        sg.Objective(sg.sum(x), penalty=sg.sum(x) * w)
    with pytest.raises(sg.GraphError, match="reduction"):
        sg.Objective(sg.sum(x), reduction="max")  # type: ignore[arg-type]
    with pytest.raises(sg.GraphError, match='"loss"'):
        gradient_layout(trace({"metric:a": w}))
    with pytest.raises(sg.GraphError, match="'other'"):
        gradient_layout(trace({"loss": w, "other": w}))


def test_params_are_copies() -> None:
    """Changing what `params` gave changes no later answer."""
    made = objective()
    made.params["w"][:] = 9.0
    assert made.params["w"].tolist() == [0.5, -1.0]
    found = made.value_and_grad(made.params, data())
    found.grads["w"][:] = 0.0
    assert made.value_and_grad(made.params, data()).grads["w"].any()


def test_layout() -> None:
    """A partial result is one vector: value, metrics, gradients."""
    graph = objective().graph
    layout = gradient_layout(graph)
    assert layout.metrics == (("right", ()), ("k", ()), ("x", (2,)), ("w", ()))
    assert dict(layout.grads) == {"w": (2,), "b": ()}
    assert layout.width == 1 + 5 + 3
    params, inputs, samples = fit_arrays(graph, objective().params, data())
    program = GradientProgram(graph)
    vector = program.partial(params, inputs, 0, block_count(samples), samples)
    assert vector.shape == (9,)
    assert program.penalty(params).shape == (9,)
    assert program.penalty(params)[1:6].tolist() == [0.0] * 5


def test_stopping() -> None:
    """The reference evaluator looks between blocks whether it shall stop, and raises Cancelled."""
    graph = objective().graph
    params, inputs, samples = fit_arrays(graph, objective().params, data(5000))
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        GradientProgram(graph, options=REFERENCE).partial(params, inputs, 0, block_count(samples), samples, stop)
    assert len(asked) == 4
    asked.clear()
    with pytest.raises(Cancelled):
        EvaluateProgram(graph, REFERENCE).run(params, inputs, 0, samples, stop)
    assert len(asked) == 4


def test_stopping_compiled_code() -> None:
    """Compiled code looks before each call, which does up to 64 blocks."""
    graph = objective().graph
    params, inputs, samples = fit_arrays(graph, objective().params, data(3 * 64 * 512))
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(Cancelled):
        GradientProgram(graph, options=Options("compiled")).partial(params, inputs, 0, block_count(samples), samples, stop)
    assert len(asked) == 3
    asked.clear()
    with pytest.raises(Cancelled):
        EvaluateProgram(graph, Options("compiled")).run(params, inputs, 0, samples, stop)
    assert len(asked) == 3


def test_outputs_for_each_sample() -> None:
    """Shapes and kinds are known before; what does not depend on the sample is repeated; leaves may be outputs."""
    x, k, w = sg.input("x", shape=2), sg.input("k", dtype=int), sg.param("w", [1.0, 2.0])
    program = EvaluateProgram(trace({"score": x @ w, "w": w, "k": k, "pair": sg.stack([x, w]), "positive": x > 0, "two": sg.Value(2.0)}))
    assert program.outputs == {
        "score": ((), np.float64),
        "w": ((2,), np.float64),
        "k": ((), np.int64),
        "pair": ((2, 2), np.float64),
        "positive": ((2,), np.bool_),
        "two": ((), np.float64),
    }
    arrays = {"x": np.random.default_rng(0).normal(size=(600, 2)), "k": np.arange(600)}
    found = program.run({"w": np.array([1.0, 2.0])}, arrays, 0, 600)
    np.testing.assert_allclose(found["score"], arrays["x"] @ [1.0, 2.0], rtol=1e-14)
    np.testing.assert_array_equal(found["w"], np.tile([1.0, 2.0], (600, 1)))
    np.testing.assert_array_equal(found["k"], arrays["k"])
    assert {name: (value.shape[1:], value.dtype) for name, value in found.items()} == program.outputs
    assert all(len(value) == 600 for value in found.values())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 12))
def test_backward_of_a_whole_graph(graphs: ModuleType, seed: int, steps: int) -> None:
    """Data and gradient of every node, as backward() on the Values gives them, to the bit."""
    made = graphs.make(seed, steps)
    copies: dict[int, Any] = {}
    for node in made.value.nodes():
        known = made.params.get(node.name, made.inputs.get(node.name))
        if known is not None:
            array = np.asarray(known)[0] if node.name in made.inputs else np.asarray(known)
            copies[id(node)] = sg.Value(array) if array.dtype.kind != "i" else array
        else:
            copies[id(node)] = node.op(*[copies[id(o)] for o in node.operands], **node.attributes) if node.operands else sg.Value(node.data)
    value = copies[id(made.value)]
    graph, nodes = trace_nodes(value)
    value.backward()
    found, slopes = backward_all(graph)
    assert found.tobytes() == np.concatenate([np.ravel(np.asarray(node.data, np.float64)) for node in nodes]).tobytes()
    expected = np.concatenate([np.ravel(np.broadcast_to(np.asarray(node.grad, np.float64), node.shape)) for node in nodes])
    np.testing.assert_array_equal(slopes, expected)


def test_backward_refuses() -> None:
    """Graphs with symbols, several outputs or an array at the top."""
    with pytest.raises(sg.GraphError, match="'x'"):
        backward_all(trace({"y": sg.input("x") * 2.0}))
    with pytest.raises(sg.GraphError, match="exactly one output"):
        backward_all(trace({"y": sg.Value(2.0), "z": sg.Value(3.0)}))
    with pytest.raises(sg.GraphError, match=r"float of shape \(2,\)"):
        backward_all(trace({"y": sg.Value([1.0, 2.0]) * 2.0}))


def test_a_program_is_made_once() -> None:
    """Repeated calls reuse what was derived; other parameters or debug mode make another."""
    made = objective()
    made.value_and_grad(made.params, data())
    first = dict(made._programs)
    made.value_and_grad(made.params, data(3))
    assert made._programs == first
    made.value_and_grad(made.params, data(3), wrt=["w"])
    assert len(made._programs) == 2


@pytest.mark.parametrize("wrt", ["ww", ["ww"], iter(["ww"]), {"ww"}, np.array(["ww"])])
def test_names_in_any_form(wrt: Any) -> None:
    """A string is one name, an iterator is read once, and what is asked for later does not depend on it."""
    made = sg.Objective(sg.input("x") * sg.param("w", 2.0) * sg.param("ww", 3.0))
    for asked in (wrt, ["ww"]):
        assert made.value_and_grad(made.params, {"x": np.ones(2)}, wrt=asked).grads == {"ww": 4.0}


def test_objectives_pickle() -> None:
    """An objective goes to another process, with its parameters' initial values, and gives the same bits there."""
    made = objective()
    made.value_and_grad(made.params, data())
    again = pickle.loads(pickle.dumps(made))
    first, second = (o.value_and_grad(o.params, data()) for o in (made, again))
    assert first.value == second.value
    assert all(np.array_equal(first.grads[name], second.grads[name]) for name in first.grads)


@pytest.mark.parametrize("initial", ["a", None, [[1.0], [1.0, 2.0]], 1j])
def test_initial_values_are_numbers(initial: Any) -> None:
    """The error names the parameter and the line."""
    with pytest.raises(sg.GraphError, match=r"param 'w'.*test_program\.py:\d+"):
        sg.param("w", initial)


@pytest.mark.parametrize("name", ["", "a" * 300, "\ud800", 3])
def test_names_that_a_service_would_refuse(name: Any) -> None:
    """What works in process works through a service: names are bounded here too."""
    with pytest.raises(sg.GraphError, match="name"):
        sg.input(name)


def test_what_a_block_takes_is_known_before() -> None:
    """An outer product a sample is refused by the limit's name, with op and line, before anything is computed; a smaller block is not."""
    x = sg.input("x", shape=(1000,))
    graph = sg.Objective(sg.sum(x[:, None] * x[None, :] * sg.param("b", 1.0))).graph
    program = GradientProgram(graph, options=REFERENCE)
    program.check_memory(1, "max_bytes", 1 << 30)
    with pytest.raises(sg.LimitError, match=r"made at .*test_program\.py:\d+\) a block of 512 samples takes at least .* max_bytes"):
        program.check_memory(5000, "max_bytes", 1 << 30)
    compiled = GradientProgram(graph, options=Options("compiled"))
    with pytest.raises(sg.LimitError, match=r"takes .* bytes, more than max_bytes = 100,000,000"):
        compiled.check_memory(5000, "max_bytes", 100_000_000)
