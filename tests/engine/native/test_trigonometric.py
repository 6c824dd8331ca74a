"""The compiler's sin, cos, tan, sinh and cosh against mpmath, the table of ops, and themselves on machines with different vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

NAMES = ("sin", "cos", "tan", "sinh", "cosh")


def dense() -> Any:
    """Around 0, where results overflow in either precision, near multiples of pi / 2, and where the reduction changes."""
    random = np.random.default_rng(1)
    near = np.pi / 2 * np.rint(random.uniform(-1e4, 1e4, 200)) * (1 + random.choice([0.0, 1e-15, 1e-7], 200))
    edges = [np.linspace(edge - 2, edge + 2, 60) for edge in (2.0**12, 2.0**24, 89.0, 710.0)]
    return np.concatenate([np.linspace(-7, 7, 500), random.uniform(-1000, 1000, 100), near, *edges])


@pytest.mark.parametrize("name", NAMES)
def test_two_ulp(vector_function: Callable[[str], Any], name: str) -> None:
    """Results are within 2 units of the last place, where arguments are dense and at any magnitude."""
    f = vector_function(name)
    for x in (dense(), *f.anything(400)):
        assert f.worst(getattr(mpmath, name), x) <= 2.0


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_worst_arguments(vector_function: Callable[[str], Any], name: str) -> None:
    """Huge numbers next to a multiple of pi / 2 lose no bits; the first is the f64 that is nearest to one, the third the f32."""
    f = vector_function(name)
    x = np.array([6381956970095103 * 2.0**797, 5319372648326541 * 2.0**718, 16367173 * 2.0**72, 1e300, 1e22, 3e38])
    assert f.worst(getattr(mpmath, name), x[np.isfinite(f.cast(x)[0])]) <= 2.0


@pytest.mark.parametrize("name", NAMES)
def test_special_values(vector_function: Callable[[str], Any], name: str) -> None:
    """Zeros and their signs, infinities and NaN are those of the table of ops."""
    vector_function(name).assert_special()


@pytest.mark.parametrize("name", NAMES)
def test_bits_are_those_of_every_machine(vector_function: Callable[[str], Any], name: str) -> None:
    """The width of vectors does not change results."""
    f = vector_function(name)
    f.assert_same_bits(np.concatenate([*f.cast(dense()), *f.anything(500)]))


def test_no_wave_beyond_one(vector_function: Callable[[str], Any]) -> None:
    """The cosine of 0 is 1, and sines are never larger."""
    sin, cos = vector_function("sin"), vector_function("cos")
    assert cos(np.zeros(3)).tolist() == [1.0] * 3
    assert np.abs(sin(np.linspace(1.57, 1.572, 5000))).max() <= 1.0
