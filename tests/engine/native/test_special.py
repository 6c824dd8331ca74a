"""The compiler's error, gamma and polygamma functions against mpmath, SciPy's special values, and each other on machines with different vectors."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
from numpy.typing import NDArray
from sumgrad_engine.native.lanes import F32, F64, Function, Lanes, Module, Precision
from sumgrad_engine.native.machine import AVX2, AVX512, Library, Machine, compile_object, host
from sumgrad_engine.native.mathematics import FUNCTIONS

Array = NDArray[Any]
DTYPES = {"f64": np.dtype(np.float64), "f32": np.dtype(np.float32)}
PAIRS = [F64, F32]


@functools.cache
def _compiled(name: str, precision: Precision, machine: Machine, width: int) -> tuple[Library, Callable[..., None]]:
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
    return library, kernel


def apply(name: str, x: Array, precision: Precision, machine: Machine | None = None, width: int | None = None) -> Array:
    """A vector function of the library at all elements of an array."""
    _, kernel = _compiled(name, precision, machine or host(), width or precision.lanes)
    padded = np.concatenate([x, np.ones(-len(x) % precision.lanes)]).astype(DTYPES[precision.name])
    out = np.empty_like(padded)
    kernel(len(padded), out.ctypes.data, padded.ctypes.data)
    return out[: len(x)]


def errors(name: str, x: Array, precision: Precision, wanted: Callable[[Any], Any], near: float) -> Array:
    """Errors in units of the last place of the result, or of `near` where that is larger: near zeros of the function."""
    dtype = DTYPES[precision.name]
    x = x.astype(dtype)
    with mpmath.workdps(40):
        exact = [wanted(mpmath.mpf(float(v))) for v in x]
        difference = np.array([float(abs(float(y) - e)) for y, e in zip(apply(name, x, precision), exact, strict=True)])
    unit = np.spacing(np.maximum(np.abs(np.array([float(e) for e in exact])), near).astype(dtype))
    return np.asarray(difference / unit.astype(float))


def _positive(top: float) -> Array:
    """Dense arguments where the functions change most, and others of all magnitudes; none is an integer."""
    spread = np.exp(np.random.default_rng(1).uniform(-30.0, math.log(top), 150))
    return np.concatenate([np.linspace(0.01, 4.001, 250), spread])


def _both(top: float) -> Array:
    return np.concatenate([_positive(top), -_positive(top)])


def _log_gamma(x: Any) -> Any:
    return mpmath.log(abs(mpmath.gamma(x))) if x < 1e4 else mpmath.loggamma(x)


ACCURACY: list[tuple[str, Callable[[Any], Any], Array, float]] = [
    ("erf", mpmath.erf, _both(7.0), 0.0),
    ("erfc", mpmath.erfc, _both(9.0), 0.0),
    ("lgamma", _log_gamma, _positive(1e30), 0.25),
    ("lgamma", _log_gamma, -_positive(20.0), 4.0),
    ("digamma", mpmath.digamma, _positive(1e30), 0.0),
    ("digamma", mpmath.digamma, -_positive(50.0), 4.0),
]


@pytest.mark.parametrize("precision", PAIRS, ids=lambda p: p.name)
@pytest.mark.parametrize(("name", "wanted", "x", "near"), ACCURACY, ids=[row[0] for row in ACCURACY])
def test_four_ulp(name: str, wanted: Callable[[Any], Any], x: Array, near: float, precision: Precision) -> None:
    """Results are within 4 units of the last place of the exact ones."""
    assert errors(name, x, precision, wanted, near).max() <= 4.0


@pytest.mark.parametrize(("precision", "low", "top"), [(F64, 20.0, 27.5), (F32, 8.0, 10.5)], ids=["f64", "f32"])
def test_tail_of_erfc(precision: Precision, low: float, top: float) -> None:
    """erfc is accurate down to subnormal numbers, and 0 beyond them."""
    assert errors("erfc", np.linspace(low, top, 400), precision, mpmath.erfc, 0.0).max() <= 4.0


POLYGAMMA = [
    (1, np.concatenate([_positive(1e6), -_positive(20.0)]), 0.0, PAIRS),
    (2, np.concatenate([np.linspace(0.01, 30.0, 200), np.geomspace(30.0, 1e6, 50)]), 0.0, PAIRS),
    (2, -np.linspace(0.01, 9.004, 200), 32.0, PAIRS),
    (3, -np.linspace(0.01, 9.004, 200), 0.0, PAIRS),
    (40, np.linspace(2.0, 30.0, 50), 0.0, PAIRS),
    (40, np.geomspace(0.01, 1e6, 50), 0.0, [F64]),
    (170, np.geomspace(1.0, 3e3, 50), 0.0, [F64]),
]


@pytest.mark.parametrize(
    ("order", "x", "near", "precision"),
    [(order, x, near, precision) for order, x, near, precisions in POLYGAMMA for precision in precisions],
)
def test_polygamma(order: int, x: Array, near: float, precision: Precision) -> None:
    """Derivatives of digamma of all orders are within 4 units of the last place."""

    def wanted(v: Any) -> Any:
        # mpmath's zeta has an absolute precision.
        with mpmath.workdps(60 + max(0, math.ceil(order * math.log10(abs(v))))):
            return mpmath.polygamma(order, v)

    assert errors(f"polygamma{order}", x, precision, wanted, near).max() <= 4.0


def test_polygamma_overflows_to_infinity() -> None:
    """Where one term is beyond the largest number, the result is infinite, not NaN."""
    np.testing.assert_array_equal(apply("polygamma170", np.array([0.5, -0.1, -2.9, 1e9]), F64), [-math.inf, math.inf, -math.inf, 0.0])


SPECIAL = np.array([0.0, -0.0, 1.0, 2.0, -1.0, -2.0, -3.0, -7.0, -1e20, 1e20, math.inf, -math.inf, math.nan])
REFERENCES: dict[str, Callable[[Array], Array]] = {
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "lgamma": scipy.special.gammaln,
    "digamma": scipy.special.psi,
    "polygamma1": functools.partial(scipy.special.polygamma, 1),
    "polygamma2": functools.partial(scipy.special.polygamma, 2),
}


@pytest.mark.parametrize("precision", PAIRS, ids=lambda p: p.name)
@pytest.mark.parametrize("name", REFERENCES)
def test_special_values(name: str, precision: Precision) -> None:
    """Zeros and their signs, infinities and NaN are those of SciPy; all else agrees to the precision, but for subnormal numbers."""
    found, wanted = apply(name, SPECIAL, precision), REFERENCES[name](SPECIAL)
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(wanted[~np.isnan(found)]))
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(found.dtype).eps, atol=np.finfo(found.dtype).tiny)


def test_erf_of_tiny_and_large_numbers() -> None:
    """erf keeps subnormal arguments to a rounding, and is exactly 1 where it rounds to it."""
    tiny = np.array([5e-324, 1e-310, -3e-320, 2.3e-308])
    np.testing.assert_array_equal(apply("erf", tiny, F64), scipy.special.erf(tiny))
    assert np.all(apply("erf", np.array([5.97, 6.0, 7.0, 300.0, math.inf]), F64) == 1.0)


@pytest.mark.parametrize("precision", PAIRS, ids=lambda p: p.name)
@pytest.mark.parametrize("name", REFERENCES)
def test_bits_are_those_of_every_machine(name: str, precision: Precision) -> None:
    """Vectors of 64 bytes, of 32 bytes, and single samples give the same bits."""
    x = np.concatenate([_both(30.0), SPECIAL])
    wanted = apply(name, x, precision, AVX2)
    if host().vector_bytes == AVX512.vector_bytes:
        np.testing.assert_array_equal(apply(name, x, precision, AVX512), wanted)
    np.testing.assert_array_equal(apply(name, x, precision, AVX2, 1), wanted)
