"""JAX: jit of value_and_grad, of several forms. Parameters and data are arguments, on the device; the result is waited for and stays there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..contender import Answer, Contender, Entries, Missing, Task
from ..forms import Forms, total
from ..space import Space

CHUNK = 10_000
"""Samples that stay in the caches, for the form that takes many samples in chunks."""
SCALARS = 400
"""Parameters up to which the scalar form is tried: XLA takes minutes for thousands of scalars."""


def _space() -> Space:
    import jax
    import jax.numpy as np_
    from jax.scipy import special

    return Space(
        exp=np_.exp,
        log=np_.log,
        sqrt=np_.sqrt,
        tanh=np_.tanh,
        erf=special.erf,
        relu=jax.nn.relu,
        softplus=jax.nn.softplus,
        logsumexp=special.logsumexp,
        lgamma=special.gammaln,
        sum=np_.sum,
        diagonal=lambda a: a[:, :, None] * np_.eye(a.shape[1], dtype=a.dtype),
        padded=lambda a: np_.pad(a, ((0, 0), (1, 0))),
    )


def contenders(task: Task, forms: Forms) -> Entries:
    """The batch forms by rows and by columns, vmap of one sample in arrays and in scalars, and a scan over chunks where there are many samples."""
    try:
        import jax
    except ImportError:
        raise Missing("JAX is not installed") from None
    jax.config.update("jax_enable_x64", True)
    for name, objective, data in _forms(task, forms):
        yield _contender(f"JAX, {name}", jax.jit(jax.value_and_grad(objective)), task, data)
    if task.samples > CHUNK and task.samples % CHUNK == 0:
        yield _contender("JAX, scan over columns", jax.jit(_scan(task, forms)), task, _chunks(forms.prepare(task.data)))


def _forms(task: Task, forms: Forms) -> Iterator[tuple[str, Callable[[Any, Any], Any], Any]]:
    s, data = _space(), forms.prepare(task.data)
    yield "batch by rows", total(forms.rows, forms, s, task.samples), data
    if forms.columns is not forms.rows:
        flipped = {name: np.ascontiguousarray(array.T) for name, array in data.items()}
        yield "batch by columns", total(forms.columns, forms, s, task.samples), flipped
    yield "vmap of a row", total(_mapped(lambda s, params, row: forms.rows(s, params, _alone(row))), forms, s, task.samples), data
    if sum(array.size for array in task.params.values()) <= SCALARS:
        listed = _mapped(lambda s, params, row: forms.scalar(_of_lists(s), _lists(params), _lists(row)))
        yield "vmap of scalars", total(listed, forms, s, task.samples), data


def _chunks(data: Any) -> Any:
    """From (samples, features) to (chunks, features, samples of a chunk)."""
    return {name: np.ascontiguousarray(np.moveaxis(array.reshape(-1, CHUNK, *array.shape[1:]), 1, -1)) for name, array in data.items()}


def _scan(task: Task, forms: Forms) -> Callable[[Any, Any], Any]:
    """Value and gradient, chunk after chunk in one compiled loop."""
    import jax

    s = _space()

    def run(params: Any, chunks: Any) -> Any:
        def add(sums: Any, chunk: Any) -> Any:
            more = jax.value_and_grad(lambda params: forms.columns(s, params, chunk))(params)
            return jax.tree.map(jax.numpy.add, sums, more), None

        penalty = forms.penalty or (lambda s, params, samples: 0.0 * jax.numpy.sum(next(iter(params.values()))))
        return jax.lax.scan(add, jax.value_and_grad(lambda params: penalty(s, params, task.samples))(params), chunks)[0]

    return run


def _alone(row: Any) -> Any:
    return {name: array[None] for name, array in row.items()}


def _mapped(sample: Callable[[Space, Any, Any], Any]) -> Callable[[Space, Any, Any], Any]:
    """The sum over the samples of a form of one sample."""
    import jax

    return lambda s, params, data: jax.vmap(lambda row: sample(s, params, row))(data).sum()


def _of_lists(s: Space) -> Space:
    import dataclasses

    import jax.numpy as np_

    return dataclasses.replace(s, logsumexp=lambda values: s.logsumexp(np_.stack(values)))


def _lists(arrays: Any) -> Any:
    """Arrays as nested lists of scalars."""
    return {name: _listed(array) for name, array in arrays.items()}


def _listed(array: Any) -> Any:
    return array if array.ndim == 0 else [_listed(array[i]) for i in range(array.shape[0])]


def _contender(name: str, gradient: Callable[[Any, Any], Any], task: Task, data: Any) -> Contender:
    import jax

    params = {key: jax.numpy.asarray(array) for key, array in task.params.items()}
    on_device = {key: jax.numpy.asarray(array) for key, array in data.items()}

    def read(found: Any) -> Answer:
        return float(found[0]), {key: np.asarray(array) for key, array in found[1].items()}

    return Contender(name, task.samples, lambda: jax.block_until_ready(gradient(params, on_device)), read)
