"""`where`: what is not chosen stays out of values and gradients, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg

DATA = np.array([-1.0, 0.0, 2.0, 4.0])
GOOD = DATA > 0.5

GUARDED: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    ("log", sg.log, lambda x: 1 / x),
    ("sqrt", sg.sqrt, lambda x: 0.5 / np.sqrt(x)),
    ("reciprocal", lambda x: 1.0 / x, lambda x: -1 / x**2),
    ("division", lambda x: sg.exp(x) / x, lambda x: np.exp(x) * (x - 1) / x**2),
    ("pow", lambda x: x**-1.5, lambda x: -1.5 * x**-2.5),
    ("log of a product", lambda x: sg.log(x * 3.0) * x, lambda x: np.log(3 * x) + 1),
    ("nested sqrt", lambda x: sg.sqrt(sg.sqrt(x)), lambda x: 0.25 * x**-0.75),
    ("acosh", sg.acosh, lambda x: 1 / np.sqrt(x * x - 1)),
    ("lgamma", sg.lgamma, None),
    ("overflow", lambda x: sg.exp(1e3 * (2.0 - x)) * 0.0 + x, np.ones_like),
    ("hypot", lambda x: sg.hypot(sg.log(x), 1.0), lambda x: np.log(x) / np.sqrt(np.log(x) ** 2 + 1) / x),
    ("sum inside", lambda x: x + sg.log(x) + sg.sqrt(x), lambda x: 1 + 1 / x + 0.5 / np.sqrt(x)),
]  # type: ignore[list-item]


@pytest.mark.parametrize(("function", "slope"), [row[1:] for row in GUARDED], ids=[row[0] for row in GUARDED])
def test_elementwise_functions_do_not_leak(function: Any, slope: Any) -> None:
    """The gradient of where(x > 0.5, f(x), 0) is 0 where f is not defined; second derivatives are finite too."""
    x = sg.Value(DATA)
    loss = sg.sum(sg.where(x > 0.5, function(x), 0.0))
    loss.backward()
    symbolic = sg.grad(loss, x)
    np.testing.assert_allclose(symbolic.data, x.grad, rtol=1e-14)
    assert np.isfinite(sg.hvp(loss, x, np.ones(4)).data).all()
    if slope is not None:
        expected = np.zeros(4)
        expected[GOOD] = slope(DATA[GOOD])
        np.testing.assert_allclose(x.grad, expected, rtol=1e-12)


@pytest.mark.parametrize("function", [row[1] for row in GUARDED], ids=[row[0] for row in GUARDED])
def test_sums_over_samples_do_not_leak(function: Any) -> None:
    """The summed gradient of a parameter is that of the samples that were chosen."""
    x, w = sg.input("x"), sg.param("w", 0.0)
    objective = sg.Objective(sg.where(x > 0.5, function(x + w), 0.0))
    found = objective.value_and_grad({"w": 0.0}, {"x": DATA})
    expected = objective.value_and_grad({"w": 0.0}, {"x": DATA[GOOD]})
    assert found.value == pytest.approx(expected.value, rel=1e-14)
    assert found.grads["w"] == pytest.approx(expected.grads["w"], rel=1e-14)
    assert np.isfinite(found.grads["w"])


def test_nested_where() -> None:
    """A where inside the unused branch of a where, and the other way round."""
    x = sg.Value(DATA)
    inner = sg.where(x > 3.0, sg.log(x - 3.0), 1.0 / x)
    loss = sg.sum(sg.where(x > 0.5, inner * sg.sqrt(x), x))
    loss.backward()
    expected = [1.0, 1.0, -0.5 * 2.0**-1.5, 2.0]
    np.testing.assert_allclose(x.grad, expected, rtol=1e-14)
    np.testing.assert_allclose(sg.grad(loss, x).data, expected, rtol=1e-14)


def test_reductions_inside_a_branch() -> None:
    """sum, mean, max and logsumexp over entries that are masked out before."""
    data = np.array([[1.0, np.nan, 2.0], [np.inf, 3.0, -np.inf]])
    mask = np.isfinite(data)
    for function in (sg.sum, sg.mean, sg.max):
        x = sg.Value(data)
        loss = sg.sum(function(sg.where(mask, x * x, 0.0), axis=1))
        loss.backward()
        assert np.isfinite(x.grad).all()
        assert (x.grad[~mask] == 0).all()
        np.testing.assert_allclose(sg.grad(loss, x).data, x.grad)
    x = sg.Value(data)
    loss = sg.sum(sg.logsumexp(sg.where(mask, x * x, -np.inf), axis=1))
    loss.backward()
    np.testing.assert_allclose(x.grad, [[2 * np.exp(1) / (np.exp(1) + np.exp(4)), 0, 4 * np.exp(4) / (np.exp(1) + np.exp(4))], [0, 6, 0]])
    np.testing.assert_allclose(sg.grad(loss, x).data, x.grad)


def test_a_branch_that_is_a_reduction() -> None:
    """where over the results of logsumexp and max of rows that are not finite."""
    data = np.array([[1.0, 2.0], [np.inf, np.nan], [-np.inf, -np.inf]])
    for function in (sg.logsumexp, sg.max, sg.sum):
        x = sg.Value(data)
        loss = sg.sum(sg.where(np.array([True, False, False]), function(x, axis=1), 0.0))
        loss.backward()
        np.testing.assert_allclose(x.grad[1:], 0.0)
        np.testing.assert_allclose(sg.grad(loss, x).data, x.grad)
        assert x.grad[0].sum() == pytest.approx(2.0 if function is sg.sum else 1.0)


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_rows_padded_with_nan(fill: float) -> None:
    """Matrix products with rows of padding, masked afterwards: as if the padding were not there."""
    random = np.random.default_rng(0)
    x, count = sg.input("x", shape=(4, 3)), sg.input("count", dtype=int)
    w, v = sg.param("w", random.normal(size=(3, 2))), sg.param("v", random.normal(size=2))
    score = sg.tanh(x @ w) @ v
    used = np.arange(4) < count * 1.0
    objective = sg.Objective(sg.sum(sg.where(used, sg.square(score), 0.0)))
    data, counts = random.normal(size=(5, 4, 3)), np.array([4, 2, 0, 1, 3])
    padded, zeroed = data.copy(), data.copy()
    for row, used_rows in enumerate(counts):
        padded[row, used_rows:], zeroed[row, used_rows:] = fill, 0.0
    found = objective.value_and_grad(objective.params, {"x": padded, "count": counts})
    expected = objective.value_and_grad(objective.params, {"x": zeroed, "count": counts})
    assert found.value == expected.value
    for name in ("w", "v"):
        np.testing.assert_array_equal(found.grads[name], expected.grads[name])


def test_a_nan_that_is_chosen_is_not_hidden() -> None:
    """Guards do not turn real trouble into zeros."""
    x = sg.Value(np.array([-1.0, 4.0]))
    loss = sg.sum(sg.where(np.array([True, True]), sg.sqrt(x), 0.0))
    loss.backward()
    assert np.isnan(x.grad[0])
    assert x.grad[1] == 0.25


def test_take_inside_a_branch() -> None:
    """Embeddings of samples that are masked out do not touch the table."""
    table, k, known = sg.param("table", np.array([[1.0, -2.0], [0.5, 3.0]])), sg.input("k", dtype=int), sg.input("known", dtype=bool)
    objective = sg.Objective(sg.sum(sg.where(known, sg.sqrt(sg.take(table, k, 0)), 0.0)))
    found = objective.value_and_grad(
        {"table": np.array([[1.0, 4.0], [-1.0, -1.0]])}, {"k": np.array([0, 1]), "known": np.array([True, False])}
    )
    np.testing.assert_array_equal(found.grads["table"], [[0.5, 0.25], [0.0, 0.0]])
