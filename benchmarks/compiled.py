"""Loops in C, compiled here and now for this machine: the limits that libraries are held against.

They are what gcc makes of plain loops with -O3 -march=native -ffast-math, which vectorises exp and tanh by glibc's libmvec (up to 4 ulp).
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .contender import Answer, Contender, Missing, Task

SOURCES = Path(__file__).parent / "c"
FLAGS = ["-O3", "-march=native", "-ffast-math", "-fno-math-errno", "-shared", "-fPIC"]


@cache
def folder() -> Path:
    """Where compiled code lies while this process runs."""
    made = tempfile.TemporaryDirectory(prefix="sumgrad-bench-")
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def compiler() -> str:
    """The C compiler. Raises Missing if there is none."""
    found = shutil.which("gcc") or shutil.which("cc")
    if found is None:
        raise Missing("there is no C compiler")
    return found


def library(name: str, precision: str, defines: Mapping[str, int] = {}) -> ctypes.CDLL:
    """A source of `c/`, compiled for a precision (REAL is double or float) and these macros."""
    macros = [f"-DREAL={'float' if precision == 'f32' else 'double'}", *(f"-D{key}={value}" for key, value in defines.items())]
    target = folder() / f"{name}-{hashlib.sha256(repr(macros).encode()).hexdigest()[:12]}.so"
    if not target.exists():
        command = [compiler(), *FLAGS, *macros, str(SOURCES / f"{name}.c"), "-o", str(target), "-lmvec", "-lm"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - the compiler, on our own sources
        if done.returncode:
            raise Missing(f"{command[0]} can't compile {name}.c: {done.stderr.strip().splitlines()[-1]}")
    return ctypes.CDLL(str(target))


def _pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def c_network(task: Task) -> Contender:
    """A three-layer tanh network over blocks of samples, data feature-major already."""
    sizes = [task.params["w0"].shape[0], *(task.params[f"b{k}"].size for k in range(3))]
    macros = dict(zip(("D0", "D1", "D2", "D3"), sizes, strict=True))
    gradient = library("network", task.precision, macros).gradient
    gradient.restype = ctypes.c_double
    return _loops(task, gradient)


def c_logistic(task: Task) -> Contender:
    """Logistic regression over blocks of samples, data feature-major already."""
    gradient = library("logistic", task.precision, {"D": task.params["w"].size}).gradient
    gradient.restype = ctypes.c_double
    return _loops(task, gradient)


def _loops(task: Task, gradient: Any) -> Contender:
    """`gradient(samples, x, y, parameters, gradient)`, parameters as one vector in their order."""
    x, y = np.ascontiguousarray(task.data["x"].T), task.data["y"]
    params = np.concatenate([array.ravel() for array in task.params.values()])
    found = np.empty(params.size)
    arguments = (ctypes.c_long(task.samples), _pointer(x), _pointer(y), _pointer(params), _pointer(found))

    def read(value: float) -> Answer:
        ends = np.cumsum([array.size for array in task.params.values()])
        parts = (found[start:end] for start, end in zip(chain([0], ends[:-1]), ends, strict=True))
        return value, {name: part.reshape(task.params[name].shape) for name, part in zip(task.params, parts, strict=True)}

    def run(kept: Any = (x, y, params)) -> Any:
        """`kept` are the arrays whose addresses are used."""
        return gradient(*arguments)

    return Contender("loops in C for this model", task.samples, run, read)
