"""As in micrograd: numbers that know how they were made, and the derivative of the result with respect to each of them."""

import sumgrad as sg

a, b = sg.Value(-4.0), sg.Value(2.0)
c = a + b
d = a * b + b**3
e = (c - d) ** 2 / (1.0 + sg.exp(-a))

e.backward()
print(f"e = {e.data:.6f}, de/da = {a.grad:.6f}, de/db = {b.grad:.6f}")

# The same on a server: backward() there fills the same fields here. Gradients add up until they are set to 0, so start over.
e.zero_grad()
with sg.local(workers=1) as service:
    service.backward(e)
print(f"e = {e.data:.6f}, de/da = {a.grad:.6f}, de/db = {b.grad:.6f}, by the service")
