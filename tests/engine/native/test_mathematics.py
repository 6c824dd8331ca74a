"""The compiler's functions with two-sided tails on arguments where their roundings add up, against mpmath."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from sumgrad_engine.native.lanes import F32, F64, Function, Lanes, Module, Precision
from sumgrad_engine.native.machine import AVX2, AVX512, Library, Machine, compile_object, host
from sumgrad_engine.native.mathematics import FUNCTIONS

Array = NDArray[Any]
DTYPES: dict[str, np.dtype[Any]] = {"f64": np.dtype(np.float64), "f32": np.dtype(np.float32)}
WANTED: dict[str, Callable[[Any], Any]] = {
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "sinh": mpmath.sinh,
    "cosh": mpmath.cosh,
}
CASES = [pytest.param(name, precision, id=f"{name}-{precision.name}") for name in WANTED for precision in (F64, F32)]


def apply(name: str, x: Array, precision: Precision, machine: Machine, width: int) -> Array:
    """A vector function of the library at all elements of an array, as many as fill vectors."""
    module = Module(dict(FUNCTIONS))
    function = Function(module)
    lanes = Lanes(function, precision, width)
    with function.loop("%n", width) as index:
        load, store = (function.emit(f"getelementptr {precision.float}, ptr {place}, i64 {index}") for place in ("%a", "%out"))
        found = lanes.call(name, function.emit(f"load {lanes.float}, ptr {load}, align {precision.nbytes}"))
        function.do(f"store {lanes.float} {found}, ptr {store}, align {precision.nbytes}")
    function.define("kernel", [("i64", "%n"), ("ptr", "%out"), ("ptr", "%a")])
    library = Library(compile_object(module.text(), machine), machine)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(library.address("kernel"))
    out = np.empty_like(x)
    kernel(len(x), out.ctypes.data, x.ctypes.data)
    return out


def arguments(precision: Precision, count: int) -> Array:
    """Arguments of all sizes up to overflow, and those whose results lie just below powers of two, where a rounding counts twice."""
    rng = np.random.default_rng(2)
    below = (1.0 - rng.uniform(0.0, 0.1, count)) * 2.0 ** -rng.integers(0, 8, count)
    spread = np.concatenate([np.arctanh(below), np.log(below), rng.normal(size=count), rng.uniform(-80.0, 80.0, count)])
    return np.concatenate([spread, -spread]).astype(DTYPES[precision.name])


def largest_error(name: str, precision: Precision, count: int) -> float:
    """The largest error in units of the last place."""
    x = arguments(precision, count)
    x = x[np.isfinite(x)]
    x = x[: len(x) // precision.lanes * precision.lanes]
    found = apply(name, x, precision, host(), precision.lanes)
    with mpmath.workdps(60):
        exact = [WANTED[name](mpmath.mpf(float(v))) for v in x]
        unit = np.spacing(np.abs(np.array([float(e) for e in exact])).astype(found.dtype)).astype(float).tolist()
        return max(float(abs(float(y) - e) / u) for y, e, u in zip(found, exact, unit, strict=True))


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_two_ulp(name: str, precision: Precision) -> None:
    """Results are within 2 units of the last place of the exact ones."""
    assert largest_error(name, precision, 400) <= 2.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_two_ulp_in_many_samples(name: str, precision: Precision) -> None:
    """The same for many arguments."""
    assert largest_error(name, precision, 20_000) <= 2.0


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_bits_are_those_of_every_machine(name: str, precision: Precision) -> None:
    """Vectors of 64 bytes, of 32 bytes, and single samples give the same bits."""
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-40] * 2)
    x = np.concatenate([special, arguments(precision, 96)]).astype(DTYPES[precision.name])
    wanted = apply(name, x, precision, AVX2, precision.lanes)
    np.testing.assert_array_equal(apply(name, x, precision, AVX2, 1), wanted)
    if host().vector_bytes == AVX512.vector_bytes:
        np.testing.assert_array_equal(apply(name, x, precision, AVX512, precision.lanes), wanted)
