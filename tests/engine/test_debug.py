"""Debug mode: the first NaN or infinity is named by op, source line and sample."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.options import Options
from sumgrad_engine.program import EvaluateProgram
from sumgrad_engine.trace import trace


def _line(value: sg.Value) -> str:
    """The place of a Value as errors give it."""
    assert value.place is not None
    return f"{value.place[0]}:{value.place[1]}"


def _fails(objective: sg.Objective, data: dict[str, Any], params: dict[str, Any] | None = None) -> sg.NumericalError:
    with pytest.raises(sg.NumericalError) as caught:
        objective.value_and_grad(params or objective.params, data, debug=True)
    error = caught.value
    assert error.node is not None
    assert pickle.loads(pickle.dumps(error)).context == error.context
    return error


@pytest.mark.parametrize("sample", [0, 5, 511, 512, 1000, 1499])
def test_the_op_the_line_and_the_sample(sample: int) -> None:
    """Also beyond the first block, where the sample's index is that of the whole minibatch."""
    x, w = sg.input("x"), sg.param("w", 1.0)
    trouble = sg.log(x * w)
    objective = sg.Objective(sg.exp(trouble) + 1.0)
    data = np.ones(1500)
    data[sample] = -2.0
    error = _fails(objective, {"x": data})
    assert (error.op, error.sample, error.source) == ("log", sample, _line(trouble))
    assert "NaN" in str(error)
    assert f"sample {sample}" in str(error)
    assert __file__ in str(error)


def test_the_node_where_it_arose_not_those_it_went_through() -> None:
    """An infinity that later becomes NaN is reported as the infinity."""
    x = sg.input("x")
    first = 1.0 / x
    objective = sg.Objective(sg.sin(first * 2.0) * 3.0)
    error = _fails(objective, {"x": np.array([1.0, 0.0])})
    assert (error.op, error.source, error.sample) == ("divide", _line(first), 1)
    assert "infinity" in str(error)


def test_the_earliest_sample_of_the_node() -> None:
    """Several samples at fault: the one with the lowest index."""
    objective = sg.Objective(sg.sqrt(sg.input("x")))
    assert _fails(objective, {"x": np.array([1.0, 4.0, -1.0, 1.0, -2.0])}).sample == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_inputs_and_parameters_that_are_not_finite(bad: float) -> None:
    """They are named themselves, with the sample for an input and none for a parameter."""
    x, w = sg.input("x", shape=2), sg.param("w", [1.0, 1.0])
    objective = sg.Objective(x @ w)
    data = np.ones((600, 2))
    data[555, 1] = bad
    error = _fails(objective, {"x": data})
    assert (error.op, error.sample, error.source) == ("input", 555, _line(x))
    assert "input 'x'" in str(error)
    error = _fails(objective, {"x": np.ones((3, 2))}, {"w": np.array([1.0, bad])})
    assert (error.op, error.sample, error.source) == ("parameter", None, _line(w))


def test_gradient_nodes_have_the_line_of_what_they_differentiate() -> None:
    """The value is fine, its derivative is infinite."""
    x, w = sg.input("x"), sg.param("w", 1.0)
    root = sg.sqrt(x * w)
    error = _fails(sg.Objective(root), {"x": np.array([1.0, 4.0, 0.0])})
    assert (error.source, error.sample) == (_line(root), 2)


def test_what_all_samples_share_has_no_sample() -> None:
    """Trouble in a part that no input reaches, and in the penalty."""
    x, w = sg.input("x"), sg.param("w", -1.0)
    shared = sg.log(w)
    error = _fails(sg.Objective(x * shared), {"x": np.ones(3)})
    assert (error.op, error.sample, error.source) == ("log", None, _line(shared))
    error = _fails(sg.Objective(x * w, penalty=shared), {"x": np.ones(3)})
    assert (error.op, error.sample, error.source) == ("log", None, _line(shared))


def test_overflow_of_the_sum_over_samples() -> None:
    """Finite for each sample, infinite in the sum: no single sample is at fault."""
    error = _fails(sg.Objective(sg.input("x") * 1.0), {"x": np.full(3, 1e308)})
    assert (error.op, error.sample) == ("sum_samples", None)


def test_evaluation_has_a_debug_mode_too() -> None:
    """EvaluateProgram names op, line and sample in the same way."""
    x = sg.input("x", shape=2)
    trouble = sg.reciprocal(x)
    program = EvaluateProgram(trace({"y": trouble}), Options(debug=True))
    data = np.ones((700, 2))
    data[650, 0] = 0.0
    with pytest.raises(sg.NumericalError) as caught:
        program.run({}, {"x": data}, 512, 700)
    assert (caught.value.op, caught.value.sample, caught.value.source) == ("reciprocal", 650, _line(trouble))


QUIET: list[Callable[[Any], Any]] = [sg.log, lambda x: 1.0 / x, lambda x: sg.sqrt(x - 5.0)]


@pytest.mark.parametrize("function", QUIET)
def test_without_debug_nothing_is_raised(function: Callable[[Any], Any]) -> None:
    """IEEE results, and no warnings."""
    found = sg.Objective(function(sg.input("x"))).value_and_grad({}, {"x": np.array([0.0, -1.0])})
    assert not np.isfinite(found.value)


def test_debug_gives_the_same_bits() -> None:
    """Looking changes nothing."""
    x, w = sg.input("x", shape=3), sg.param("w", [0.1, 0.2, 0.3])
    objective = sg.Objective(sg.softplus(x @ w))
    data = {"x": np.random.default_rng(0).normal(size=(1000, 3))}
    plain = objective.value_and_grad(objective.params, data, evaluator="reference")
    watched = objective.value_and_grad(objective.params, data, debug=True)
    assert plain.value == watched.value
    assert plain.grads["w"].tobytes() == watched.grads["w"].tobytes()


def test_a_constant_that_is_nan() -> None:
    """A NaN that was computed before there were samples is a fault too; an infinite constant is meant."""
    x, w = sg.input("x"), sg.param("w", 1.0)
    error = _fails(sg.Objective(x * w * sg.log(sg.Value(-1.0))), {"x": np.ones(3)})
    assert error.source is not None
    masked = sg.Objective(sg.where(x > 0, x * w, -np.inf))
    assert masked.value_and_grad(masked.params, {"x": np.ones(3)}, debug=True).value == 3.0


def test_an_overflow_of_the_sum_over_blocks() -> None:
    """Every block is finite, their sum is not."""
    objective = sg.Objective(sg.input("x") * 3e305 * sg.param("w", 1.0))
    with pytest.raises(sg.NumericalError, match="sum over blocks"):
        objective.value_and_grad(objective.params, {"x": np.ones(1024)}, debug=True)
    assert objective.value_and_grad(objective.params, {"x": np.ones(1024)}).value == np.inf


def test_an_overflow_of_the_sum_in_a_block_has_the_line_of_the_loss() -> None:
    """The sum is no node of the user's, so the loss stands for it."""
    loss = sg.input("x") * 1e308 * sg.param("w", 1.0)
    error = _fails(sg.Objective(loss), {"x": np.ones(10)})
    assert (error.op, error.source) == ("sum_samples", _line(loss))
