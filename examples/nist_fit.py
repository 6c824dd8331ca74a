"""A nonlinear least-squares fit whose answer NIST has certified to 11 digits: y = b1 (1 - exp(-b2 x))."""

import sumgrad as sg
from scipy.optimize import least_squares
from sumgrad.demo.nist import misra1a

known = misra1a()
x, y = sg.input("x"), sg.input("y")
b1, b2 = sg.param("b1", 250.0), sg.param("b2", 0.0005)
residual = y - b1 * (1.0 - sg.exp(-b2 * x))

with sg.local(workers=2) as service:
    problem = sg.adapters.least_squares(service, residual, known.columns)
    found = least_squares(problem.fun, problem.x0, jac=problem.jac, method="lm", xtol=1e-15, ftol=1e-15, gtol=1e-15)

for name, value in problem.unflatten(found.x).items():
    print(f"{name} = {float(value):.10E}, certified {known.parameters[name]:.10E}")
