"""Optimisers against their formulae, worked out step by step in plain Python."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sumgrad.optim import SGD, Adam, AdamW, Optimizer

GRADS = [0.5, -0.25, 1.0]


def run(optimizer: Optimizer, start: float = 2.0) -> list[float]:
    """The parameter after each of three steps with the gradients above."""
    params = {"w": np.array(start)}
    found = []
    for grad in GRADS:
        params = optimizer.step(params, {"w": np.array(grad)})
        found.append(float(params["w"]))
    return found


def test_sgd() -> None:
    """Plain descent subtracts rate times gradient."""
    assert run(SGD(0.1)) == pytest.approx([1.95, 1.975, 1.875], rel=1e-15)


def test_sgd_with_weight_decay() -> None:
    """Weight decay adds weight_decay * p to the gradient."""
    p, expected = 2.0, []
    for g in GRADS:
        p = p - 0.1 * (g + 0.01 * p)
        expected.append(p)
    assert run(SGD(0.1, weight_decay=0.01)) == pytest.approx(expected, rel=1e-15)


def test_sgd_with_momentum() -> None:
    """Velocities are 0.5, 0.9 * 0.5 - 0.25 = 0.2 and 0.9 * 0.2 + 1 = 1.18."""
    assert run(SGD(0.1, momentum=0.9)) == pytest.approx([1.95, 1.93, 1.812], rel=1e-15)


def test_sgd_with_nesterov() -> None:
    """Steps are g + m v: 0.95, -0.25 + 0.18 = -0.07 and 1 + 0.9 * 1.18 = 2.062."""
    assert run(SGD(0.1, momentum=0.9, nesterov=True)) == pytest.approx([1.905, 1.912, 1.7058], rel=1e-15)


def adam_by_hand(weight_decay: float, decoupled: bool) -> list[float]:
    """Algorithm 1 of Kingma and Ba, and algorithm 2 of Loshchilov and Hutter."""
    p, m, v, found = 2.0, 0.0, 0.0, []
    for t, grad in enumerate(GRADS, 1):
        decay = 0.1 * weight_decay * p if decoupled else 0.0
        g = grad if decoupled else grad + weight_decay * p
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        p = p - decay - 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        found.append(p)
    return found


def test_adam() -> None:
    """Adam follows its paper; its first step is the rate, whatever the gradient's size."""
    found = run(Adam(0.1))
    assert found == pytest.approx(adam_by_hand(0.0, decoupled=False), rel=1e-14)
    assert found[0] == pytest.approx(1.9, rel=1e-8)


def test_adam_with_weight_decay() -> None:
    """Adam's decay goes into the gradient."""
    assert run(Adam(0.1, weight_decay=0.01)) == pytest.approx(adam_by_hand(0.01, decoupled=False), rel=1e-14)


def test_adamw() -> None:
    """AdamW's decay stands beside the step."""
    assert run(AdamW(0.1, weight_decay=0.01)) == pytest.approx(adam_by_hand(0.01, decoupled=True), rel=1e-14)


def test_schedule_sees_the_step_number() -> None:
    """A learning rate may be a function of the step, counted from 0."""
    assert run(SGD(lambda step: [0.1, 0.2, 0.4][step])) == pytest.approx([1.95, 2.0, 1.6])


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(), AdamW()], ids=["sgd", "adam", "adamw"])
def test_nothing_is_changed_in_place(optimizer: Optimizer) -> None:
    """A step leaves the arrays that it was given alone."""
    params, grads = {"w": np.ones((2, 3))}, {"w": np.full((2, 3), 0.5)}
    stepped = optimizer.step(params, grads)
    assert stepped["w"].shape == (2, 3)
    assert (params["w"] == 1.0).all()
    assert (grads["w"] == 0.5).all()
    assert (stepped["w"] < 1.0).all()


def test_state_is_kept_by_name() -> None:
    """Two parameters with the same gradients move alike, each with its own moments."""
    optimizer = Adam(0.1)
    params: dict[str, np.ndarray] = {"a": np.array(1.0), "b": np.array(1.0)}
    for grad in GRADS:
        params = dict(optimizer.step(params, {"a": np.array(grad), "b": np.array(grad)}))
    assert params["a"] == params["b"]


def test_parameter_without_gradient_stays() -> None:
    """What was not differentiated is passed on."""
    assert SGD(0.1).step({"w": 1.0, "fixed": 3.0}, {"w": 1.0})["fixed"] == 3.0


def test_gradient_without_parameter_is_an_error() -> None:
    """A gradient of something unknown is named."""
    with pytest.raises(KeyError, match="extra"):
        SGD(0.1).step({"w": 1.0}, {"w": 1.0, "extra": 1.0})


def test_gradient_of_another_shape_is_an_error() -> None:
    """A gradient that would broadcast silently is refused, by name."""
    with pytest.raises(ValueError, match="'w' has shape \\(3,\\)"):
        SGD(0.1).step({"w": np.ones(1)}, {"w": np.ones(3)})


def test_impossible_settings_are_errors() -> None:
    """Settings that no optimiser has are refused when it is made."""
    with pytest.raises(ValueError, match="nesterov"):
        SGD(0.1, nesterov=True)
    with pytest.raises(ValueError, match="betas"):
        Adam(betas=(1.0, 0.9))
    with pytest.raises(ValueError, match=r"momentum must be at least 0 and finite, not -0\.5"):
        SGD(0.1, momentum=-0.5)
    with pytest.raises(ValueError, match="epsilon"):
        Adam(epsilon=-1.0)
    for kind in (SGD, Adam, AdamW):
        with pytest.raises(ValueError, match="weight_decay"):
            kind(0.1, weight_decay=float("nan"))


@pytest.mark.parametrize("make", [lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.1), lambda: AdamW(0.1)])
def test_many_scalars_are_stepped_together(make: Any) -> None:
    """A hundred scalars move as the elements of one array do, beside an array and a scalar without a gradient; the order of names stays."""
    random = np.random.default_rng(0)
    values, slopes = random.normal(size=100), random.normal(size=(3, 100))
    together, apart = make(), make()
    params: dict[str, Any] = {"still": 5.0, **{f"p{k}": value for k, value in enumerate(values)}, "array": values}
    array = {"array": values}
    for slope in slopes:
        params = together.step(params, {**{f"p{k}": g for k, g in enumerate(slope)}, "array": slope})
        array = apart.step(array, {"array": slope})
    assert list(params) == ["still", *(f"p{k}" for k in range(100)), "array"]
    assert params["still"] == 5.0
    np.testing.assert_array_equal([params[f"p{k}"] for k in range(100)], array["array"])
    np.testing.assert_array_equal(params["array"], array["array"])


def test_scalars_that_lose_their_gradients() -> None:
    """The state of scalars that are stepped together can't be taken apart."""
    optimizer = SGD(0.1, momentum=0.9)
    params = {f"p{k}": 1.0 for k in range(80)}
    params = optimizer.step(params, dict.fromkeys(params, 1.0))
    with pytest.raises(ValueError, match="p7"):
        optimizer.step(params, {name: 1.0 for name in params if name != "p7"})
