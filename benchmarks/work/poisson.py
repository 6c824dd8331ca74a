"""(g): a Poisson likelihood. In sumgrad: `sumgrad.bench.poisson`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contender import Answer, Arrays, Missing
from ..forms import Forms
from ..space import Space


def by_hand(params: Arrays, data: Arrays) -> Answer:
    """Two products of the matrix and a vector."""
    try:
        from scipy.special import gammaln
    except ImportError:
        raise Missing("SciPy is not installed") from None
    predictor = data["x"] @ params["w"] + params["b"]
    mean = np.exp(predictor)
    slope = mean - data["y"]
    return float((mean - data["y"] * predictor + gammaln(data["y"] + 1)).sum()), {"w": slope @ data["x"], "b": slope.sum()}


def rows(s: Space, params: Any, data: Any) -> Any:
    """A sample a row."""
    return s.sum(_loss(s, data["x"] @ params["w"] + params["b"], data["y"]), None)


def columns(s: Space, params: Any, data: Any) -> Any:
    """A sample a column."""
    return s.sum(_loss(s, params["w"] @ data["x"] + params["b"], data["y"]), None)


def scalar(s: Space, params: Any, data: Any) -> Any:
    """Feature by feature."""
    return _loss(s, sum((x * w for x, w in zip(data["x"], params["w"], strict=True)), params["b"]), data["y"])


def _loss(s: Space, predictor: Any, count: Any) -> Any:
    return s.exp(predictor) - count * predictor + s.lgamma(count + 1.0)


FORMS = Forms(by_hand, rows, columns, scalar)
