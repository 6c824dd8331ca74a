"""(f): a 784-128-10 network with ReLU and softmax cross-entropy. In sumgrad: `sumgrad.bench.classifier`.

Everybody but us and NumPy is given the labels as rows of an identity matrix, made before the clock starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contender import Answer, Arrays
from ..forms import Forms
from ..space import Space

CLASSES = 10


def by_hand(params: Arrays, data: Arrays) -> Answer:
    """Backpropagation, matrix products over the whole batch."""
    w0, b0, w1, b1 = params.values()
    x, label = data["x"], data["y"]
    hidden = np.maximum(x @ w0 + b0, 0)
    logits = hidden @ w1 + b1
    logits -= logits.max(axis=1, keepdims=True)
    slope = np.exp(logits)
    sums = slope.sum(axis=1, keepdims=True)
    slope /= sums
    at = np.arange(len(x)), label
    slope[at] -= 1
    back = (slope @ w1.T) * (hidden > 0)
    grads = {"w0": x.T @ back, "b0": back.sum(axis=0), "w1": hidden.T @ slope, "b1": slope.sum(axis=0)}
    return float((np.log(sums[:, 0]) - logits[at]).sum()), grads


def rows(s: Space, params: Any, data: Any) -> Any:
    """A sample a row."""
    logits = s.relu(data["x"] @ params["w0"] + params["b0"]) @ params["w1"] + params["b1"]
    return s.sum(s.logsumexp(logits, 1), None) - s.sum(logits * data["y"], None)


def columns(s: Space, params: Any, data: Any) -> Any:
    """A sample a column."""
    hidden = s.relu(params["w0"].T @ data["x"] + params["b0"][:, None])
    logits = params["w1"].T @ hidden + params["b1"][:, None]
    return s.sum(s.logsumexp(logits, 0), None) - s.sum(logits * data["y"], None)


def scalar(s: Space, params: Any, data: Any) -> Any:
    """Neuron by neuron."""
    hidden = [s.relu(score) for score in _layer(params["w0"], params["b0"], data["x"])]
    logits = list(_layer(params["w1"], params["b1"], hidden))
    return s.logsumexp(logits) - sum(logit * wanted for logit, wanted in zip(logits, data["y"], strict=True))


def _layer(w: Any, b: Any, values: Any) -> Any:
    return (sum((v * w[i][j] for i, v in enumerate(values)), b[j]) for j in range(len(b)))


def _one_hot(data: Arrays) -> Arrays:
    return {"x": data["x"], "y": np.eye(CLASSES, dtype=data["x"].dtype)[data["y"]]}


FORMS = Forms(by_hand, rows, columns, scalar, prepare=_one_hot)
