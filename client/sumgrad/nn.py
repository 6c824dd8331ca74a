"""Networks: modules that hold named parameters, and losses.

A module is called on an expression and gives an expression: `net = MLP(2, [16, 16, 1]); loss = squared_error(net(X), y)`. Its
parameters are `sg.param` leaves with initial values, so `Objective(loss).params` is where training starts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sumgrad_engine import functions
from sumgrad_engine.errors import GraphError
from sumgrad_engine.ops.leaves import parameter
from sumgrad_engine.types import DType
from sumgrad_engine.value import Value, param

__all__ = ["ACTIVATIONS", "MLP", "Linear", "Module", "binary_cross_entropy", "cross_entropy", "hinge", "squared_error"]

Activation = Callable[[Value], Value]

ACTIVATIONS: Mapping[str, Activation] = {
    "tanh": functions.tanh,
    "relu": functions.relu,
    "sigmoid": functions.sigmoid,
    "softplus": functions.softplus,
    "gelu": functions.gelu,
    "sin": functions.sin,
    "identity": lambda x: x,
}
"""Activations by name. Anywhere one is asked for, a function from expression to expression will do as well."""


class Module(ABC):
    """Something with parameters that maps an expression to an expression.

    Parameters are what a module keeps in its attributes: `sg.param`s, other modules, and lists or tuples of either. They go by the names that
    they were made with, so two modules in one objective need different names.
    """

    @abstractmethod
    def __call__(self, x: Value) -> Value:
        """The module's output for an input expression."""

    def parameters(self) -> dict[str, Value]:
        """All parameters by name, in the order in which they were assigned. GraphError if two share a name."""
        found: dict[str, Value] = {}
        for value in _parameters(vars(self).values()):
            if found.setdefault(value.name, value) is not value:
                raise GraphError(f"two parameters are named {value.name!r}: give one of the modules another name")
        return found


def _parameters(held: Any) -> Iterator[Value]:
    for item in held:
        if isinstance(item, Value) and item.op is parameter:
            yield item
        elif isinstance(item, Module):
            yield from item.parameters().values()
        elif isinstance(item, list | tuple):
            yield from _parameters(item)


class Linear(Module):
    """x @ weight + bias: from shape (..., nin) to (..., nout).

    Weights are drawn evenly from ±gain sqrt(3 / nin), which gives them the variance gain² / nin: LeCun et al., "Efficient BackProp" (1998),
    equation 16; with gain sqrt(2), for ReLU, He et al., "Delving Deep into Rectifiers" (2015), equation 10. The bias starts at 0.
    """

    def __init__(self, nin: int, nout: int, *, bias: bool = True, gain: float = 1.0, seed: int = 0, name: str = "linear") -> None:
        if nin < 1 or nout < 1:
            raise ValueError(f"a layer needs nin >= 1 and nout >= 1, not {nin} and {nout}")
        bound = gain * math.sqrt(3.0 / nin)
        self.weight = param(f"{name}.weight", np.random.default_rng(seed).uniform(-bound, bound, (nin, nout)))
        self.bias = param(f"{name}.bias", np.zeros(nout)) if bias else None

    def __call__(self, x: Value) -> Value:
        """From x of shape (..., nin) to shape (..., nout)."""
        product = x @ self.weight
        return product if self.bias is None else product + self.bias


class MLP(Module):
    """Linear layers with an activation between them; the last one is linear.

    `MLP(2, [16, 16, 1])` maps shape (2,) to (1,). Its parameters are named "mlp.0.weight", "mlp.0.bias", "mlp.1.weight" and so on, with
    `name` for "mlp". Each layer draws its weights from its own stream of `seed`, scaled for the activation as `Linear` describes.
    """

    def __init__(self, nin: int, nouts: Sequence[int], activation: str | Activation = "tanh", *, seed: int = 0, name: str = "mlp") -> None:
        if not nouts:
            raise ValueError("a network needs at least one layer")
        self.activation = _activation(activation)
        gain = math.sqrt(2.0) if activation in ("relu", "gelu", "softplus") else 1.0
        sizes = [nin, *nouts]
        seeds = np.random.SeedSequence(seed).generate_state(len(nouts))
        self.layers = [
            Linear(wide, out, gain=gain if layer + 1 < len(nouts) else 1.0, seed=int(seeds[layer]), name=f"{name}.{layer}")
            for layer, (wide, out) in enumerate(zip(sizes, nouts, strict=False))
        ]

    def __call__(self, x: Value) -> Value:
        """From x of shape (..., nin) to shape (..., nouts[-1])."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def _activation(activation: str | Activation) -> Activation:
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(f"no activation is called {activation!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[activation]


def squared_error(prediction: Value, target: Any) -> Value:
    """Sum over all axes of (prediction - target)²; the shapes broadcast."""
    return functions.sum(functions.square(prediction - target))


def cross_entropy(logits: Value, labels: Any) -> Value:
    """-log softmax(logits)[label], summed over all axes but the last.

    `logits` has shape (..., classes); `labels` are class numbers of shape (...) (an integer input), or probabilities (one-hot or not) of
    the shape of `logits`.
    """
    logarithms = functions.log_softmax(logits)
    chosen = functions.one_hot(labels, logits.shape[-1]) if _is_integer(labels) else labels
    return -functions.sum(chosen * logarithms)


def binary_cross_entropy(logits: Value, target: Any) -> Value:
    """-t log sigmoid(logit) - (1 - t) log(1 - sigmoid(logit)) for targets t in [0, 1], summed over all axes; accurate at both ends."""
    return functions.sum(target * functions.softplus(-logits) + (1.0 - target) * functions.softplus(logits))


def hinge(scores: Value, label: Any) -> Value:
    """max(0, 1 - label * score) for labels -1 and 1, summed over all axes: the support vector machine's margin loss."""
    return functions.sum(functions.relu(1.0 - label * scores))


def _is_integer(labels: Any) -> bool:
    return labels.dtype is DType.INT if isinstance(labels, Value) else np.asarray(labels).dtype.kind in "iu"
