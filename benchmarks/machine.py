"""The machine: its name, the versions of what runs on it, and the most that one core can do."""

from __future__ import annotations

import platform
from ctypes import c_double, c_long, c_void_p
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from sumgrad.bench import best_seconds, processor

from .compiled import library
from .contender import Missing

PACKAGES = ("sumgrad", "numpy", "scipy", "llvmlite", "jax", "torch", "casadi", "autograd", "micrograd", "scikit-learn")
ROUNDS = 200_000
FAR = 1 << 28
"""Bytes that no cache holds."""


def description() -> list[str]:
    """Lines that say where the figures come from."""
    lines = [f"{processor()}, {platform.system()}, Python {platform.python_version()}; one thread each, all on one core"]
    lines.append(", ".join(f"{name} {_version(name)}" for name in PACKAGES))
    return lines


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@cache
def peak(precision: str) -> float | None:
    """Floating-point operations a second of one core, measured on registers alone; None without a C compiler."""
    try:
        found = library("peak", precision)
    except Missing:
        return None
    found.peak.restype, found.peak.argtypes = c_double, [c_long]
    found.operations_a_round.restype = c_long
    seconds = best_seconds({"peak": lambda: found.peak(ROUNDS)})["peak"]
    return float(found.operations_a_round() * ROUNDS / seconds)


@cache
def bandwidth() -> float | None:
    """Bytes a second that one core reads from memory; None without a C compiler."""
    try:
        found = library("bandwidth", "f64")
    except Missing:
        return None
    found.bandwidth.restype, found.bandwidth.argtypes = c_double, [c_void_p, c_long]
    numbers = np.ones(FAR // 8)
    seconds = best_seconds({"read": lambda: found.bandwidth(numbers.ctypes.data, numbers.size)})["read"]
    return FAR / seconds
