"""Second derivatives: the Hessian of a log-likelihood, summed over the data, and the standard errors that follow from it."""

import numpy as np
import sumgrad as sg

generator = np.random.default_rng(1)
count = generator.poisson(np.exp(0.5 + 0.8 * (covariate := generator.normal(size=5000))))

x, n = sg.input("x"), sg.input("n")
w = sg.param("w", np.zeros(2))
rate = w[0] + w[1] * x
loss = sg.exp(rate) - n * rate  # Poisson regression: minus the log-likelihood, up to a constant
data = {"x": covariate, "n": count}

with sg.local(workers=2) as service:
    params = {"w": np.zeros(2)}
    outputs = {"gradient": sg.grad(loss, w), "hessian": sg.hessian(loss, w)}
    for step in range(10):
        sample = service.evaluate(outputs, params, data)
        gradient, hessian = sample["gradient"].sum(axis=0), sample["hessian"].sum(axis=0)
        params = {"w": params["w"] - np.linalg.solve(hessian, gradient)}
        print(f"Newton step {step + 1}: w = {params['w'].round(6)}, |gradient| = {np.linalg.norm(gradient):.1e}")

print(f"standard errors {np.sqrt(np.diag(np.linalg.inv(hessian))).round(4)}; the data were made with w = [0.5 0.8]")
