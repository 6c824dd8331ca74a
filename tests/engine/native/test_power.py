"""The compiler's pow and hypot against mpmath, the table of ops, and themselves on machines with different vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

RANGES = {
    "usual": ((0.2, 4.0), (-3.0, 3.0)),
    "large results": ((0.5, 10.0), (-300.0, 300.0)),
    "large exponents": ((0.9, 1.1), (-3000.0, 3000.0)),
    "small bases": ((0.0, 1e-3), (-80.0, 110.0)),
    "subnormal bases": ((0.0, 1e-308), (-0.9, 0.9)),
}


@pytest.mark.parametrize("kind", RANGES)
def test_pow_two_ulp(vector_function: Callable[[str], Any], kind: str) -> None:
    """Powers are within 2 units of the last place up to overflow and down to subnormal results."""
    random, (bases, exponents) = np.random.default_rng(4), RANGES[kind]
    a, b = random.uniform(*bases, 250), random.uniform(*exponents, 250)
    assert vector_function("pow").worst(mpmath.power, a, b) <= 2.0


def test_pow_of_negative_bases(vector_function: Callable[[str], Any]) -> None:
    """Integer powers of negative numbers have the sign of the exponent's parity."""
    random = np.random.default_rng(5)
    a, b = random.uniform(-4, 0, 300), np.rint(random.uniform(-30, 30, 300))
    assert vector_function("pow").worst(mpmath.power, a, b) <= 2.0


def test_short_cuts(vector_function: Callable[[str], Any]) -> None:
    """Exponents 2, -1 and 0.5 give the bits of the square, the reciprocal and the root."""
    f = vector_function("pow")
    (a,) = f.anything(300)
    a = np.concatenate([a, f.cast(np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, 3.0]))[0]])
    for exponent in (2.0, -1.0, 0.5):
        (b,) = f.cast(np.full(len(a), exponent))
        np.testing.assert_array_equal(f(a, b), f.reference(a, b))


def test_hypot_two_ulp(vector_function: Callable[[str], Any]) -> None:
    """Lengths are within 2 units of the last place, also where squares over- and underflow."""
    f, random = vector_function("hypot"), np.random.default_rng(6)
    for scale in (1.0, 1e-23, 1e19, 1e-161, 1e-155, 1e154, 1e307, 1e-310):
        a, b = scale * random.uniform(-5, 5, (2, 60))
        assert f.worst(mpmath.hypot, a, b) <= 2.0
    assert f.worst(mpmath.hypot, *f.anything(300, 2)) <= 2.0


@pytest.mark.parametrize("name", ["pow", "hypot"])
def test_special_values(vector_function: Callable[[str], Any], name: str) -> None:
    """All pairs of special values give what the table of ops gives."""
    vector_function(name).assert_special(2)


@pytest.mark.parametrize("name", ["pow", "hypot"])
def test_bits_are_those_of_every_machine(vector_function: Callable[[str], Any], name: str) -> None:
    """The width of vectors does not change results."""
    f, random = vector_function(name), np.random.default_rng(7)
    f.assert_same_bits(*f.anything(500, 2))
    f.assert_same_bits(random.uniform(0, 5, 500), random.uniform(-500, 500, 500))
