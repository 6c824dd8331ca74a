"""(c): ADBench's Gaussian mixtures. In sumgrad: `sumgrad.bench.mixture`.

With L_k the Cholesky factor of component k's inverse covariance, L_k (x - mu_k) is computed as L_k x - L_k mu_k: one matrix product for all components,
which is the fastest form for every library that has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sumgrad.bench.models import EXCESS, GAMMA, mixture_constant, places

from ..contender import Answer, Arrays
from ..forms import Forms
from ..space import Space


def by_hand(params: Arrays, data: Arrays) -> Answer:
    """Responsibilities, weighted residuals, and one product each for forward and backward."""
    alpha, mu, q, _ = params.values()
    x, (components, dimension) = data["x"], mu.shape
    factors = _factors(params)
    at_mean = np.einsum("kij,kj->ki", factors, mu)
    residual = (x @ factors.reshape(-1, dimension).T).reshape(len(x), components, dimension) - at_mean
    scores = alpha + q.sum(axis=1) - 0.5 * np.einsum("nki,nki->nk", residual, residual)
    top = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - top)
    sums = weights.sum(axis=1, keepdims=True)
    weights /= sums
    slope = -weights[:, :, None] * residual
    slopes, shares = slope.sum(axis=0), weights.sum(axis=0)
    along = (slope.reshape(len(x), -1).T @ x).reshape(factors.shape) - slopes[:, :, None] * mu[:, None, :]
    rows, columns = _below(dimension)
    grads = {
        "alpha": shares,
        "mu": -np.einsum("kij,ki->kj", factors, slopes),
        "q": np.einsum("kii->ki", along) * np.exp(q) + shares[:, None],
        "l": along[:, rows, columns],
    }
    value, more = penalty_by_hand(params, len(x))
    return float((np.log(sums) + top).sum()) + value, {name: grads[name] + more[name] for name in grads}


def penalty_by_hand(params: Arrays, samples: int) -> Answer:
    """The prior, and what is the same for all samples."""
    alpha, mu, q, lower = params.values()
    shares = np.exp(alpha - alpha.max())
    logarithm = np.log(shares.sum()) + alpha.max()
    diagonal = np.exp(2 * q)
    prior = GAMMA**2 / 2 * (diagonal.sum() + (lower * lower).sum()) - EXCESS * q.sum()
    value = mixture_constant(samples, *mu.shape) - samples * logarithm + prior
    grads = {"alpha": -samples * shares / shares.sum(), "mu": 0 * mu, "q": GAMMA**2 * diagonal - EXCESS, "l": GAMMA**2 * lower}
    return float(value), grads


def _below(dimension: int) -> tuple[Any, Any]:
    """Rows and columns of the entries below the diagonal, column by column."""
    columns, rows = np.triu_indices(dimension, 1)
    return rows, columns


def _factors(params: Arrays) -> Any:
    """The Cholesky factors, (K, D, D)."""
    components, dimension = params["q"].shape
    factors = np.zeros((components, dimension, dimension), params["q"].dtype)
    rows, columns = _below(dimension)
    factors[:, rows, columns] = params["l"]
    np.einsum("kii->ki", factors)[:] = np.exp(params["q"])
    return factors


def _factors_in(s: Space, params: Any) -> Any:
    """The Cholesky factors, in functions that can be differentiated."""
    return s.padded(params["l"])[:, places(params["q"].shape[1])] + s.diagonal(s.exp(params["q"]))


def rows(s: Space, params: Any, data: Any) -> Any:
    """A sample a row."""
    x, (components, dimension) = data["x"], params["mu"].shape
    factors = _factors_in(s, params)
    at_mean = s.sum(factors * params["mu"][:, None, :], 2)
    residual = (x @ factors.reshape(components * dimension, dimension).T).reshape(-1, components, dimension) - at_mean
    return s.sum(s.logsumexp(params["alpha"] + s.sum(params["q"], 1) - 0.5 * s.sum(residual**2, 2), 1), None)


def columns(s: Space, params: Any, data: Any) -> Any:
    """A sample a column."""
    x, (components, dimension) = data["x"], params["mu"].shape
    factors = _factors_in(s, params)
    at_mean = s.sum(factors * params["mu"][:, None, :], 2)
    residual = (factors.reshape(components * dimension, dimension) @ x).reshape(components, dimension, -1) - at_mean[:, :, None]
    scores = (params["alpha"] + s.sum(params["q"], 1))[:, None] - 0.5 * s.sum(residual**2, 1)
    return s.sum(s.logsumexp(scores, 0), None)


def scalar(s: Space, params: Any, data: Any) -> Any:
    """Entry by entry of each factor."""
    dimension = len(data["x"])
    place = places(dimension)
    scores = []
    for alpha, mu, q, lower in zip(*(params[name] for name in ("alpha", "mu", "q", "l")), strict=True):
        centred = [x - m for x, m in zip(data["x"], mu, strict=True)]
        score = alpha
        for i in range(dimension):
            turned = s.exp(q[i]) * centred[i]
            for j in range(i):
                turned = turned + lower[place[i, j] - 1] * centred[j]
            score = score + q[i] - 0.5 * turned * turned
        scores.append(score)
    return s.logsumexp(scores)


def penalty(s: Space, params: Any, samples: int) -> Any:
    """The prior, and what is the same for all samples."""
    squares = s.sum(s.exp(2.0 * params["q"]), None) + s.sum(params["l"] ** 2, None)
    constant = mixture_constant(samples, *params["mu"].shape)
    return constant - samples * s.logsumexp(params["alpha"], 0) + GAMMA**2 / 2 * squares - EXCESS * s.sum(params["q"], None)


FORMS = Forms(by_hand, rows, columns, scalar, penalty, penalty_by_hand)
