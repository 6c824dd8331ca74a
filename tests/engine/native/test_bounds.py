"""Compiled code reads nothing beyond the end of an array: arrays end where memory that may be read ends."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import sumgrad_engine as sg
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE
COUNTS = [1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 511, 512, 513, 1000]


@contextmanager
def guarded(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A copy of an array whose last byte is the last of a page, before one that can't be read."""
    pages = -(-array.nbytes // PAGE) + 1
    memory = mmap.mmap(-1, pages * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    guard = ctypes.c_void_p(start + (pages - 1) * PAGE)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    assert protect(guard, PAGE, 0) == 0
    end = (pages - 1) * PAGE
    copy = np.frombuffer(memory, np.uint8)[end - array.nbytes : end].view(array.dtype).reshape(array.shape)
    copy[...] = array
    yield copy
    protect(guard, PAGE, mmap.PROT_READ | mmap.PROT_WRITE)


def objective() -> sg.Objective:
    """Inputs of one element, of a few and of many, of all kinds; pieces, loops and products."""
    x, y, z = sg.input("x", shape=3), sg.input("y"), sg.input("z", shape=17)
    k, t = sg.input("k", dtype=int), sg.input("t", dtype=bool)
    random = np.random.default_rng(0)
    w, v = sg.param("w", random.normal(size=(3, 20))), sg.param("v", random.normal(size=20))
    wide = sg.reshape(y, (1, 1)) @ sg.param("q", random.normal(size=(1, 30)))
    return sg.Objective(sg.square(sg.tanh(x @ w) @ v - y) + sg.where(t, y, 0.0) * v[k] + sg.logsumexp(z) + sg.sum(sg.square(wide)))


@pytest.mark.parametrize("precision", ["f64", "f32"])
@pytest.mark.parametrize("samples", COUNTS)
def test_nothing_is_read_beyond_the_end(samples: int, precision: Any) -> None:
    """Any number of samples, at the end of readable memory: the results are the reference's, and the process lives."""
    random = np.random.default_rng(samples)
    made, of = objective(), np.float32 if precision == "f32" else np.float64
    data: dict[str, NDArray[Any]] = {
        **{name: random.normal(size=(samples, *shape)).astype(of) for name, shape in (("x", (3,)), ("y", ()), ("z", (17,)))},
        "k": random.integers(0, 20, samples),
        "t": random.random(samples) < 0.5,
    }
    with guarded(data["x"]) as x, guarded(data["y"]) as y, guarded(data["z"]) as z, guarded(data["k"]) as k, guarded(data["t"]) as t:
        inputs = {"x": x, "y": y, "z": z, "k": k, "t": t}
        found = made.value_and_grad(made.params, inputs, evaluator="compiled", precision=precision)
    wanted = made.value_and_grad(made.params, data, evaluator="reference")
    tolerance = 1e-11 if precision == "f64" else 1e-4
    assert found.value == pytest.approx(wanted.value, rel=tolerance)
    for name, gradient in wanted.grads.items():
        np.testing.assert_allclose(found.grads[name], gradient, rtol=tolerance, atol=tolerance * np.abs(gradient).max())
