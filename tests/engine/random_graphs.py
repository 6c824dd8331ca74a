"""Random expressions for property tests, made from a seed: tame ones, to compare with finite differences, and wild ones, for everything else."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sumgrad_engine as sg

SAMPLES = 4
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, np.inf, -np.inf, np.nan, 1e308, 5e-324]
Build = Callable[[random.Random, list[Any]], Any]


@dataclass(frozen=True)
class Made:
    """An expression for one sample, all nodes on the way to it, and data for its leaves."""

    value: sg.Value
    pool: list[sg.Value]
    params: dict[str, Any]
    inputs: dict[str, Any]


def _floats(pool: list[Any]) -> list[Any]:
    return [value for value in pool if value.dtype.name == "FLOAT"]


def _one(function: Callable[[Any], Any]) -> Build:
    return lambda r, pool: function(r.choice(_floats(pool)))


def _two(function: Callable[[Any, Any], Any]) -> Build:
    return lambda r, pool: function(r.choice(_floats(pool)), r.choice(_floats(pool)))


def _axis(r: random.Random, value: Any) -> Any:
    return r.choice([None, *range(-value.ndim, value.ndim)])


def _reduce(function: Callable[..., Any]) -> Build:
    def build(r: random.Random, pool: list[Any]) -> Any:
        x = r.choice(_floats(pool))
        return function(x, _axis(r, x), r.random() < 0.3)

    return build


def _along(function: Callable[..., Any]) -> Build:
    def build(r: random.Random, pool: list[Any]) -> Any:
        x = r.choice([value for value in _floats(pool) if value.ndim])
        return function(x, r.randrange(-x.ndim, x.ndim))

    return build


def _slice(r: random.Random, pool: list[Any]) -> Any:
    x = r.choice([value for value in pool if value.ndim and value.dtype.name != "BOOL"])
    keys = [slice(None), slice(None, None, -1), slice(1, None), slice(None, None, 2), slice(-1, None), 0, -1, None, Ellipsis]
    return x[r.choice(keys)]


def _joined(r: random.Random, pool: list[Any]) -> Any:
    x = r.choice(_floats(pool))
    same = [value for value in _floats(pool) if value.shape == x.shape]
    parts = [x, *r.choices(same, k=r.randrange(1, 3))]
    return (
        sg.stack(parts, r.randrange(-x.ndim - 1, x.ndim + 1)) if r.random() < 0.5 or not x.ndim else sg.concat(parts, r.randrange(x.ndim))
    )


def _turned(r: random.Random, pool: list[Any]) -> Any:
    x = r.choice(_floats(pool))
    axes = list(range(x.ndim))
    r.shuffle(axes)
    return sg.transpose(x, axes)


def _where(r: random.Random, pool: list[Any]) -> Any:
    booleans = [value for value in pool if value.dtype.name == "BOOL"]
    return sg.where(r.choice(booleans), r.choice(_floats(pool)), r.choice(_floats(pool)))


def _taken(r: random.Random, pool: list[Any]) -> Any:
    index = r.choice([value for value in pool if value.name == "k"])
    return sg.take(r.choice([value for value in _floats(pool) if value.ndim and value.shape[0] > 1]), index, 0)


COMMON: list[Build] = [
    *[
        _one(f)
        for f in (sg.sin, sg.tanh, sg.sigmoid, sg.relu, sg.abs, sg.atan, sg.erf, sg.gelu, sg.negative, lambda x: 0.5 * x, lambda x: x + 1.0)
    ],
    *[_two(f) for f in (sg.add, sg.subtract, sg.multiply, sg.maximum, sg.minimum, sg.add, sg.multiply)],
    *[_two(f) for f in (sg.less, sg.less_equal)],
    *[_reduce(f) for f in (sg.sum, sg.mean, sg.max, sg.logsumexp)],
    *[_along(f) for f in (sg.softmax, sg.log_softmax)],
    _one(lambda x: sg.reshape(x, -1)),
    _one(lambda x: sg.broadcast_to(x, (2, *x.shape))),
    _two(lambda x, y: x @ y),
    _two(lambda x, y: x @ y.T),
    _slice,
    _joined,
    _turned,
    _where,
    _taken,
]
TAME: list[Build] = [
    *COMMON,
    *[
        _one(f)
        for f in (lambda x: sg.log(1.5 + sg.sin(x)), lambda x: sg.sqrt(1.0 + x * x), lambda x: (1.5 + sg.cos(x)) ** 1.5, sg.softplus)
    ],
    *[_two(f) for f in (lambda x, y: x / (1.0 + y * y), lambda x, y: sg.atan2(x, 1.5 + sg.sin(y)), lambda x, y: sg.hypot(x, 1.0 + y * y))],
]
WILD: list[Build] = [
    *COMMON,
    *[_one(f) for f in (sg.exp, sg.log, sg.sqrt, sg.reciprocal, sg.square, sg.sign, lambda x: x**2, lambda x: x**-1, lambda x: x**1, lambda x: x**0.5)],
    *[_two(f) for f in (sg.divide, sg.pow, sg.atan2, sg.hypot, sg.equal, sg.not_equal)],
    *[lambda r, pool: sg.logical_not(r.choice([v for v in pool if v.dtype.name == "BOOL"]))],
    *[lambda r, pool: r.choice([sg.add, sg.subtract, sg.multiply, sg.divide, sg.pow])(r.choice(_floats(pool)), r.choice(SPECIAL))],
    *[lambda r, pool: r.choice([sg.add, sg.multiply])(r.choice(SPECIAL), r.choice(_floats(pool)))],
]  # fmt: skip


def _leaves(r: np.random.Generator, wild: bool, m: int, n: int) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Inputs and parameters of several shapes and kinds, with data; the largest are m by n."""

    def data(shape: tuple[int, ...]) -> Any:
        drawn = r.normal(size=shape)
        return np.where(r.random(shape) < 0.5, r.choice(SPECIAL, shape), drawn) if wild else drawn

    params = {"a": data(()), "b": data((n,)), "c": data((m, n)), "d": data((n, 1))}
    inputs = {"x": data((SAMPLES,)), "y": data((SAMPLES, n)), "z": data((SAMPLES, m, n))}
    inputs |= {"k": r.integers(0, 2, SAMPLES), "t": r.random(SAMPLES) < 0.5}
    kinds = {"f": float, "i": int, "b": bool}
    values = [sg.param(name, array) for name, array in params.items()]
    values += [sg.input(name, array.shape[1:], kinds[array.dtype.kind]) for name, array in inputs.items()]
    return values, params, inputs


def make(seed: int, steps: int, wild: bool = False, extents: tuple[int, int] = (2, 3)) -> Made:
    """An expression of about that many steps, on arrays of these extents; tame ones stay of order 1."""
    r = random.Random(seed)
    pool, params, inputs = _leaves(np.random.default_rng(seed), wild, *extents)
    for _ in range(steps):
        try:
            value = r.choice(WILD if wild else TAME)(r, pool)
        except (sg.ShapeError, IndexError):
            continue
        if 0 < value.size <= max(200, 30 * extents[0] * extents[1]):
            bounded = value.dtype.name != "FLOAT" or wild or r.random() < 0.3
            pool.append(value if bounded else sg.tanh(value))
    tops = r.sample(_floats(pool), 3)
    total = sum((sg.mean(value) for value in tops[1:]), sg.mean(tops[0]))
    return Made(total, pool, params, inputs)
