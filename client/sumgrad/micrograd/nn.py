"""micrograd's networks: neurons, layers and multi-layer perceptrons of scalar Values."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

from .engine import Number, Value

__all__ = ["MLP", "Layer", "Module", "Neuron"]

_REPRESENTED = {"relu": "ReLU", "tanh": "Tanh"}


class Module:
    """Something with parameters."""

    def zero_grad(self) -> None:
        """Sets the gradient of every parameter to 0."""
        for parameter in self.parameters():
            parameter.grad = 0

    def parameters(self) -> list[Value]:
        """All parameters, in a fixed order."""
        return []


class Neuron(Module):
    """activation(w . x + b), or w . x + b with nonlin=False.

    Weights come from `random.uniform(-1, 1)`, one after the other, and b is 0. `activation` is "relu", as in micrograd, or "tanh".
    """

    def __init__(self, nin: int, nonlin: bool = True, activation: str = "relu") -> None:
        if activation not in _REPRESENTED:
            raise ValueError(f"activation is 'relu' or 'tanh', not {activation!r}")
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]  # noqa: S311 - initial values, not secrets
        self.b = Value(0)
        self.nonlin = nonlin
        self.activation = activation

    def __call__(self, x: Iterable[Value | Number]) -> Value:
        """The output for nin inputs. As in micrograd, what one side has more than the other is left out."""
        act: Value = sum((wi * xi for wi, xi in zip(self.w, x, strict=False)), self.b)
        if not self.nonlin:
            return act
        return act.tanh() if self.activation == "tanh" else act.relu()

    def parameters(self) -> list[Value]:
        """The weights, then b."""
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f"{_REPRESENTED[self.activation] if self.nonlin else 'Linear'}Neuron({len(self.w)})"


class Layer(Module):
    """`nout` neurons side by side; keywords go to each Neuron."""

    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None:
        self.neurons = [Neuron(nin, **kwargs) for _ in range(nout)]

    def __call__(self, x: Sequence[Value | Number]) -> Any:
        """The list of outputs, or the output itself if there is one."""
        out = [neuron(x) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        """Those of each neuron in turn."""
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(str, self.neurons))}]"


class MLP(Module):
    """Layers one after the other, of sizes nin, *nouts.

    With activation="relu", as in micrograd, the last layer is linear; with "tanh", as in go-micrograd, it ends in a tanh as well.
    """

    def __init__(self, nin: int, nouts: Sequence[int], activation: str = "relu") -> None:
        sizes, last = [nin, *nouts], len(nouts) - 1
        self.layers = [
            Layer(sizes[i], sizes[i + 1], nonlin=i != last or activation == "tanh", activation=activation) for i in range(len(nouts))
        ]

    def __call__(self, x: Any) -> Any:
        """The list of outputs, or the output itself if there is one."""
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        """Those of each layer in turn."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(str, self.layers))}]"
