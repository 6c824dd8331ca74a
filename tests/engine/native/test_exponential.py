"""The compiler's exp, log and relatives against mpmath, NumPy's special values, and each other on machines with different vectors."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from sumgrad_engine.native.lanes import F32, F64, Function, Lanes, Module, Precision
from sumgrad_engine.native.machine import AVX2, AVX512, Library, Machine, compile_object, host
from sumgrad_engine.native.mathematics import FUNCTIONS
from sumgrad_engine.ops import OPS

Array = NDArray[Any]
DTYPES = {"f64": np.dtype(np.float64), "f32": np.dtype(np.float32)}
PRECISIONS = pytest.mark.parametrize("precision", [F64, F32], ids=lambda p: p.name)
NAMES = ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus")


@functools.cache
def _compiled(name: str, precision: Precision, machine: Machine, width: int) -> tuple[Library, Callable[..., None]]:
    module = Module(FUNCTIONS)
    function = Function(module)
    lanes = Lanes(function, precision, width)
    with function.loop("%n", width) as index:
        load, store = (function.emit(f"getelementptr {precision.float}, ptr {place}, i64 {index}") for place in ("%a", "%out"))
        found = lanes.call(name, function.emit(f"load {lanes.float}, ptr {load}, align {precision.nbytes}"))
        function.do(f"store {lanes.float} {found}, ptr {store}, align {precision.nbytes}")
    function.define("kernel", [("i64", "%n"), ("ptr", "%out"), ("ptr", "%a")])
    library = Library(compile_object(module.text(), machine), machine)
    return library, ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(library.address("kernel"))


def apply(name: str, x: Array, precision: Precision, machine: Machine | None = None, width: int | None = None) -> Array:
    """A vector function of the library at all elements of an array."""
    _, kernel = _compiled(name, precision, machine or host(), width or precision.lanes)
    padded = np.concatenate([x.astype(DTYPES[precision.name]), np.ones(-len(x) % precision.lanes, DTYPES[precision.name])])
    out = np.empty_like(padded)
    kernel(len(padded), out.ctypes.data, padded.ctypes.data)
    return out[: len(x)]


def arguments(precision: Precision) -> Array:
    """Dense around 0 and 1, of all magnitudes, where exp over- and underflows, and any bit patterns at all; all finite."""
    random, dtype = np.random.default_rng(0), DTYPES[precision.name]
    edge = 746.0 if precision is F64 else 104.0
    bits = np.frombuffer(random.bytes(300 * dtype.itemsize), dtype)
    parts = [
        np.linspace(-1.5, 1.5, 601),
        np.linspace(0.6, 1.6, 200),
        random.uniform(-edge, edge, 300),
        random.uniform(-30, 30, 300),
        random.choice([-1.0, 1.0], 300) * np.exp(random.uniform(math.log(np.finfo(dtype).smallest_subnormal), 3, 300)),
    ]
    with np.errstate(over="ignore"):
        found = np.concatenate([*(part.astype(dtype) for part in parts), bits])
    return found[np.isfinite(found)]


EXACT: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "expm1": mpmath.expm1,
    "log": mpmath.log,
    "log1p": mpmath.log1p,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}
DOMAIN = {"log": (0.0, math.inf), "log1p": (-1.0, math.inf)}


@PRECISIONS
@pytest.mark.parametrize("name", NAMES)
def test_two_ulp(name: str, precision: Precision) -> None:
    """Finite results are within 2 units of the last place; those beyond the largest number are infinite."""
    low, high = DOMAIN.get(name, (-math.inf, math.inf))
    x = arguments(precision)
    x = x[(x > low) & (x < high)]
    found, dtype = apply(name, x, precision), DTYPES[precision.name]
    largest = float(np.finfo(dtype).max)
    with mpmath.workprec(1200):  # 1 + e^x for small e^x
        exact = [EXACT[name](mpmath.mpf(float(v))) for v in x]
        inside = np.array([abs(e) < largest for e in exact])
        difference = np.array([float(abs(mpmath.mpf(float(y)) - e)) if ok else 0.0 for y, e, ok in zip(found, exact, inside, strict=True)])
        rounded = np.array([float(e) if ok else 0.0 for e, ok in zip(exact, inside, strict=True)]).astype(dtype)
    errors = difference / np.spacing(np.abs(rounded)).astype(np.float64)
    assert errors.max() <= 2.0
    assert np.all(np.isinf(found[~inside]))


SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, -2.0, 1e3, -1e3, 1e30, -1e30, math.inf, -math.inf, math.nan])


@PRECISIONS
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name: str, precision: Precision) -> None:
    """Zeros and their signs, infinities and NaN are those of the table of ops."""
    x = SPECIAL.astype(DTYPES[precision.name])
    found, wanted = apply(name, x, precision), OPS[name].compute([x])
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    number = ~np.isnan(found)
    assert np.array_equal(np.signbit(found[number]), np.signbit(wanted[number]))
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(found.dtype).eps, atol=0.0)


@PRECISIONS
@pytest.mark.parametrize("name", NAMES)
def test_bits_are_those_of_every_machine(name: str, precision: Precision) -> None:
    """Vectors of 64 bytes, of 32 bytes, and single samples give the same bits."""
    x = np.concatenate([arguments(precision), SPECIAL.astype(DTYPES[precision.name])])
    wanted = apply(name, x, precision, AVX2)
    if host().vector_bytes == AVX512.vector_bytes:
        np.testing.assert_array_equal(apply(name, x, precision, AVX512), wanted)
    np.testing.assert_array_equal(apply(name, x, precision, AVX2, 1), wanted)


def test_every_vector_function_that_the_table_of_ops_needs() -> None:
    """An elementwise op that does not say how it is emitted has a vector function of its name."""
    needed = {name for name, op in OPS.items() if op.elementwise and op.kinds and op.emit is None and name != "cast_float"}
    assert needed <= FUNCTIONS.keys()
