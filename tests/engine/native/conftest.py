"""What the tests of vector functions share: calling them on arrays, and comparing them with mpmath, with the table of ops, and with themselves."""

from __future__ import annotations

import ctypes
import functools
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
EDGES = (0.0, 1e-310, 0.5, 1.0, 2.0, 2.5, 3.0, 1e16, 1e38, 1e308, np.inf)
SPECIAL = np.array([sign * x for x in EDGES for sign in (1.0, -1.0)] + [np.nan])


@functools.cache
def _compiled(name: str, arity: int, precision: Precision, machine: Machine, width: int) -> tuple[Library, Callable[..., None]]:
    function = Function(Module(FUNCTIONS))
    lanes, places = Lanes(function, precision, width), [f"%a{k}" for k in range(arity)]
    with function.loop("%n", width) as index:
        store, *loads = (function.emit(f"getelementptr {precision.float}, ptr {place}, i64 {index}") for place in ("%out", *places))
        found = lanes.call(name, *(function.emit(f"load {lanes.float}, ptr {load}, align {precision.nbytes}") for load in loads))
        function.do(f"store {lanes.float} {found}, ptr {store}, align {precision.nbytes}")
    function.define("kernel", [("i64", "%n"), *(("ptr", place) for place in ("%out", *places))])
    library = Library(compile_object(function.module.text(), machine), machine)
    return library, ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (arity + 1))(library.address("kernel"))


class VectorFunction:
    """A function of the compiler's library in a precision."""

    def __init__(self, name: str, precision: Precision) -> None:
        self.name, self.precision, self.dtype = name, precision, DTYPES[precision.name]

    def cast(self, *xs: Array) -> list[Array]:
        """Arrays as numbers of the precision."""
        with np.errstate(over="ignore", under="ignore"):
            return [np.asarray(x).astype(self.dtype) for x in xs]

    def __call__(self, *xs: Array, machine: Machine | None = None, width: int | None = None) -> Array:
        """Its values at all elements of arrays, which may be empty; the loop runs at least once."""
        _, kernel = _compiled(self.name, len(xs), self.precision, machine or host(), width or self.precision.lanes)
        padded = [np.concatenate([x, np.ones(self.precision.lanes - len(x) % self.precision.lanes, self.dtype)]) for x in self.cast(*xs)]
        out = np.empty_like(padded[0])
        kernel(len(out), out.ctypes.data, *(x.ctypes.data for x in padded))
        return out[: len(xs[0])]

    def reference(self, *xs: Array) -> Array:
        """What the table of ops computes."""
        with np.errstate(all="ignore"):
            return np.asarray(OPS[self.name].compute(list(xs)))

    def anything(self, count: int, arity: int = 1) -> list[Array]:
        """Finite numbers of all magnitudes and both signs: random bits."""
        random = np.random.default_rng(count)
        bits = [np.frombuffer(random.bytes(count * self.dtype.itemsize), self.dtype) for _ in range(arity)]
        finite = np.logical_and.reduce([np.isfinite(x) for x in bits])
        return [x[finite] for x in bits]

    def worst(self, exact: Callable[..., Any], *xs: Array) -> float:
        """How many units of the last place it errs at most, of arguments at which the function is finite; infinite where only one overflows."""
        xs = tuple(self.cast(*xs))
        inside = np.isfinite(self.reference(*(x.astype(np.float64) for x in xs)))
        xs = tuple(x[inside] for x in xs)
        with mpmath.workprec(1200):  # multiples of pi beside the largest numbers
            found = zip(self(*xs), *xs, strict=True)
            return max((self._error(y, exact(*(mpmath.mpf(float(a)) for a in x))) for y, *x in found), default=0.0)

    def _error(self, found: Any, exact: Any) -> float:
        with np.errstate(over="ignore"):
            rounded = self.dtype.type(float(exact))
        if not np.isfinite(rounded) or not np.isfinite(found):
            return 0.0 if found == rounded else np.inf
        return float(abs(mpmath.mpf(float(found)) - exact) / mpmath.mpf(float(np.spacing(abs(rounded)))))

    def assert_special(self, arity: int = 1) -> None:
        """Zeros and their signs, infinities and NaN are those of the table of ops, for all pairs of special values."""
        xs = self.cast(*(x.ravel() for x in np.meshgrid(*[SPECIAL] * arity)))
        found, wanted = self(*xs), self.reference(*xs)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        number = ~np.isnan(found)
        np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(wanted[number]))
        info = np.finfo(self.dtype)
        np.testing.assert_allclose(found, wanted, rtol=4 * float(info.eps), atol=2 * float(info.smallest_subnormal))

    def assert_same_bits(self, *xs: Array) -> None:
        """Vectors of 64 bytes, of 32 bytes, and single samples give the same bits."""
        wanted = self(*xs, machine=AVX2)
        if host().vector_bytes == AVX512.vector_bytes:
            np.testing.assert_array_equal(self(*xs, machine=AVX512), wanted)
        np.testing.assert_array_equal(self(*xs, machine=AVX2, width=1), wanted)


@pytest.fixture(params=[F64, F32], ids=lambda precision: precision.name)
def vector_function(request: pytest.FixtureRequest) -> Callable[[str], VectorFunction]:
    """Vector functions by name, in each precision."""
    return functools.partial(VectorFunction, precision=request.param)
