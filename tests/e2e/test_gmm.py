"""ADBench's Gaussian mixture sets: value and gradient of the log-likelihood through the service."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from numpy.typing import NDArray
from scipy.special import multigammaln

DATA = Path(__file__).parents[1] / "data" / "gmm"

# From shared ADBench results; test.txt is the figure of ADBench's own test.
VALUES = {"test": 8.07380408004975791, "1k_gmm_d2_K5": -5240.590562549577, "1k_gmm_d10_K25": -25649.6526211973}
GRADIENT = [
    1.08662855508652456e-01,
    -7.41270039523898472e-01,
    6.32607184015246071e-01,
    1.11692576532787013e00,
    1.63333013551455269e-01,
    -2.19989824071193142e-02,
    2.27778292254236098e-01,
    1.20963025612832187e00,
    -6.06375920733956339e-02,
    2.58529994051162237e00,
    1.12632694524213789e-01,
    3.85744309849611777e-01,
    7.35180573182305508e-02,
    5.41836362715595232e00,
    -3.21494409677446469e-01,
    1.71892309775004937e00,
    8.60091090790866875e-01,
    -9.94640930466322848e-01,
]


@dataclass(frozen=True)
class Mixture:
    """A set: parameters, points of shape (n, dimension), and the prior's gamma and m."""

    params: dict[str, NDArray[Any]]
    points: NDArray[Any]
    gamma: float
    m: int


def read(path: Path) -> Mixture:
    """The set of a file in ADBench's format."""
    numbers = np.array(path.read_text().split(), dtype=np.float64)
    dimension, components, count = (int(number) for number in numbers[:3])
    lower = dimension * (dimension - 1) // 2
    sizes = [components, components * dimension, components * (dimension + lower), count * dimension]
    alpha, mu, rest, points, prior = np.split(numbers[3:], np.cumsum(sizes))
    rest = rest.reshape(components, dimension + lower)
    params = {"alpha": alpha, "mu": mu.reshape(components, dimension), "q": rest[:, :dimension], "l": rest[:, dimension:]}
    return Mixture(params, points.reshape(count, dimension), float(prior[0]), int(prior[1]))


def objective(mixture: Mixture) -> sg.Objective:
    """ADBench's objective: logsumexp over the components for each point, and constants and the Wishart prior as the penalty."""
    alpha, mu, q, lower = (sg.param(name, value) for name, value in mixture.params.items())
    components, dimension = mu.shape
    centred = sg.input("x", shape=(dimension,)) - mu
    # Entry (i, j) of each strictly lower triangle, which is stored column by column; 0 stands for a zero.
    place = np.zeros((dimension, dimension), dtype=np.int64)
    place.T[np.triu_indices(dimension, 1)] = 1 + np.arange(dimension * (dimension - 1) // 2)
    padded = sg.concat([np.zeros((components, 1)), lower], axis=1)
    triangle = sg.reshape(sg.take(padded, place.ravel(), axis=1), (components, dimension, dimension))
    turned = sg.exp(q) * centred + sg.sum(triangle * sg.reshape(centred, (components, 1, dimension)), axis=2)
    loss = sg.logsumexp(alpha + sg.sum(q, axis=1) - 0.5 * sg.sum(sg.square(turned), axis=1))
    return sg.Objective(loss, penalty=constants(mixture, alpha) + prior(mixture, q, lower))


def constants(mixture: Mixture, alpha: sg.Value) -> sg.Value:
    """What is the same for all points, times their number."""
    count, dimension = map(int, mixture.points.shape)
    return -count * dimension / 2 * math.log(2 * math.pi) - count * sg.logsumexp(alpha)


def prior(mixture: Mixture, q: sg.Value, lower: sg.Value) -> sg.Value:
    """The Wishart prior on the inverse covariances, as ADBench codes it."""
    components, dimension = q.shape
    n = dimension + mixture.m + 1
    c = n * dimension * (math.log(mixture.gamma) - math.log(2.0) / 2) - float(multigammaln(n / 2, dimension))
    squares = sg.sum(sg.square(sg.exp(q))) + sg.sum(sg.square(lower))
    return mixture.gamma**2 / 2 * squares - mixture.m * sg.sum(q) - components * c


@pytest.mark.parametrize("name", VALUES)
def test_value(service: sg.Service, name: str) -> None:
    """The objective is ADBench's to 1e-10."""
    mixture = read(DATA / f"{name}.txt")
    result = service.value_and_grad(objective(mixture), mixture.params, {"x": mixture.points})
    assert result.value == pytest.approx(VALUES[name], rel=1e-10)
    assert result.count == len(mixture.points)


def test_gradient(service: sg.Service) -> None:
    """The gradient of test.txt is ADBench's to 1e-9: alphas, means, then each component's q and l."""
    mixture = read(DATA / "test.txt")
    grads = service.value_and_grad(objective(mixture), mixture.params, {"x": mixture.points}).grads
    rest = np.concatenate([grads["q"], grads["l"]], axis=1)
    np.testing.assert_allclose(np.concatenate([grads["alpha"], grads["mu"].ravel(), rest.ravel()]), GRADIENT, rtol=1e-9)


@pytest.mark.parametrize("name", VALUES)
def test_compiled_is_the_reference_to_twelve_digits(name: str) -> None:
    """Value and gradients agree to 1e-12, relative to the largest of each."""
    mixture = read(DATA / f"{name}.txt")
    made, data = objective(mixture), {"x": mixture.points}
    compiled, reference = (made.value_and_grad(mixture.params, data, evaluator=evaluator) for evaluator in ("compiled", "reference"))
    assert compiled.value == pytest.approx(reference.value, rel=1e-12)
    for parameter, gradient in reference.grads.items():
        np.testing.assert_allclose(compiled.grads[parameter], gradient, rtol=1e-12, atol=1e-12 * np.abs(gradient).max(initial=0.0))
