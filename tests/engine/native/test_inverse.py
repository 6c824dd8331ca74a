"""The compiler's inverse trigonometric and hyperbolic functions against mpmath, the table of ops, and themselves on machines with different vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

NAMES = ("asin", "acos", "atan", "asinh", "acosh", "atanh")


def dense() -> Any:
    """Around 0, 1 and the places where formulas change, and logarithmically on both sides of 1."""
    random = np.random.default_rng(2)
    near = np.concatenate([np.linspace(c - 0.02, c + 0.02, 60) for c in (0.4142, 0.5, 1.0, 2.4142)])
    away = np.exp(random.uniform(-8, 40, 100)) * random.choice([-1.0, 1.0], 100)
    return np.concatenate([np.linspace(-1, 1, 300), np.linspace(-9, 9, 200), near, 1 + np.exp(random.uniform(-30, 1, 100)), away])


@pytest.mark.parametrize("name", NAMES)
def test_two_ulp(vector_function: Callable[[str], Any], name: str) -> None:
    """Results are within 2 units of the last place, where arguments are dense and at any magnitude."""
    f = vector_function(name)
    for x in (dense(), *f.anything(300)):
        assert f.worst(getattr(mpmath, name), x) <= 2.0


def test_atan2_two_ulp(vector_function: Callable[[str], Any]) -> None:
    """Angles are within 2 units of the last place, also of points far out and near the origin."""
    f, random = vector_function("atan2"), np.random.default_rng(3)
    ratios = np.exp(random.uniform(-2, 2, 200))
    for y, x in (random.uniform(-5, 5, (2, 400)), (ratios, np.ones(200)), (1e-310 * ratios, ratios[::-1] * 1e-310), f.anything(400, 2)):
        assert f.worst(mpmath.atan2, y, x) <= 2.0


@pytest.mark.parametrize("name", NAMES)
def test_special_values(vector_function: Callable[[str], Any], name: str) -> None:
    """Zeros and their signs, infinities and NaN, also outside the domain, are those of the table of ops."""
    vector_function(name).assert_special()


def test_atan2_special_values(vector_function: Callable[[str], Any]) -> None:
    """Angles of points on the axes, at the origin and at infinity are those of the table of ops, with their signs."""
    vector_function("atan2").assert_special(2)


@pytest.mark.parametrize("name", NAMES)
def test_bits_are_those_of_every_machine(vector_function: Callable[[str], Any], name: str) -> None:
    """The width of vectors does not change results."""
    f = vector_function(name)
    f.assert_same_bits(np.concatenate([*f.cast(dense()), *f.anything(500)]))


def test_bits_of_atan2(vector_function: Callable[[str], Any]) -> None:
    """The width of vectors does not change angles."""
    f = vector_function("atan2")
    f.assert_same_bits(*f.anything(1000, 2))
