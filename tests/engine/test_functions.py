"""The functions that users call, against NumPy and SciPy: values, shapes, kinds of element, and errors that name the caller's line."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from scipy import special
from sumgrad_engine import functions
from sumgrad_engine.errors import InputError
from sumgrad_engine.program import EvaluateProgram
from sumgrad_engine.trace import trace
from sumgrad_engine.types import DType

HERE = Path(__file__).name


def _softmax(a: Any, axis: int = -1) -> Any:
    return special.softmax(a, axis)


POSITIVE = np.array([[0.3, 1.5, 2.25], [0.75, 4.0, 0.125]])
UNIT = np.array([[0.3, -0.5, 0.25], [0.75, -0.9, 0.125]])
SIGNED = np.array([[0.3, -1.5, 2.25], [-0.75, 4.0, 0.0]])
OTHER = np.array([1.5, -2.0, 0.5])
TRUE = np.array([[True, False, True], [False, False, True]])

CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "abs": (np.abs, (SIGNED,)),
    "sign": (np.sign, (SIGNED,)),
    "sqrt": (np.sqrt, (POSITIVE,)),
    "square": (np.square, (SIGNED,)),
    "reciprocal": (np.reciprocal, (POSITIVE,)),
    "negative": (np.negative, (SIGNED,)),
    "exp": (np.exp, (SIGNED,)),
    "expm1": (np.expm1, (SIGNED,)),
    "log": (np.log, (POSITIVE,)),
    "log1p": (np.log1p, (POSITIVE,)),
    "sin": (np.sin, (SIGNED,)),
    "cos": (np.cos, (SIGNED,)),
    "tan": (np.tan, (SIGNED,)),
    "asin": (np.arcsin, (UNIT,)),
    "acos": (np.arccos, (UNIT,)),
    "atan": (np.arctan, (SIGNED,)),
    "sinh": (np.sinh, (SIGNED,)),
    "cosh": (np.cosh, (SIGNED,)),
    "tanh": (np.tanh, (SIGNED,)),
    "asinh": (np.arcsinh, (SIGNED,)),
    "acosh": (np.arccosh, (1.0 + POSITIVE,)),
    "atanh": (np.arctanh, (UNIT,)),
    "relu": (lambda a: np.maximum(a, 0.0), (SIGNED,)),
    "sigmoid": (special.expit, (SIGNED,)),
    "softplus": (lambda a: np.logaddexp(a, 0.0), (SIGNED,)),
    "gelu": (lambda a: a * special.ndtr(a), (SIGNED,)),
    "erf": (special.erf, (SIGNED,)),
    "erfc": (special.erfc, (SIGNED,)),
    "lgamma": (special.gammaln, (POSITIVE,)),
    "digamma": (special.psi, (POSITIVE,)),
    "add": (np.add, (SIGNED, OTHER)),
    "subtract": (np.subtract, (SIGNED, OTHER)),
    "multiply": (np.multiply, (SIGNED, OTHER)),
    "divide": (np.divide, (SIGNED, OTHER)),
    "pow": (np.power, (POSITIVE, OTHER)),
    "atan2": (np.arctan2, (SIGNED, OTHER)),
    "hypot": (np.hypot, (SIGNED, OTHER)),
    "maximum": (np.maximum, (SIGNED, OTHER)),
    "minimum": (np.minimum, (SIGNED, OTHER)),
    "less": (np.less, (SIGNED, OTHER)),
    "less_equal": (np.less_equal, (SIGNED, OTHER)),
    "equal": (np.equal, (SIGNED, OTHER)),
    "not_equal": (np.not_equal, (SIGNED, OTHER)),
    "greater": (np.greater, (SIGNED, OTHER)),
    "greater_equal": (np.greater_equal, (SIGNED, OTHER)),
    "logical_and": (np.logical_and, (TRUE, TRUE[0])),
    "logical_or": (np.logical_or, (TRUE, TRUE[0])),
    "logical_not": (np.logical_not, (TRUE,)),
    "where": (np.where, (TRUE, SIGNED, OTHER)),
    "sum": (np.sum, (SIGNED,)),
    "mean": (np.mean, (SIGNED,)),
    "max": (np.max, (SIGNED,)),
    "logsumexp": (special.logsumexp, (SIGNED,)),
    "softmax": (_softmax, (SIGNED,)),
    "log_softmax": (lambda a, axis=-1: special.log_softmax(a, axis), (SIGNED,)),
    "matmul": (np.matmul, (SIGNED, OTHER)),
    "reshape": (np.reshape, (SIGNED, (3, -1))),
    "transpose": (np.transpose, (SIGNED,)),
    "broadcast_to": (np.broadcast_to, (SIGNED, (4, 2, 3))),
    "concat": (np.concatenate, ([SIGNED, POSITIVE],)),
    "stack": (np.stack, ([SIGNED, POSITIVE],)),
    "take": (np.take, (SIGNED, np.array([[1, 0], [2, 2]]))),
    "one_hot": (lambda i, n: np.eye(n)[i], (np.array([2, 0]), 3)),
}
PUBLIC = {
    name for name, f in vars(functions).items() if inspect.isfunction(f) and f.__module__ == functions.__name__ and not name.startswith("_")
}


def _values(arguments: tuple[Any, ...]) -> list[Any]:
    """Float and boolean arrays as eager Values, also those in a list; shapes and indices as they are."""
    if isinstance(arguments[0], list):
        return [[sg.Value(part) for part in arguments[0]], *arguments[1:]]
    return [sg.Value(a) if isinstance(a, np.ndarray) and a.dtype.kind in "fb" else a for a in arguments]


def test_every_function_has_a_case() -> None:
    """Adding a function forces its case, and the package exports it."""
    assert set(CASES) == PUBLIC
    assert set(sg.__all__) >= PUBLIC


@pytest.mark.parametrize("name", CASES)
def test_eager_values(name: str) -> None:
    """NumPy's or SciPy's answer on eager Values and on plain arrays, with a docstring."""
    oracle, arguments = CASES[name]
    expected = np.asarray(oracle(*arguments))
    function = getattr(sg, name)
    for given in (_values(arguments), arguments):
        value = function(*given)
        assert value.shape == expected.shape
        np.testing.assert_allclose(value.data, expected, rtol=1e-14, atol=1e-15)
    assert inspect.getdoc(function)


@pytest.mark.parametrize("name", [name for name, (_, arguments) in CASES.items() if isinstance(arguments[0], np.ndarray)])
def test_symbolic_values(name: str) -> None:
    """Of an input: the shape is known without data, and each sample gets its own answer."""
    oracle, (first, *rest) = CASES[name]
    kind = {"f": float, "b": bool, "i": int}[first.dtype.kind]
    x = sg.input("x", shape=first.shape, dtype=kind)
    value = getattr(sg, name)(x, *rest)
    expected = np.asarray(oracle(first, *rest))
    assert value.symbolic
    assert value.shape == expected.shape
    assert value.dtype is (DType.BOOL if expected.dtype.kind == "b" else DType.FLOAT)
    samples = np.stack([first, first[::-1]])
    found = EvaluateProgram(trace({"y": value})).run({}, {"x": samples}, 0, 2)["y"]
    for sample, row in zip(samples, found, strict=True):
        np.testing.assert_allclose(row, oracle(sample, *rest), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "logsumexp"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (-1, 0), ()])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_over_axes(name: str, axis: Any, keepdims: bool) -> None:
    """Axes may be negative, several, all or none, and may be kept."""
    data = np.random.default_rng(1).normal(size=(2, 3, 4))
    oracle = CASES[name][0] if name != "logsumexp" else lambda a, axis, keepdims: np.log(np.sum(np.exp(a), axis=axis, keepdims=keepdims))
    expected = oracle(data, axis=axis, keepdims=keepdims)
    found = getattr(sg, name)(sg.Value(data), axis, keepdims)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.data, expected, rtol=1e-14)
    if name != "logsumexp":
        np.testing.assert_array_equal(getattr(sg.Value(data), name)(axis, keepdims).data, found.data)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_softmax_concat_and_stack_along_axes(axis: int) -> None:
    """The axis argument counts as NumPy's does."""
    data = np.random.default_rng(2).normal(size=(2, 3, 4))
    np.testing.assert_allclose(sg.softmax(sg.Value(data), axis).data, special.softmax(data, axis), rtol=1e-14)
    np.testing.assert_allclose(sg.log_softmax(sg.Value(data), axis).data, special.log_softmax(data, axis), rtol=1e-13)
    np.testing.assert_array_equal(sg.concat([data, 2 * data], axis).data, np.concatenate([data, 2 * data], axis))
    np.testing.assert_array_equal(sg.stack([data, 2 * data, data], axis).data, np.stack([data, 2 * data, data], axis))
    np.testing.assert_array_equal(sg.take(data, np.array([1, 0]), axis).data, np.take(data, [1, 0], axis))


@pytest.mark.parametrize(
    ("left", "right"),
    [((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)), ((4, 1, 2, 3), (5, 3, 2)), ((2, 3), (5, 3, 4))],
    ids=str,
)
def test_matmul_of_vectors_matrices_and_stacks(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Shapes and values are numpy.matmul's, from either side of @."""
    random = np.random.default_rng(3)
    a, b = random.normal(size=left), random.normal(size=right)
    for found in (sg.Value(a) @ sg.Value(b), sg.Value(a) @ b, a @ sg.Value(b), sg.matmul(a, b)):
        assert found.shape == (a @ b).shape
        np.testing.assert_allclose(found.data, a @ b, rtol=1e-13, atol=1e-14)


def test_softmax_and_friends_do_not_overflow() -> None:
    """Huge logits, on either side."""
    logits = np.array([1e4, -1e4, 0.0])
    np.testing.assert_array_equal(sg.softmax(logits).data, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(sg.log_softmax(logits).data, [0.0, -2e4, -1e4])
    assert sg.logsumexp(np.array([-np.inf, -np.inf])).data == -np.inf
    assert sg.logsumexp(np.array([np.inf, 0.0])).data == np.inf


ERRORS: list[tuple[str, Callable[[], Any], str]] = [
    ("add", lambda: sg.Value([1.0, 2.0]) + np.ones(3), "do not broadcast"),
    ("matmul", lambda: sg.Value([1.0, 2.0]) @ [1.0, 2.0, 3.0], "do not fit"),
    ("matmul", lambda: sg.matmul(2.0, sg.Value([1.0])), "scalars"),
    ("matmul", lambda: sg.Value(np.ones((2, 2, 3))) @ np.ones((3, 3, 2)), "do not broadcast"),
    ("reshape", lambda: sg.reshape(sg.Value([1.0, 2.0]), (3,)), "cannot reshape"),
    ("reshape", lambda: sg.reshape(sg.Value([1.0, 2.0]), (-1, -1)), "cannot reshape"),
    ("transpose", lambda: sg.transpose(sg.Value([[1.0]]), (0, 0)), "permutation"),
    ("transpose", lambda: sg.transpose(sg.Value([[1.0]]), (0, 2)), "out of range"),
    ("broadcast_to", lambda: sg.broadcast_to(sg.Value([1.0, 2.0]), (3,)), "broadcast"),
    ("sum", lambda: sg.sum(sg.Value([1.0, 2.0]), 1), "out of range"),
    ("sum", lambda: sg.Value([1.0, 2.0]).sum((0, 0)), "twice"),
    ("max", lambda: sg.max(sg.Value(np.zeros((0, 2))), 0), "no elements"),
    ("concat", lambda: sg.concat([]), "nothing"),
    ("concat", lambda: sg.concat([sg.Value([1.0]), sg.Value([[1.0]])]), "do not fit"),
    ("concat", lambda: sg.concat([sg.Value(1.0)]), "out of range"),
    ("stack", lambda: sg.stack([]), "nothing"),
    ("stack", lambda: sg.stack([sg.Value([1.0]), sg.Value(1.0)]), "one shape"),
    ("take", lambda: sg.take(sg.Value([1.0]), sg.Value(0.0)), "integers"),
    ("take", lambda: sg.take(sg.Value([1.0]), np.array([0]), 1), "out of range"),
    ("one_hot", lambda: sg.one_hot(sg.Value(0.5), 3), "integers"),
    ("one_hot", lambda: sg.one_hot(1, 0), "at least 1"),
    ("logical_and", lambda: sg.logical_and(sg.Value(1.0), True), "booleans"),
    ("logical_not", lambda: ~sg.Value(1.0), "booleans"),
    ("where", lambda: sg.where(sg.Value(1.0), 1.0, 2.0), "booleans"),
    ("slice", lambda: sg.Value([1.0])[0, 0], "indices"),
    ("slice", lambda: sg.Value([1.0])[0.5], "must be an integer"),
    ("slice", lambda: sg.Value([1.0])[True], "must be an integer"),
    ("add", lambda: sg.Value(1.0) + "text", "not supported"),
    ("softmax", lambda: sg.softmax(sg.Value([1.0]), 3), "out of range"),
]


@pytest.mark.parametrize(("op", "make", "text"), ERRORS)
def test_errors_name_the_op_and_the_line(op: str, make: Callable[[], Any], text: str) -> None:
    """A ShapeError says what is wrong, in which op, made at which line of the caller."""
    with pytest.raises(sg.ShapeError, match=text) as caught:
        make()
    assert caught.value.op in (op, "logsumexp" if op == "softmax" else op)
    assert caught.value.source is not None
    assert HERE in caught.value.source
    assert f":{make.__code__.co_firstlineno}" in caught.value.source


def test_results_know_their_line() -> None:
    """Every Value remembers the line of the user's program that made it, also deep in a composed function."""
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    value = sg.softmax(sg.input("x", shape=(3,)))
    assert {node.place[1] for node in value.nodes()} == {line}
    assert {Path(node.place[0]).name for node in value.nodes()} == {HERE}


def test_operators_and_their_reflections() -> None:
    """Numbers and arrays on either side, by NumPy's rules."""
    x, a = sg.Value([1.5, -2.0]), np.array([0.5, 3.0])
    data = x.data
    pairs = [
        (x + a, data + a), (a + x, a + data), (x - a, data - a), (a - x, a - data), (x * a, data * a), (a * x, a * data),
        (x / a, data / a), (a / x, a / data), (abs(x) ** a, np.abs(data) ** a), (a**x, a**data), (2 - x, 2 - data), (x**2, data**2),
        (2.0**x, 2.0**data), (-x, -data), (+x, data), (np.float64(3) * x, 3 * data), (np.float64(3) - x, 3 - data), ([1, 2] * x, [1, 2] * data),
        (x < a, data < a), (a < x, a < data), (x <= a, data <= a), (x > a, data > a), (a >= x, a >= data), (np.float64(1) < x, data > 1),
        ((x < a) & (x > 0), (data < a) & (data > 0)), ((x < a) | np.array([True, False]), np.array([True, True])),
        (np.array([False, True]) & (x < a), np.array([False, True])), (~(x < a), ~(data < a)), (x.T, data),
    ]  # fmt: skip
    for found, expected in pairs:
        assert isinstance(found, sg.Value)
        np.testing.assert_allclose(found.data, expected, rtol=1e-15)


def test_integers_and_booleans_become_floats_where_needed() -> None:
    """Arithmetic on comparisons and on integer data."""
    x, k = sg.input("x"), sg.input("k", dtype=int)
    value = (x > 0) * 2 + k / 2 + np.int64(3) * True
    found = EvaluateProgram(trace({"y": value})).run({}, {"x": np.array([-1.0, 1.0]), "k": np.array([3, 4])}, 0, 2)["y"]
    assert found.tolist() == [4.5, 7.0]
    assert sg.Value(3).data == 3.0
    assert isinstance(sg.Value(3).data, float)
    assert sg.Value(True).dtype is DType.BOOL
    assert sg.sum(np.array([True, True, False])).data == 2.0


def test_parts_of_different_kinds_are_joined_as_floats() -> None:
    """concat and stack promote integers and booleans beside floats, as NumPy does."""
    x = sg.Value([0.5, 1.5])
    assert sg.concat([x, np.array([1, 2])]).data.tolist() == [0.5, 1.5, 1.0, 2.0]
    assert sg.stack([x, np.array([True, False])]).data.tolist() == [[0.5, 1.5], [1.0, 0.0]]
    assert sg.stack([x[0], 3, True]).data.tolist() == [0.5, 3.0, 1.0]
    assert sg.concat([np.array([1]), np.array([2])]).dtype is DType.INT


def test_values_in_python() -> None:
    """len, iteration, truth, float, identity and reprs."""
    x = sg.Value([[1.0, 2.0], [3.0, 4.0]])
    assert len(x) == 2
    assert [row.data.tolist() for row in x] == [[1.0, 2.0], [3.0, 4.0]]
    assert (x.ndim, x.size, x.shape) == (2, 4, (2, 2))
    assert float(x[1, 0]) == 3.0
    assert bool(sg.Value(1.0) < 2.0)
    assert (x == sg.Value(1.0)) is False
    assert x in {x}
    assert repr(sg.Value(2.0)) == "Value(data=2.0, grad=0.0)"
    assert repr(sg.input("x", shape=2)) == "input('x', shape=(2,))"
    with pytest.raises(TypeError, match="no len"):
        len(sg.Value(1.0))
    with pytest.raises(TypeError, match="where"):
        bool(sg.input("x") > 0)
    with pytest.raises(TypeError, match="symbolic"):
        float(sg.input("x"))


def test_leaves_are_checked() -> None:
    """Names, shapes and kinds of inputs and parameters."""
    with pytest.raises(sg.GraphError, match="needs a name"):
        sg.input("")
    with pytest.raises(sg.ShapeError, match="non-negative"):
        sg.input("x", shape=(-1,))
    with pytest.raises(sg.GraphError, match="float, int or bool"):
        sg.input("x", dtype=complex)
    assert sg.param("w", [1, 2]).data.tolist() == [1.0, 2.0]
    with pytest.raises(sg.ShapeError, match="shape"):
        sg.Value(1.0).data = [1.0, 2.0]


def test_indices_are_checked_when_evaluated() -> None:
    """take with an index out of range is an InputError that names the sample's place."""
    k = sg.input("k", dtype=int)
    program = EvaluateProgram(trace({"y": sg.take(np.arange(3.0), k)}))
    with pytest.raises(InputError, match=r"index 3 .*0\.\.2.*sample 1.*" + HERE):
        program.run({}, {"k": np.array([2, 3])}, 0, 2)
    assert sg.one_hot(2, 3).data.tolist() == [0.0, 0.0, 1.0]


def test_pow_has_no_gradient_for_constants_and_nan_for_variables() -> None:
    """d(a**n)/dn = a**n ln a: NaN at a = -3.2 for a variable n; the base's gradient is right in both cases."""
    a, n = sg.Value(-3.2), sg.Value(2.0)
    (a**n).backward()
    assert a.grad == pytest.approx(-6.4)
    assert math.isnan(n.grad)
    b = sg.Value(-3.2)
    (b**2).backward()
    assert b.grad == pytest.approx(-6.4)
