"""Parts 1 to 3 of the demonstration: from a single weight to a network that tells two moons apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import sumgrad as sg
from sumgrad.connection import Service
from sumgrad.datasets import make_moons

from .picture import draw_boundary

POINTS = np.array([[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]])
TARGETS = np.array([1.0, -1.0, -1.0, 1.0])


def fit_double(service: Service) -> list[tuple[float, float]]:
    """Learns that double(x) = w x has w = 2 from one example, x = 2 and y = 4; (loss, w after the step) of six steps of 0.1."""
    x, y = sg.Value(2.0), sg.Value(4.0)
    w = sg.Value(0.4)
    steps = []
    for _ in range(6):
        loss = (w * x - y) ** 2
        service.backward(loss)
        w = sg.Value(w.data - 0.1 * w.grad)
        steps.append((float(loss.data), float(w.data)))
        print(f"    loss {loss.data:<10.4g} w {w.data:.4g}")
    return steps


def train_four_samples(service: Service, steps: int = 50) -> sg.Fit:
    """go-micrograd's network of 41 parameters on its four samples: 3-4-4-1 with tanh on every layer, squared error, steps of 0.1."""
    net = sg.nn.MLP(3, [4, 4, 1], activation="tanh")
    prediction = sg.tanh(net(sg.input("x", shape=(3,))))[0]
    objective = sg.Objective(sg.nn.squared_error(prediction, sg.input("y")))
    draw = np.random.default_rng(5)
    start = {name: draw.uniform(-1.0, 1.0, value.shape) for name, value in objective.params.items()}
    data = {"x": POINTS, "y": TARGETS}
    trained = sg.fit(service, objective, data, sg.optim.SGD(0.1), epochs=steps, params=start, progress=False)
    for epoch in trained.history[::10] + trained.history[-1:]:
        print(f"    step {epoch.number:<4d} loss {epoch.value:.4g}")
    found = service.evaluate({"prediction": prediction}, trained.params, data)["prediction"]
    print(f"    wanted {_row(TARGETS)}\n    given  {_row(found)}")
    return trained


def moons_objective(net: sg.nn.Module) -> sg.Objective:
    """Margin loss of a network on labels -1 and 1, with a little L2 on its parameters and the accuracy as a metric."""
    score, label = net(sg.input("x", shape=(2,)))[0], sg.input("y")
    penalty = sum((sg.sum(sg.square(value)) for value in net.parameters().values()), start=sg.Value(0.0))
    return sg.Objective(sg.nn.hinge(score, label), penalty=1e-4 * penalty, metrics={"accuracy": score * label > 0.0}, reduction="mean")


def train_moons(service: Service, picture: Path, epochs: int = 200) -> sg.Fit:
    """Trains a 2-16-16-1 network on 100 points of two moons until it has them all, and draws what it has learnt."""
    points, labels = make_moons(100, noise=0.1, seed=1337)
    net = sg.nn.MLP(2, [16, 16, 1], activation="tanh", seed=1)
    trained = sg.fit(
        service,
        moons_objective(net),
        {"x": points, "y": 2.0 * labels - 1.0},
        sg.optim.Adam(0.03),
        epochs=epochs,
        callback=lambda epoch: epoch.metrics["accuracy"] == 1.0 and epoch.value < 0.02,
    )
    last = trained.history[-1]
    print(f"    accuracy {float(last.metrics['accuracy']):.0%} after {last.number} steps, loss {last.value:.4g}")
    score = net(sg.input("x", shape=(2,)))[0]
    draw_boundary(lambda grid: service.evaluate({"score": score}, trained.params, {"x": grid})["score"], points, labels, picture)
    print(f"    picture: {picture}")
    return trained


def _row(values: NDArray[np.float64]) -> str:
    return "  ".join(f"{value:+.3f}" for value in values)
