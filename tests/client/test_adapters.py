"""The bridges to SciPy, in this process."""

from __future__ import annotations

import numpy as np
import pytest
import sumgrad as sg
from scipy import optimize
from sumgrad.adapters import Layout

X = np.linspace(0.0, 1.0, 20)


def test_layout_round_trips() -> None:
    """Parameters become one vector, in order and row by row, and come back."""
    params = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(7.0), "c": np.array([8.0])}
    layout = Layout(params)
    assert layout.flatten(params).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0]
    again = layout.unflatten(layout.flatten(params))
    assert {name: value.tolist() for name, value in again.items()} == {name: value.tolist() for name, value in params.items()}


def test_layout_checks_shapes() -> None:
    """Vectors and parameters that don't fit are refused."""
    layout = Layout({"a": np.zeros(2), "b": 0.0})
    with pytest.raises(ValueError, match=r"needs \(3,\)"):
        layout.unflatten(np.zeros(4))
    with pytest.raises(ValueError, match="'a' has shape"):
        layout.flatten({"a": np.zeros(3), "b": 0.0})


def test_scipy_objective_is_minimised() -> None:
    """SciPy's minimize finds the least-squares line that lstsq gives."""
    y = 2.0 * X - 1.0 + np.cos(9.0 * X)
    error = sg.input("x", shape=(2,)) @ sg.param("w", np.zeros(2)) - sg.input("y")
    design = np.column_stack([X, np.ones_like(X)])
    fun, x0, unflatten = sg.adapters.scipy_objective(None, sg.Objective(error * error), {"x": design, "y": y})
    found = optimize.minimize(fun, x0, jac=True, options={"gtol": 1e-10})
    np.testing.assert_allclose(unflatten(found.x)["w"], np.linalg.lstsq(design, y)[0], rtol=1e-7)


def test_gradient_matches_finite_differences() -> None:
    """The vector function's gradient is that of its value."""
    w, b = sg.param("w", np.array([0.3, -0.2])), sg.param("b", 0.1)
    objective = sg.Objective(sg.softplus(sg.input("x", shape=(2,)) @ w + b))
    fun, x0, _ = sg.adapters.scipy_objective(None, objective, {"x": np.column_stack([X, X**2])})
    value, gradient = fun(x0)
    steps = 1e-6 * np.eye(x0.size)
    differences = [(fun(x0 + step)[0] - fun(x0 - step)[0]) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient, differences, rtol=1e-7)
    assert value == pytest.approx(np.sum(np.log1p(np.exp(0.3 * X - 0.2 * X**2 + 0.1))))


def problem() -> sg.adapters.LeastSquares:
    """The model y = b1 exp(-b2 x) with b1 = 2 and b2 = 0.7, from 1 and 1."""
    x, y = sg.input("x"), sg.input("y")
    residual = y - sg.param("b1", 1.0) * sg.exp(-sg.param("b2", 1.0) * x)
    return sg.adapters.least_squares(None, residual, {"x": X, "y": 2.0 * np.exp(-0.7 * X)})


def test_residuals_and_jacobian() -> None:
    """Residuals have one row a sample, the Jacobian one column an element."""
    p = problem()
    e = np.exp(-X)
    np.testing.assert_allclose(p.fun(p.x0), 2.0 * np.exp(-0.7 * X) - e, rtol=0.0, atol=1e-15)
    np.testing.assert_allclose(p.jac(p.x0), np.column_stack([-e, X * e]), rtol=1e-15)


def test_least_squares_finds_the_parameters() -> None:
    """SciPy's least_squares gets to the parameters that made the data."""
    p = problem()
    found = optimize.least_squares(p.fun, p.x0, jac=p.jac)
    params = p.unflatten(found.x)
    assert params["b1"] == pytest.approx(2.0, rel=1e-8)
    assert params["b2"] == pytest.approx(0.7, rel=1e-8)


def test_array_parameters_fill_several_columns() -> None:
    """A parameter of shape (2, 2) has four columns, in row-major order."""
    w = sg.param("w", np.ones((2, 2)))
    residual = sg.sum(w * sg.input("x", shape=(2, 2)))
    data = np.arange(12.0).reshape(3, 2, 2)
    p = sg.adapters.least_squares(None, residual, {"x": data})
    assert p.jac(p.x0).tolist() == data.reshape(3, 4).tolist()


def test_what_is_no_residual() -> None:
    """A residual that is an array, or that lacks a parameter, is an error."""
    with pytest.raises(sg.ShapeError, match=r"not of shape \(2,\)"):
        sg.adapters.least_squares(None, sg.param("w", np.ones(2)) * sg.input("x"), {"x": X})
    with pytest.raises(sg.InputError, match="no parameter 'v'"):
        sg.adapters.least_squares(None, sg.param("w", 1.0) * sg.input("x"), {"x": X}, {"v": 1.0})
