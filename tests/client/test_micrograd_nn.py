"""micrograd's networks and its demo."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from typing import Any

import micrograd.nn
import numpy as np
import pytest
from sumgrad.datasets import make_moons
from sumgrad.micrograd import Value, nn


@pytest.mark.parametrize("module", [nn, micrograd.nn])
def test_reprs(module: Any) -> None:
    """Modules show themselves as micrograd's do."""
    assert repr(module.Neuron(2)) == "ReLUNeuron(2)"
    assert repr(module.Neuron(2, nonlin=False)) == "LinearNeuron(2)"
    assert repr(module.Layer(2, 2)) == "Layer of [ReLUNeuron(2), ReLUNeuron(2)]"
    assert repr(module.MLP(1, [2, 1])) == "MLP of [Layer of [ReLUNeuron(1), ReLUNeuron(1)], Layer of [LinearNeuron(2)]]"


def test_initial_values_and_outputs_are_micrograds() -> None:
    """From one seed come the same parameters in the same order, and the same outputs to the bit."""
    random.seed(1337)
    ours = nn.MLP(3, [4, 4, 2])
    random.seed(1337)
    theirs = micrograd.nn.MLP(3, [4, 4, 2])
    assert [p.data for p in ours.parameters()] == [p.data for p in theirs.parameters()]
    assert [out.data for out in ours([1.0, -2.0, 3])] == [out.data for out in theirs([1.0, -2.0, 3])]


def test_zero_grad() -> None:
    """zero_grad sets the gradients of all parameters to 0; a bare module has none."""
    net = nn.MLP(2, [3, 1])
    net([1.0, 2.0]).backward()
    assert any(p.grad for p in net.parameters())
    net.zero_grad()
    assert [p.grad for p in net.parameters()] == [0] * 13
    assert nn.Module().parameters() == []


def test_tanh_networks_are_go_micrograds() -> None:
    """activation="tanh" puts a tanh on every layer, the last one too; 41 parameters learn go-micrograd's four samples."""
    random.seed(0)
    net = nn.MLP(3, [4, 4, 1], activation="tanh")
    assert repr(net.layers[-1]) == "Layer of [TanhNeuron(4)]"
    assert len(net.parameters()) == 41
    xs, ys = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]], [1.0, -1.0, -1.0, 1.0]
    losses = []
    for _ in range(50):
        loss = sum((net(x) - y) ** 2 for x, y in zip(xs, ys, strict=True))
        net.zero_grad()
        loss.backward()
        for p in net.parameters():
            p.data -= 0.1 * p.grad
        losses.append(loss.data)
    assert net(xs[0])._op == "tanh"
    assert losses[-1] < 0.05 < losses[0]


def test_unknown_activations_are_refused() -> None:
    """An activation is relu or tanh."""
    with pytest.raises(ValueError, match="activation is 'relu' or 'tanh', not 'gelu'"):
        nn.Neuron(2, activation="gelu")


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """Without the garbage collector, which looks at every node again and again. None is left over: nodes are free of reference cycles."""
    gc.disable()
    yield
    gc.enable()


class Demo:
    """micrograd's demo: two moons, 337 parameters, max-margin loss with a little L2."""

    def __init__(self) -> None:
        random.seed(1337)
        points, labels = make_moons(100, noise=0.1, seed=1337)
        self.inputs = [list(map(Value, row)) for row in points]
        self.targets = labels * 2 - 1
        self.model = nn.MLP(2, [16, 16, 1])

    def loss(self) -> tuple[Value, float]:
        """The loss and the accuracy."""
        scores = list(map(self.model, self.inputs))
        losses = [(1 + -yi * score).relu() for yi, score in zip(self.targets, scores, strict=True)]
        penalty = 1e-4 * sum(p * p for p in self.model.parameters())
        right = [(yi > 0) == (score.data > 0) for yi, score in zip(self.targets, scores, strict=True)]
        return sum(losses) * (1.0 / len(losses)) + penalty, sum(right) / len(right)

    def train(self, steps: int) -> tuple[list[float], float]:
        """The loss before each of some steps, and the last accuracy seen."""
        seen, accuracy = [], 0.0
        for k in range(steps):
            total, accuracy = self.loss()
            self.model.zero_grad()
            total.backward()
            for p in self.model.parameters():
                p.data -= (1.0 - 0.9 * k / 100) * p.grad
            seen.append(float(total.data))
        return seen, accuracy


@pytest.mark.usefixtures("_no_collector")
def test_demo_begins_with_micrograds_figures() -> None:
    """The first loss is micrograd's to the last bit, and two runs of a few steps give the same bits throughout."""
    first, second = Demo(), Demo()
    assert len(first.model.parameters()) == 337
    losses, accuracy = first.train(3)
    assert losses[0] == 0.8958441028683222
    assert np.isfinite(accuracy)
    assert second.train(3)[0] == losses
    assert [p.data for p in first.model.parameters()] == [p.data for p in second.model.parameters()]


@pytest.mark.slow
@pytest.mark.usefixtures("_no_collector")
def test_demo_ends_at_full_accuracy() -> None:
    """After the demo's 100 steps every point is on its side."""
    losses, accuracy = Demo().train(100)
    assert accuracy == 1.0
    assert losses[-1] < 0.02
