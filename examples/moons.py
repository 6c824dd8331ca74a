"""A small network told two moons apart: modules, a loss, an optimiser and a training loop with minibatches."""

import sumgrad as sg
from sumgrad.datasets import make_moons

points, labels = make_moons(2000, noise=0.15, seed=3)
net = sg.nn.MLP(2, [16, 16, 1], activation="tanh", seed=0)
logit, label = net(sg.input("x", shape=(2,)))[0], sg.input("y")
objective = sg.Objective(
    sg.nn.binary_cross_entropy(logit, label),
    metrics={"accuracy": sg.equal(logit > 0.0, label > 0.5)},
    reduction="mean",
)

with sg.local(workers=2) as service:
    trained = sg.fit(service, objective, {"x": points, "y": labels}, sg.optim.AdamW(0.01), batch_size=200, epochs=30)
    corner = service.evaluate({"probability": sg.sigmoid(logit)}, trained.params, {"x": [[-1.0, 1.0], [2.0, -0.5]]})

print(f"accuracy {float(trained.history[-1].metrics['accuracy']):.1%}, loss {trained.value:.4f}")
print(f"probability of class 1 at (-1, 1) and (2, -0.5): {corner['probability'].round(3)}")
