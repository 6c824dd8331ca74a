"""micrograd: a graph of scalars for every sample, on Python floats. What its Value lacks is added as its users add it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import numpy as np

from ..contender import Answer, Contender, Entries, Missing, Task
from ..forms import Forms
from ..space import Space

PARAMETER_SAMPLES = 20_000
"""Samples times parameters of one run: enough for a quarter of a second."""


def _unary(function: Callable[[float], float], slope: Callable[[float, float], float]) -> Callable[[Any], Any]:
    """A function of a Value from the function of a float and its derivative in terms of argument and result."""
    from micrograd.engine import Value

    def apply(v: Any) -> Any:
        if not isinstance(v, Value):
            return function(v)
        out = Value(function(v.data), (v,), function.__name__)

        def _backward() -> None:
            v.grad += slope(v.data, out.data) * out.grad

        out._backward = _backward
        return out

    return apply


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _space() -> Space:
    exp, log = _unary(math.exp, lambda x, y: y), _unary(math.log, lambda x, y: 1 / x)

    def logsumexp(values: list[Any]) -> Any:
        top = max(value.data for value in values)
        return log(sum((exp(value - top) for value in values), 0.0)) + top

    return Space(
        exp=exp,
        log=log,
        sqrt=_unary(math.sqrt, lambda x, y: 0.5 / y),
        tanh=_unary(math.tanh, lambda x, y: 1 - y * y),
        erf=_unary(math.erf, lambda x, y: 2 / math.sqrt(math.pi) * math.exp(-x * x)),
        relu=lambda v: v.relu(),
        softplus=_unary(_softplus, lambda x, y: 1 / (1 + math.exp(-x))),
        logsumexp=logsumexp,
        lgamma=math.lgamma,  # of data alone
    )


def contenders(task: Task, forms: Forms) -> Entries:
    """A few samples, as its time a sample does not depend on their number."""
    try:
        from micrograd.engine import Value
    except ImportError:
        raise Missing("micrograd is not installed") from None
    if task.precision != "f64":
        return
    few = task.first(max(1, PARAMETER_SAMPLES // (8 * task.work.parameters)))
    data = {name: array.tolist() for name, array in forms.prepare(few.data).items()}
    samples = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    s = _space()

    def run() -> Any:
        params = {name: _values(Value, array.tolist()) for name, array in few.params.items()}
        value = 0.0
        for sample in samples:
            loss = forms.scalar(s, params, sample)
            loss.backward()
            value += loss.data
        return value, params

    def read(found: Any) -> Answer:
        grads = {name: np.reshape(list(_slopes(found[1][name])), few.params[name].shape) for name in few.params}
        return with_penalty(forms, few, found[0], grads)

    yield Contender("micrograd", few.samples, run, read)


def with_penalty(forms: Forms, task: Task, value: float, grads: Any) -> Answer:
    """A library of scalars gets the penalty for nothing."""
    if forms.penalty_by_hand is None:
        return value, grads
    more, slopes = forms.penalty_by_hand(task.params, task.samples)
    return value + more, {name: grads[name] + slopes[name] for name in grads}


def _values(value: type[Any], numbers: Any) -> Any:
    return [_values(value, number) for number in numbers] if isinstance(numbers, list) else value(numbers)


def _slopes(values: Any) -> Iterable[float]:
    return chain.from_iterable(map(_slopes, values)) if isinstance(values, list) else [values.grad]
