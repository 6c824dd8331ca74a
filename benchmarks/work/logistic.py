"""(d): logistic regression. In sumgrad: `sumgrad.bench.logistic`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiled import c_logistic
from ..contender import Answer, Arrays, Contender, Missing, Task
from ..forms import Forms
from ..space import Space


def by_hand(params: Arrays, data: Arrays) -> Answer:
    """Two products of the matrix and a vector."""
    margin = -data["y"] * (data["x"] @ params["w"] + params["b"])
    small = np.exp(-np.abs(margin))
    value = np.maximum(margin, 0) + np.log1p(small)
    slope = -data["y"] * np.where(margin > 0, 1, small) / (1 + small)
    return float(value.sum()), {"w": slope @ data["x"], "b": slope.sum()}


def rows(s: Space, params: Any, data: Any) -> Any:
    """A sample a row."""
    return s.sum(s.softplus(-data["y"] * (data["x"] @ params["w"] + params["b"])), None)


def columns(s: Space, params: Any, data: Any) -> Any:
    """A sample a column."""
    return s.sum(s.softplus(-data["y"] * (params["w"] @ data["x"] + params["b"])), None)


def scalar(s: Space, params: Any, data: Any) -> Any:
    """Feature by feature."""
    score = sum((x * w for x, w in zip(data["x"], params["w"], strict=True)), params["b"])
    return s.softplus(-data["y"] * score)


def scikit_learn(task: Task) -> Contender:
    """What scikit-learn's own solvers call: its compiled loss and BLAS."""
    try:
        from sklearn._loss import HalfBinomialLoss
        from sklearn.linear_model._linear_loss import LinearModelLoss
    except ImportError:
        raise Missing("scikit-learn is not installed") from None
    loss = LinearModelLoss(base_loss=HalfBinomialLoss(), fit_intercept=True)
    x, labels = task.data["x"], ((task.data["y"] + 1) / 2).astype(task.data["x"].dtype)
    coefficients = np.append(task.params["w"], task.params["b"])

    def read(found: tuple[float, Any]) -> Answer:
        value, gradient = found[0] * task.samples, found[1] * task.samples
        return value, {"w": gradient[:-1], "b": gradient[-1]}

    run = lambda: loss.loss_gradient(coefficients, x, labels, n_threads=1)  # noqa: E731
    return Contender("scikit-learn, its solvers' loss", task.samples, run, read)


FORMS = Forms(by_hand, rows, columns, scalar, limits=(scikit_learn, c_logistic))
