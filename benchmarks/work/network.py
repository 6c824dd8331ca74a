"""(a) and (b): small networks with tanh after every layer, one output, squared error. In sumgrad: `sumgrad.bench.network`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiled import c_network
from ..contender import Answer, Arrays
from ..forms import Forms
from ..space import Space


def by_hand(params: Arrays, data: Arrays) -> Answer:
    """Backpropagation, matrix products over the whole batch."""
    layers = [(params[f"w{k}"], params[f"b{k}"]) for k in range(len(params) // 2)]
    values = [data["x"]]
    for w, b in layers:
        values.append(np.tanh(values[-1] @ w + b))
    error = values[-1] - data["y"][:, None]
    slope = 2.0 * error
    grads = {}
    for k in reversed(range(len(layers))):
        slope = slope * (1.0 - values[k + 1] * values[k + 1])
        grads[f"w{k}"], grads[f"b{k}"] = values[k].T @ slope, slope.sum(axis=0)
        if k:
            slope = slope @ layers[k][0].T
    return float((error * error).sum()), grads


def rows(s: Space, params: Any, data: Any) -> Any:
    """Layer by layer, a sample a row."""
    value = data["x"]
    for k in range(len(params) // 2):
        value = s.tanh(value @ params[f"w{k}"] + params[f"b{k}"])
    return s.sum((value[:, 0] - data["y"]) ** 2, None)


def columns(s: Space, params: Any, data: Any) -> Any:
    """Layer by layer, a sample a column."""
    value = data["x"]
    for k in range(len(params) // 2):
        value = s.tanh(params[f"w{k}"].T @ value + params[f"b{k}"][:, None])
    return s.sum((value[0] - data["y"]) ** 2, None)


def scalar(s: Space, params: Any, data: Any) -> Any:
    """Neuron by neuron, as micrograd writes it."""
    values = data["x"]
    for k in range(len(params) // 2):
        w, b = params[f"w{k}"], params[f"b{k}"]
        values = [s.tanh(sum((v * w[i][j] for i, v in enumerate(values)), b[j])) for j in range(len(b))]
    return (values[0] - data["y"]) ** 2


FORMS = Forms(by_hand, rows, columns, scalar, limits=(c_network,))
