"""Part 4 of the demonstration: a fit whose digits NIST has certified."""

from __future__ import annotations

import numpy as np
from sumgrad_engine.errors import MissingDependencyError

import sumgrad as sg
from sumgrad.connection import Service

from .nist import Certified, agreeing_digits, misra1a


def fit_misra1a(service: Service) -> list[dict[str, float]]:
    """Fits Misra1a through the service from both of NIST's starting points; the parameters found from each."""
    known = misra1a()
    return [_fit_from(service, known, number, start) for number, start in enumerate(known.starts, 1)]


def _fit_from(service: Service, known: Certified, number: int, start: dict[str, float]) -> dict[str, float]:
    try:
        from scipy import optimize
    except ImportError:
        raise MissingDependencyError('this part of the demo needs SciPy: pip install "sumgrad[demo]"') from None
    x, y = sg.input("x"), sg.input("y")
    b1, b2 = sg.param("b1", start["b1"]), sg.param("b2", start["b2"])
    problem = sg.adapters.least_squares(service, y - b1 * (1.0 - sg.exp(-b2 * x)), known.columns)
    found = optimize.least_squares(problem.fun, problem.x0, jac=problem.jac, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    place = found.x
    # For the last digits: where the sum of squares can't tell better from worse any more, its derivative still can (Gauss and Newton's step).
    for _ in range(2):
        place = place - np.linalg.lstsq(problem.jac(place), problem.fun(place))[0]
    params = {name: float(value) for name, value in problem.unflatten(place).items()}
    print(f"    start {number}: b1 = {start['b1']:g}, b2 = {start['b2']:g} ({found.nfev + 2} evaluations)")
    for name, certified in known.parameters.items():
        digits = agreeing_digits(params[name], certified)
        print(f"      {name}  ours {params[name]:.10E}   certified {certified:.10E}   {digits:.1f} digits agree")
    return params
