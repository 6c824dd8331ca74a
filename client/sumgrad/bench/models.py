"""The workloads: small networks, Gaussian mixtures, regressions, option prices, a classifier of images.

All of them are written as a user would write them. Operations are counted on paper: a matrix product of m by n weights takes 2mn operations
forward, 2mn for the gradient of the weights and 2mn for that of its input, where the input depends on parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sumgrad_engine.options import Precision

import sumgrad as sg

from .workload import Arrays, Workload

__all__ = ["WORKLOADS", "classifier", "logistic", "mixture", "network", "options", "poisson"]

GAMMA, EXCESS = 1.0, 0
"""The Wishart prior's gamma and m, as in ADBench's data sets."""

BOTH: tuple[Precision, ...] = ("f64", "f32")


def network(key: str, sizes: Sequence[int], samples: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)) -> Workload:
    """A network with tanh after every layer and one output; the loss is the squared error."""
    rng = np.random.default_rng(1)
    params: Arrays = {}
    for layer, (m, n) in enumerate(pairwise(sizes)):
        params |= {f"w{layer}": rng.uniform(-1, 1, (m, n)), f"b{layer}": rng.uniform(-1, 1, n)}
    products, units = sum(m * n for m, n in pairwise(sizes)), sum(sizes[1:])
    return Workload(
        key,
        f"{'-'.join(map(str, sizes))} tanh",
        params,
        _network_objective,
        lambda rng, count: {"x": rng.normal(size=(count, sizes[0])), "y": rng.uniform(-1, 1, count)},
        arithmetic=6 * products - 2 * sizes[0] * sizes[1] + 5 * units + 4,
        transcendental=units,
        samples=samples,
        precisions=BOTH,
    )


def _network_objective(params: Arrays, samples: int) -> sg.Objective:
    value = sg.input("x", shape=(len(params["w0"]),))
    for layer in range(len(params) // 2):
        w, b = (sg.param(name, params[name]) for name in (f"w{layer}", f"b{layer}"))
        value = sg.tanh(value @ w + b)
    return sg.Objective(sg.square(value[0] - sg.input("y")))


def mixture(components: int, dimension: int, samples: tuple[int, ...] = (1_000, 10_000, 100_000)) -> Workload:
    """ADBench's Gaussian mixture with full covariances, written by the Cholesky factors of their inverses.

    Parameters: alpha (K,), mu (K, D), q (K, D) the logarithms of the factors' diagonals, l (K, D(D-1)/2) what is below, column by column.
    Srajer, Kukelova, Fitzgibbon, "A benchmark of selected algorithmic differentiation tools" (2018).
    """
    rng = np.random.default_rng(2)
    lower = dimension * (dimension - 1) // 2
    params = {
        "alpha": rng.normal(size=components),
        "mu": rng.uniform(size=(components, dimension)),
        "q": rng.normal(size=(components, dimension)),
        "l": rng.normal(size=(components, lower)),
    }
    return Workload(
        "c",
        f"mixture of {components} in {dimension} dimensions",
        params,
        _mixture_objective,
        lambda rng, count: {"x": rng.normal(size=(count, dimension))},
        arithmetic=components * (6 * lower + 12 * dimension + 10),
        transcendental=components + 1,
        samples=samples,
    )


def places(dimension: int) -> NDArray[np.int64]:
    """Where entry (i, j) of a strictly lower triangle lies in its column-by-column list behind one 0; 0 for what is not below the diagonal."""
    before = [column * (dimension - 1) - column * (column - 1) // 2 for column in range(dimension)]
    return np.array([[before[j] + i - j if j < i else 0 for j in range(dimension)] for i in range(dimension)])


def _mixture_objective(params: Arrays, samples: int) -> sg.Objective:
    alpha, mu, q, lower = (sg.param(name, value) for name, value in params.items())
    components, dimension = mu.shape
    padded = sg.concat([np.zeros((components, 1)), lower], axis=1)
    triangle = sg.reshape(sg.take(padded, places(dimension).ravel(), axis=1), (components, dimension, dimension))
    factors = triangle + np.eye(dimension) * sg.reshape(sg.exp(q), (components, 1, dimension))
    at_mean = sg.sum(factors * sg.reshape(mu, (components, 1, dimension)), axis=2)
    at_sample = sg.reshape(factors, (components * dimension, dimension)) @ sg.input("x", shape=(dimension,))
    turned = sg.reshape(at_sample, (components, dimension)) - at_mean
    loss = sg.logsumexp(alpha + sg.sum(q, axis=1) - 0.5 * sg.sum(sg.square(turned), axis=1))
    squares = sg.sum(sg.square(sg.exp(q))) + sg.sum(sg.square(lower))
    prior = GAMMA**2 / 2 * squares - EXCESS * sg.sum(q)
    return sg.Objective(loss, penalty=mixture_constant(samples, components, dimension) - samples * sg.logsumexp(alpha) + prior)


def mixture_constant(samples: int, components: int, dimension: int) -> float:
    """What ADBench's objective adds whatever the parameters are: - n D/2 log(2 pi) - K C."""
    n = dimension + EXCESS + 1
    gamma = dimension * (dimension - 1) / 4 * math.log(math.pi) + sum(math.lgamma((n - j) / 2) for j in range(dimension))
    c = n * dimension * (math.log(GAMMA) - math.log(2.0) / 2) - gamma
    return -samples * dimension / 2 * math.log(2 * math.pi) - components * c


def logistic(features: int = 50, samples: tuple[int, ...] = (1_000, 10_000, 100_000)) -> Workload:
    """Logistic regression for labels -1 and 1."""
    rng = np.random.default_rng(3)
    return Workload(
        "d",
        f"logistic regression, {features} features",
        {"w": rng.normal(size=features) / math.sqrt(features), "b": np.array(0.1)},
        _logistic_objective,
        lambda rng, count: {"x": rng.normal(size=(count, features)), "y": rng.choice([-1.0, 1.0], count)},
        arithmetic=4 * features + 8,
        transcendental=2,
        samples=samples,
    )


def _logistic_objective(params: Arrays, samples: int) -> sg.Objective:
    x, y = sg.input("x", shape=params["w"].shape), sg.input("y")
    w, b = sg.param("w", params["w"]), sg.param("b", params["b"])
    return sg.Objective(sg.softplus(-y * (x @ w + b)))


def options(samples: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)) -> Workload:
    """Black and Scholes's price of a European call in many scenarios, with the sensitivities to what the scenarios share.

    Each scenario has its spot, strike and maturity (in years); volatility, rate and relative shifts of spot and strike are the parameters. "The Pricing of
    Options and Corporate Liabilities" (1973), equation 13.
    """
    return Workload(
        "e",
        "Black-Scholes",
        {"volatility": np.array(0.2), "rate": np.array(0.03), "spot_shift": np.array(0.01), "strike_shift": np.array(-0.02)},
        _options_objective,
        lambda rng, count: {
            "spot": rng.uniform(80, 120, count),
            "strike": rng.uniform(80, 120, count),
            "maturity": rng.uniform(0.1, 2, count),
        },
        arithmetic=50,
        transcendental=8,
        samples=samples,
    )


def _options_objective(params: Arrays, samples: int) -> sg.Objective:
    volatility, rate, spot_shift, strike_shift = (sg.param(name, value) for name, value in params.items())
    maturity = sg.input("maturity")
    spot, strike = sg.input("spot") * (1.0 + spot_shift), sg.input("strike") * (1.0 + strike_shift)
    spread = volatility * sg.sqrt(maturity)
    d1 = (sg.log(spot / strike) + (rate + 0.5 * volatility * volatility) * maturity) / spread
    return sg.Objective(spot * _normal(d1) - strike * sg.exp(-rate * maturity) * _normal(d1 - spread))


def _normal(x: sg.Value) -> sg.Value:
    """The distribution function of the normal distribution."""
    return 0.5 + 0.5 * sg.erf(x * math.sqrt(0.5))


def classifier(sizes: Sequence[int] = (784, 128, 10), samples: tuple[int, ...] = (1_024,)) -> Workload:
    """A network with one hidden layer, ReLU and softmax cross-entropy, as for images of digits."""
    rng = np.random.default_rng(4)
    params: Arrays = {}
    for layer, (m, n) in enumerate(pairwise(sizes)):
        params |= {f"w{layer}": rng.normal(size=(m, n)) * math.sqrt(2.0 / m), f"b{layer}": np.zeros(n)}
    inputs, hidden, classes = sizes
    return Workload(
        "f",
        f"{'-'.join(map(str, sizes))} cross-entropy",
        params,
        _classifier_objective,
        lambda rng, count: {"x": rng.uniform(size=(count, inputs)), "y": rng.integers(0, classes, count)},
        arithmetic=4 * inputs * hidden + 6 * hidden * classes + 4 * hidden + 6 * classes,
        transcendental=classes + 1,
        samples=samples,
        precisions=BOTH,
    )


def _classifier_objective(params: Arrays, samples: int) -> sg.Objective:
    x, label = sg.input("x", shape=(len(params["w0"]),)), sg.input("y", dtype=int)
    w0, b0, w1, b1 = (sg.param(name, value) for name, value in params.items())
    return sg.Objective(sg.nn.cross_entropy(sg.relu(x @ w0 + b0) @ w1 + b1, label))


def poisson(features: int = 8, samples: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)) -> Workload:
    """Minus the logarithm of a Poisson likelihood with a linear predictor, lgamma of the counts included."""
    rng = np.random.default_rng(5)
    return Workload(
        "g",
        f"Poisson, {features} features",
        {"w": rng.normal(size=features) / math.sqrt(features), "b": np.array(1.0)},
        _poisson_objective,
        lambda rng, count: {"x": rng.normal(size=(count, features)), "y": rng.poisson(4.0, count).astype(np.float64)},
        arithmetic=4 * features + 8,
        transcendental=2,
        samples=samples,
    )


def _poisson_objective(params: Arrays, samples: int) -> sg.Objective:
    x, count = sg.input("x", shape=params["w"].shape), sg.input("y")
    predictor = x @ sg.param("w", params["w"]) + sg.param("b", params["b"])
    return sg.Objective(sg.exp(predictor) - count * predictor + sg.lgamma(count + 1.0))


WORKLOADS: tuple[Workload, ...] = (
    network("a", [3, 4, 4, 1]),
    network("b", [2, 16, 16, 1]),
    mixture(10, 2),
    mixture(10, 10),
    mixture(5, 2, samples=(1_000,)),
    mixture(25, 10, samples=(1_000,)),
    logistic(),
    options(),
    classifier(),
    poisson(),
)
"""All workloads, by letter. The last two mixtures have the shapes of ADBench's sets 1k_gmm_d2_K5 and 1k_gmm_d10_K25."""
