"""Every elementwise op of the table against mpmath: values, first and second derivatives, broadcasting. An op without an oracle fails."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import sumgrad_engine as sg
from mpmath import mp
from sumgrad_engine.ops import BY_NUMBER, OPS, Op
from sumgrad_engine.types import DType

DIGITS = 50
POINTS = 250
Oracle = Callable[..., Any]


def _pick(better: Callable[[Any, Any], bool]) -> Oracle:
    return lambda a, b: a if better(a, b) else b


ORACLES: dict[str, Oracle] = {
    "negative": lambda a: -a,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "pow": mp.power,
    "abs": mp.fabs,
    "sign": mp.sign,
    "sqrt": mp.sqrt,
    "square": lambda a: a * a,
    "reciprocal": lambda a: 1 / a,
    "maximum": _pick(lambda a, b: a >= b),
    "minimum": _pick(lambda a, b: a <= b),
    "hypot": mp.hypot,
    "exp": mp.exp,
    "expm1": mp.expm1,
    "log": mp.log,
    "log1p": mp.log1p,
    "sin": mp.sin,
    "cos": mp.cos,
    "tan": mp.tan,
    "asin": mp.asin,
    "acos": mp.acos,
    "atan": mp.atan,
    "atan2": mp.atan2,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": mp.tanh,
    "asinh": mp.asinh,
    "acosh": mp.acosh,
    "atanh": mp.atanh,
    "relu": lambda a: a if a > 0 else mp.mpf(0),
    "sigmoid": lambda a: 1 / (1 + mp.exp(-a)),
    "softplus": lambda a: mp.log1p(mp.exp(a)),
    "erf": mp.erf,
    "erfc": mp.erfc,
    "lgamma": lambda a: mp.log(mp.fabs(mp.gamma(a))),
    "digamma": mp.digamma,
    "polygamma": lambda a: mp.psi(2, a),
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "logical_and": lambda a, b: a and b,
    "logical_or": lambda a, b: a or b,
    "logical_not": lambda a: not a,
    "where": lambda a, b, c: b if a else c,
    "cast_float": lambda a: a,
}
ATTRIBUTES = {"polygamma": {"order": (2,)}}
LEAVES = {"input", "parameter", "scalar", "constant"}
ELEMENTWISE = [op for op in OPS.values() if op.elementwise and op.name not in LEAVES]
SMOOTH = [op for op in ELEMENTWISE if any(op.derivatives)]
WIDE: dict[str, tuple[tuple[float, float], ...]] = {
    "exp": ((-700, 700),),
    "expm1": ((-30, 700),),
    "log": ((1e-300, 1e300),),
    "log1p": ((-0.999999, 1e300),),
    "sqrt": ((1e-300, 1e300),),
    "tanh": ((-20, 20),),
    "sinh": ((-700, 700),),
    "cosh": ((-700, 700),),
    "sigmoid": ((-700, 700),),
    "softplus": ((-700, 700),),
    "sin": ((-1e6, 1e6),),
    "cos": ((-1e6, 1e6),),
    "atan": ((-1e300, 1e300),),
    "asinh": ((-1e300, 1e300),),
    "hypot": ((1e-300, 1e300), (1e-300, 1e300)),
    "erf": ((-6, 6),),
    "erfc": ((-6, 2.5),),
    "lgamma": ((10, 1e6),),
    "digamma": ((10, 1e6),),
}
"""Ranges far beyond the op's own domain, in which its accuracy must hold as well."""


def _span(random: np.random.Generator, low: float, high: float, count: int) -> Any:
    """Points over a range: evenly, and over all magnitudes if it is wide."""
    even = random.uniform(low, high, count)
    if max(abs(low), abs(high)) < 100:
        return even
    smallest = max(low, 1e-300) if low > 0 else 1e-300
    magnitudes = np.exp(random.uniform(math.log(smallest), math.log(high), count))
    signed = magnitudes * (np.where(random.random(count) < 0.5, -1.0, 1.0) if low < 0 else 1.0)
    return np.where(random.random(count) < 0.5, even, np.clip(signed, low, high))


def _arguments(op: Op, count: int, ranges: tuple[tuple[float, float], ...] | None = None) -> list[Any]:
    """Random operands of an op, from its domain."""
    random = np.random.default_rng(op.number)
    floats = iter(ranges or op.domain or itertools.repeat((-5.0, 5.0)))
    made = []
    for kind in op.kinds:
        if kind == "b":
            made.append(random.random(count) < 0.5)
        else:
            made.append(random.integers(-9, 9, count) if kind == "*" else _span(random, *next(floats), count))
    return made


def _bound(op: Op) -> float:
    """The accuracy note of an op, in ulp."""
    if op.accuracy in ("correctly rounded", "exact"):
        return 0.5
    found = re.match(r"(\d+) ulp", op.accuracy)
    assert found, f"{op.name}: {op.accuracy!r} promises nothing that can be checked"
    return float(found[1])


def _exact(op: Op, row: tuple[Any, ...]) -> Any:
    return ORACLES[op.name](*[mp.mpf(float(x)) if not isinstance(x, bool | np.bool_) else bool(x) for x in row])


def _worst(op: Op, operands: list[Any]) -> tuple[float, tuple[Any, ...]]:
    """The largest error in ulp, and where."""
    found = op.compute(operands, ATTRIBUTES.get(op.name, {}))
    worst: tuple[float, tuple[Any, ...]] = (0.0, ())
    with mp.workdps(DIGITS):
        for row, got in zip(zip(*operands, strict=True), np.asarray(found).tolist(), strict=True):
            exact = _exact(op, row)
            if "zeros" in op.accuracy and abs(exact) < 0.5:
                continue
            nearest = float(exact)
            error = float(abs(mp.mpf(got) - exact) / mp.mpf(math.ulp(nearest))) if got != nearest else 0.0
            worst = max(worst, (error, row))
    return worst


def test_every_op_has_an_oracle() -> None:
    """Adding an elementwise op forces its oracle, and none outlives its op."""
    assert set(ORACLES) == {op.name for op in ELEMENTWISE}


@pytest.mark.parametrize("op", OPS.values(), ids=list(OPS))
def test_record_is_complete(op: Op) -> None:
    """Each op has a doc, an accuracy note, one rule an operand, and a domain for its float operands."""
    assert op.doc
    assert op.accuracy
    assert BY_NUMBER[op.number] is op
    assert len(op.derivatives) == len(op.kinds.removesuffix("..."))
    if op.elementwise and any(op.derivatives) and op.name != "where":
        assert len(op.domain) == len(op.kinds)


def test_numbers_and_names_are_unique() -> None:
    """No two ops share a number or a name."""
    assert len(BY_NUMBER) == len(OPS)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_value_is_as_accurate_as_promised(op: Op) -> None:
    """Random points of the domain against 50 digits, within the op's accuracy note."""
    error, where = _worst(op, _arguments(op, POINTS))
    assert error <= _bound(op), f"{op.name}{where}: {error:.3f} ulp"


@pytest.mark.parametrize("name", WIDE)
def test_value_is_accurate_far_out(name: str) -> None:
    """The accuracy note holds over all magnitudes, not only in the comfortable middle."""
    op = OPS[name]
    error, where = _worst(op, _arguments(op, POINTS, WIDE[name]))
    assert error <= _bound(op), f"{name}{where}: {error:.3f} ulp"


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_single_values_equal_arrays(op: Op) -> None:
    """An element has the same bits alone and in an array."""
    operands = _arguments(op, 37)
    attributes = ATTRIBUTES.get(op.name, {})
    together = np.asarray(op.compute(operands, attributes))
    alone = [op.compute(list(row), attributes) for row in zip(*operands, strict=True)]
    assert together.tobytes() == np.array(alone, together.dtype).tobytes()


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "every other": lambda x: np.repeat(x, 2)[::2],
    "far apart": lambda x: np.repeat(x, 600)[::600],
    "not aligned": lambda x: np.concatenate([x[:1], x])[1:],
    "flipped": lambda x: np.asarray(OPS["flip"].compute([x[::-1].copy()], {"axes": (0,)})),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_bits_do_not_depend_on_memory_layout(op: Op, layout: Callable[[Any], Any]) -> None:
    """Views that ops of movement make give the same bits as arrays in one piece."""
    operands = _arguments(op, 200)
    attributes = ATTRIBUTES.get(op.name, {})
    expected = np.asarray(op.compute(operands, attributes))
    assert np.asarray(op.compute([layout(x) for x in operands], attributes)).tobytes() == expected.tobytes()


def _away_from_kinks(op: Op, count: int) -> list[Any]:
    operands = _arguments(op, 20 * count)
    floats = [x for kind, x in zip(op.kinds, operands, strict=True) if kind == "f"]
    keep = np.all([np.abs(x) > 0.05 for x in floats], axis=0)
    if len(floats) == 2:
        keep &= np.abs(floats[0] - floats[1]) > 0.05
    return [x[keep][:count] for x in operands]


def _floats(op: Op) -> list[int]:
    return [position for position, rule in enumerate(op.derivatives) if rule]


def _oracle_derivative(op: Op, row: tuple[Any, ...], orders: tuple[int, ...]) -> float:
    """A partial derivative in high precision."""
    positions = _floats(op)

    def function(*floats: Any) -> Any:
        full = [bool(x) if isinstance(x, bool | np.bool_) else mp.mpf(float(x)) for x in row]
        for position, value in zip(positions, floats, strict=True):
            full[position] = value
        return ORACLES[op.name](*full)

    with mp.workdps(DIGITS):
        point = tuple(mp.mpf(float(row[k])) for k in positions)
        return float(mpmath.re(mp.diff(function, point if len(point) > 1 else point[0], orders if len(point) > 1 else orders[0])))


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_first_and_second_derivatives(op: Op) -> None:
    """grad, and grad of grad with all mixed partials, against numerical differentiation in 50 digits."""
    operands = _away_from_kinks(op, 6)
    values = [sg.Value(x) for x in operands]
    positions = _floats(op)
    wrt = [values[k] for k in positions]
    result = op(*values, **ATTRIBUTES.get(op.name, {}))
    first = sg.grad(sg.sum(result), wrt)
    rows = list(zip(*operands, strict=True))
    for i, slope in enumerate(first):
        orders = tuple(int(i == j) for j in range(len(wrt)))
        expected = [_oracle_derivative(op, row, orders) for row in rows]
        np.testing.assert_allclose(slope.data, expected, rtol=2e-13, atol=1e-14, err_msg=f"{op.name}, operand {positions[i]}")
        for j, second in enumerate(sg.grad(sg.sum(slope), wrt)):
            orders = tuple(int(i == k) + int(j == k) for k in range(len(wrt)))
            expected = [_oracle_derivative(op, row, orders) for row in rows]
            np.testing.assert_allclose(
                second.data, expected, rtol=2e-12, atol=1e-13, err_msg=f"{op.name}, operands {positions[i]}, {positions[j]}"
            )


SHAPES = [((3, 1), (4,)), ((), (2, 3)), ((2, 3), ()), ((1,), (5,)), ((2, 1, 3), (4, 1)), ((0, 2), (1, 2)), ((1, 1), (1,))]


@pytest.mark.parametrize("op", [op for op in SMOOTH if len(op.kinds) >= 2], ids=lambda op: op.name)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_gradients_undo_broadcasting(op: Op, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """The gradient of a broadcast operand is the gradient of the repeated one, summed over the repeats."""
    wide = np.broadcast_shapes(*shapes)
    pool = _away_from_kinks(op, 60)
    given = dict(zip([len(op.kinds) - 2, len(op.kinds) - 1], shapes, strict=True))
    arrays = [np.resize(x, given.get(k, ())) for k, x in enumerate(pool)]
    narrow = [sg.Value(x) for x in arrays]
    full = [sg.Value(np.broadcast_to(x, wide)) for x in arrays]
    assert op(*narrow).shape == wide
    weights = np.arange(1.0, 1.0 + math.prod(wide)).reshape(wide)
    found = sg.grad(sg.sum(weights * op(*narrow)), narrow)
    expected = sg.grad(sg.sum(weights * op(*full)), full)
    for slope, reference, array in zip(found, expected, arrays, strict=True):
        extra = len(wide) - array.ndim
        axes = tuple(range(extra)) + tuple(extra + k for k, n in enumerate(array.shape) if n == 1 and wide[extra + k] != 1)
        assert slope.shape == array.shape
        np.testing.assert_allclose(slope.data, np.asarray(reference.data).sum(axis=axes).reshape(array.shape), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_result_type(op: Op) -> None:
    """Comparisons and logic give booleans, everything else floats, of the broadcast shape."""
    operands = _arguments(op, 6)
    value = op(*[sg.Value(x) for x in operands], **ATTRIBUTES.get(op.name, {}))
    boolean = op.name.startswith(("less", "equal", "not_", "logical"))
    assert value.dtype is (DType.BOOL if boolean else DType.FLOAT)
    assert value.data.dtype == value.dtype.numpy
    assert value.shape == (6,)
