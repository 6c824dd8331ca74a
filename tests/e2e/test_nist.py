"""NIST's nonlinear regression sets, fitted through the service from their second starting points."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from pathlib import Path

import numpy as np
import pytest
import sumgrad as sg
from scipy import optimize
from sumgrad.demo.nist import agreeing_digits, read

DATA = Path(__file__).parents[1] / "data" / "nist"
Values = dict[str, sg.Value]


def gauss(x: sg.Value, centre: sg.Value, width: sg.Value) -> sg.Value:
    """A bell of height 1."""
    return sg.exp(-((x - centre) ** 2) / width**2)


# The models as the files print them: parameters and predictors to the expected response.
MODELS: dict[str, Callable[[Values, Values], sg.Value]] = {
    "Chwirut2": lambda b, x: sg.exp(-b["b1"] * x["x"]) / (b["b2"] + b["b3"] * x["x"]),
    "DanWood": lambda b, x: b["b1"] * x["x"] ** b["b2"],
    "Gauss1": lambda b, x: (
        b["b1"] * sg.exp(-b["b2"] * x["x"]) + b["b3"] * gauss(x["x"], b["b4"], b["b5"]) + b["b6"] * gauss(x["x"], b["b7"], b["b8"])
    ),
    "Kirby2": lambda b, x: (b["b1"] + b["b2"] * x["x"] + b["b3"] * x["x"] ** 2) / (1.0 + b["b4"] * x["x"] + b["b5"] * x["x"] ** 2),
    "Lanczos3": lambda b, x: (
        b["b1"] * sg.exp(-b["b2"] * x["x"]) + b["b3"] * sg.exp(-b["b4"] * x["x"]) + b["b5"] * sg.exp(-b["b6"] * x["x"])
    ),
    "Misra1a": lambda b, x: b["b1"] * (1.0 - sg.exp(-b["b2"] * x["x"])),
    "Nelson": lambda b, x: b["b1"] - b["b2"] * x["x1"] * sg.exp(-b["b3"] * x["x2"]),
    "Rat42": lambda b, x: b["b1"] / (1.0 + sg.exp(b["b2"] - b["b3"] * x["x"])),
    "Roszman1": lambda b, x: b["b1"] - b["b2"] * x["x"] - sg.atan(b["b3"] / (x["x"] - b["b4"])) / pi,
}


def test_every_set_has_a_model() -> None:
    """The sets that are here are the models that are fitted."""
    assert {path.stem for path in DATA.glob("*.dat")} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_certified_parameters(service: sg.Service, name: str) -> None:
    """Each parameter agrees with the certified one to at least 6 digits, and the residual sum of squares to 8."""
    known = read(DATA / f"{name}.dat")
    b = {parameter: sg.param(parameter, start) for parameter, start in known.starts[1].items()}
    inputs = {column: sg.input(column) for column in known.columns}
    response = sg.log(inputs["y"]) if name == "Nelson" else inputs["y"]
    problem = sg.adapters.least_squares(service, response - MODELS[name](b, inputs), known.columns)
    found = optimize.least_squares(
        problem.fun, problem.x0, jac=problem.jac, x_scale="jac", method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000
    )
    params = problem.unflatten(found.x)
    digits = {parameter: agreeing_digits(float(params[parameter]), certified) for parameter, certified in known.parameters.items()}
    assert min(digits.values()) >= 6.0, digits
    assert agreeing_digits(float(np.sum(problem.fun(found.x) ** 2)), known.residual_sum_of_squares) >= 8.0


def test_objective_has_the_certified_sum_of_squares(service: sg.Service) -> None:
    """The summed squares of Misra1a at the certified parameters are the certified ones, and the gradient is all but zero."""
    known = read(DATA / "Misra1a.dat")
    x, y = sg.input("x"), sg.input("y")
    b = {name: sg.param(name, value) for name, value in known.parameters.items()}
    objective = sg.Objective((y - MODELS["Misra1a"](b, {"x": x})) ** 2)
    result = service.value_and_grad(objective, known.parameters, known.columns)
    assert agreeing_digits(result.value, known.residual_sum_of_squares) >= 10.0
    assert abs(result.grads["b1"]) < 1e-7


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("start", [0, 1])
def test_compiled_is_the_reference_to_twelve_digits(name: str, start: int) -> None:
    """Sum of squares and gradient agree to 1e-12 at both of NIST's starting points, NaN and infinities included."""
    known = read(DATA / f"{name}.dat")
    b = {parameter: sg.param(parameter, value) for parameter, value in known.starts[start].items()}
    inputs = {column: sg.input(column) for column in known.columns}
    response = sg.log(inputs["y"]) if name == "Nelson" else inputs["y"]
    objective = sg.Objective((response - MODELS[name](b, inputs)) ** 2)
    compiled, reference = (objective.value_and_grad(objective.params, known.columns, evaluator=e) for e in ("compiled", "reference"))
    assert compiled.value == pytest.approx(reference.value, rel=1e-12, nan_ok=True)
    for parameter, gradient in reference.grads.items():
        np.testing.assert_allclose(compiled.grads[parameter], gradient, rtol=1e-12)
