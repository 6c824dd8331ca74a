"""Logistic regression with an L2 penalty: the sum over samples is the service's, the optimiser is SciPy's."""

import numpy as np
import sumgrad as sg
from scipy.optimize import minimize

generator = np.random.default_rng(0)
points = generator.normal(size=(20_000, 2))
labels = np.where(points @ [1.5, -0.7] + 0.3 + generator.logistic(size=20_000) > 0.0, 1.0, -1.0)

X, y = sg.input("x", shape=(2,)), sg.input("y")
w, b = sg.param("w", np.zeros(2)), sg.param("b", 0.0)
score = X @ w + b
objective = sg.Objective(sg.softplus(-y * score), penalty=1e-3 * sg.sum(w * w), metrics={"correct": score * y > 0.0})

with sg.local(workers=2) as service:
    data = {"x": points, "y": labels}
    fun, x0, unflatten = sg.adapters.scipy_objective(service, objective, data)
    found = minimize(fun, x0, jac=True)
    params = unflatten(found.x)
    result = service.value_and_grad(objective, params, data)

print(f"w = {params['w'].round(3)}, b = {float(params['b']):.3f} after {found.nfev} evaluations")
print(f"loss {result.value:.3f}, {result.metrics['correct'] / result.count:.1%} of {result.count:,} samples on the right side")
