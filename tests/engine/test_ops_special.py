"""Elementwise ops at zeros, infinities, NaN, huge and tiny numbers: a stated table, after IEEE 754 and annex F of the C standard."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.ops import OPS

INF, NAN = math.inf, math.nan
HUGE, TINY = 1.7e308, 5e-324
HALF_PI = math.pi / 2
LN2 = math.log(2)

UNARY: dict[str, list[tuple[float, float]]] = {
    "negative": [(0.0, -0.0), (-0.0, 0.0), (INF, -INF), (-INF, INF), (HUGE, -HUGE), (TINY, -TINY)],
    "abs": [(0.0, 0.0), (-0.0, 0.0), (INF, INF), (-INF, INF), (-HUGE, HUGE), (-TINY, TINY)],
    "sign": [(0.0, 0.0), (-0.0, 0.0), (INF, 1.0), (-INF, -1.0), (TINY, 1.0), (-TINY, -1.0)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, NAN), (-TINY, NAN), (4.0, 2.0)],
    "square": [(0.0, 0.0), (-0.0, 0.0), (INF, INF), (-INF, INF), (HUGE, INF), (TINY, 0.0)],
    "reciprocal": [(0.0, INF), (-0.0, -INF), (INF, 0.0), (-INF, -0.0), (TINY, INF)],
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (HUGE, INF), (-HUGE, 0.0), (TINY, 1.0), (710.0, INF)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1.0), (HUGE, INF), (-HUGE, -1.0), (TINY, TINY)],
    "log": [(0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, NAN), (-INF, NAN), (1.0, 0.0), (TINY, -744.4400719213812)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-1.0, -INF), (-2.0, NAN), (-INF, NAN), (TINY, TINY)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (TINY, TINY)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN), (TINY, 1.0)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (TINY, TINY)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.0, HALF_PI), (-1.0, -HALF_PI), (1.5, NAN), (INF, NAN), (TINY, TINY)],
    "acos": [(1.0, 0.0), (0.0, HALF_PI), (-1.0, math.pi), (1.5, NAN), (-INF, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (INF, HALF_PI), (-INF, -HALF_PI), (HUGE, HALF_PI), (TINY, TINY)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (HUGE, INF), (-HUGE, -INF), (TINY, TINY)],
    "cosh": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, INF), (-HUGE, INF), (TINY, 1.0)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (HUGE, 1.0), (TINY, TINY)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (TINY, TINY)],
    "acosh": [(1.0, 0.0), (INF, INF), (0.5, NAN), (-INF, NAN)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (INF, NAN), (TINY, TINY)],
    "relu": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, 0.0), (HUGE, HUGE), (-TINY, 0.0), (TINY, TINY)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (HUGE, 1.0), (-HUGE, 0.0), (TINY, 0.5)],
    "softplus": [(0.0, LN2), (-0.0, LN2), (INF, INF), (-INF, 0.0), (HUGE, HUGE), (-HUGE, 0.0), (1000.0, 1000.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (HUGE, 1.0), (30.0, 1.0)],
    "erfc": [(0.0, 1.0), (INF, 0.0), (-INF, 2.0), (HUGE, 0.0), (-HUGE, 2.0)],
    "lgamma": [(0.0, INF), (-0.0, INF), (1.0, 0.0), (2.0, 0.0), (-1.0, INF), (INF, INF)],
    "digamma": [(INF, INF), (1.0, -0.5772156649015329)],
    "polygamma": [(INF, -0.0), (1.0, -2.4041138063191885)],
    "cast_float": [(0.0, 0.0), (INF, INF)],
}
BINARY: dict[str, list[tuple[float, float, float]]] = {
    "add": [(-0.0, -0.0, -0.0), (0.0, -0.0, 0.0), (INF, 1.0, INF), (INF, -INF, NAN), (HUGE, HUGE, INF), (TINY, 0.0, TINY)],
    "subtract": [(0.0, 0.0, 0.0), (-0.0, 0.0, -0.0), (INF, INF, NAN), (-HUGE, HUGE, -INF)],
    "multiply": [(0.0, -1.0, -0.0), (0.0, INF, NAN), (HUGE, 10.0, INF), (TINY, 0.1, 0.0), (-INF, 2.0, -INF)],
    "divide": [(1.0, 0.0, INF), (1.0, -0.0, -INF), (0.0, 0.0, NAN), (INF, INF, NAN), (1.0, INF, 0.0), (HUGE, 0.1, INF)],
    "pow": [
        (NAN, 0.0, 1.0),
        (1.0, NAN, 1.0),
        (0.0, 0.0, 1.0),
        (0.0, -1.0, INF),
        (-0.0, -1.0, -INF),
        (0.0, 3.0, 0.0),
        (-0.0, 3.0, -0.0),
        (-8.0, 1 / 3, NAN),
        (-2.0, 3.0, -8.0),
        (-3.2, 2.0, -3.2 * -3.2),
        (2.0, INF, INF),
        (0.5, INF, 0.0),
        (INF, -2.0, 0.0),
        (HUGE, 2.0, INF),
        (TINY, 0.0, 1.0),
    ],
    "maximum": [(NAN, 1.0, NAN), (1.0, NAN, NAN), (INF, 1.0, INF), (-INF, 1.0, 1.0), (2.0, 2.0, 2.0)],
    "minimum": [(NAN, 1.0, NAN), (1.0, NAN, NAN), (INF, 1.0, 1.0), (-INF, 1.0, -INF), (2.0, 2.0, 2.0)],
    "hypot": [
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, 0.0),
        (INF, NAN, INF),
        (NAN, -INF, INF),
        (1e308, 1e308, 1.4142135623730951e308),
        (TINY, 0.0, TINY),
    ],
    "atan2": [
        (0.0, 1.0, 0.0),
        (-0.0, 1.0, -0.0),
        (0.0, -0.0, math.pi),
        (-0.0, -0.0, -math.pi),
        (1.0, 0.0, HALF_PI),
        (INF, INF, math.pi / 4),
        (INF, -INF, 3 * math.pi / 4),
        (1.0, INF, 0.0),
        (NAN, 1.0, NAN),
    ],
}
COMPARISONS = {
    "less": [(0.0, -0.0, False), (-INF, INF, True), (NAN, 1.0, False), (1.0, NAN, False), (INF, INF, False)],
    "less_equal": [(0.0, -0.0, True), (-INF, INF, True), (NAN, NAN, False), (INF, INF, True)],
    "equal": [(0.0, -0.0, True), (INF, INF, True), (NAN, NAN, False), (TINY, 0.0, False)],
    "not_equal": [(0.0, -0.0, False), (INF, INF, False), (NAN, NAN, True), (TINY, 0.0, True)],
}
TRUTH = [(False, False), (False, True), (True, False), (True, True)]
STATED = {*UNARY, *BINARY, *COMPARISONS, "logical_and", "logical_or", "logical_not", "where"}


def _same(found: Any, expected: float) -> bool:
    """The same number, with the same sign of zero; at most one unit in the last place apart where it is no special value."""
    if math.isnan(expected):
        return bool(np.isnan(found))
    if expected == 0.0 or math.isinf(expected):
        return bool(found == expected) and math.copysign(1.0, found) == math.copysign(1.0, expected)
    return abs(float(found) - expected) <= math.ulp(expected)


def test_every_op_is_stated() -> None:
    """Adding an elementwise op forces its row of special values."""
    assert {op.name for op in OPS.values() if op.elementwise and op.kinds} == STATED


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in UNARY.items() for row in rows], ids=str)
def test_unary(name: str, row: tuple[float, float]) -> None:
    """One float operand, as a number, in an array, and as an eager Value."""
    op, attributes = OPS[name], {"order": (2,)} if name == "polygamma" else {}
    point, expected = row
    assert _same(op.compute([point], attributes), expected)
    assert _same(op.compute([np.full(9, point)], attributes)[4], expected)
    assert _same(op(sg.Value(point), **attributes).data, expected)


@pytest.mark.parametrize("name", [name for name in UNARY if name not in ("cast_float",)])
def test_nan_stays_nan(name: str) -> None:
    """NaN goes through every function of one operand."""
    attributes = {"order": (2,)} if name == "polygamma" else {}
    assert np.isnan(OPS[name].compute([NAN], attributes))


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in BINARY.items() for row in rows], ids=str)
def test_binary(name: str, row: tuple[float, float, float]) -> None:
    """Two float operands, as numbers, in arrays, and as eager Values."""
    *operands, expected = row
    assert _same(OPS[name].compute(operands), expected)
    assert _same(OPS[name].compute([np.full(9, x) for x in operands])[4], expected)
    assert _same(OPS[name](*map(sg.Value, operands)).data, expected)


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in COMPARISONS.items() for row in rows], ids=str)
def test_comparisons(name: str, row: tuple[float, float, bool]) -> None:
    """Comparisons with zeros of both signs, infinities and NaN."""
    *operands, expected = row
    assert bool(OPS[name].compute(operands)) is expected


def test_logic() -> None:
    """The truth tables."""
    for a, b in TRUTH:
        assert bool(OPS["logical_and"].compute([a, b])) is (a and b)
        assert bool(OPS["logical_or"].compute([a, b])) is (a or b)
        assert bool(OPS["logical_not"].compute([a])) is (not a)


@pytest.mark.parametrize("point", [0.0, -0.0, INF, -INF, NAN, HUGE, TINY])
def test_where_takes_what_it_chooses(point: float) -> None:
    """The chosen operand comes out with its bits, whatever the other is."""
    for other in (0.0, NAN, INF):
        assert np.float64(OPS["where"].compute([True, point, other])).tobytes() == np.float64(point).tobytes()
        assert np.float64(OPS["where"].compute([False, other, point])).tobytes() == np.float64(point).tobytes()


GRADIENTS_AT_EDGES = [
    (sg.abs, 0.0, 0.0),
    (sg.relu, 0.0, 0.0),
    (sg.sign, 3.0, 0.0),
    (lambda x: sg.maximum(x, 0.0), 0.0, 0.5),
    (lambda x: sg.minimum(x, 0.0), 0.0, 0.5),
    (lambda x: sg.hypot(x, 0.0), 0.0, 0.0),
    (lambda x: x**0, 0.0, 0.0),
    (lambda x: x**1, 0.0, 1.0),
    (lambda x: x**2, 0.0, 0.0),
    (lambda x: x**2, -3.0, -6.0),
    (lambda x: x**3, -2.0, 12.0),
    (lambda x: x**-1, 2.0, -0.25),
    (sg.sqrt, 0.0, INF),
    (sg.sigmoid, 800.0, 0.0),
    (sg.sigmoid, -800.0, 0.0),
    (sg.softplus, 800.0, 1.0),
    (sg.softplus, -800.0, 0.0),
    (sg.tanh, 800.0, 0.0),
    (lambda x: sg.logsumexp(x * np.array([1.0, 0.0])), 1000.0, 1.0),
    (sg.exp, -1e6, 0.0),
    (lambda x: sg.max(x * np.array([1.0, 1.0])), 1.0, 1.0),
    (lambda x: 0.0**x, 2.0, 0.0),
    (lambda x: (-3.2) ** x, 2.0, NAN),
]


@pytest.mark.parametrize(("function", "point", "expected"), GRADIENTS_AT_EDGES)
def test_gradients_at_edges(function: Any, point: float, expected: float) -> None:
    """Stated conventions at kinks and far out, by backward() and by grad alike."""
    x = sg.Value(point)
    y = function(x)
    y.backward()
    np.testing.assert_equal(float(x.grad), expected)
    np.testing.assert_equal(sg.grad(y, x).data, expected)
