"""autograd: NumPy, traced at every call."""

from __future__ import annotations

from typing import Any

from ..contender import Answer, Contender, Entries, Missing, Task
from ..forms import Forms, total
from ..space import Space


def _space() -> Space:
    import autograd.numpy as np_
    from autograd.scipy import special

    return Space(
        exp=np_.exp,
        log=np_.log,
        sqrt=np_.sqrt,
        tanh=np_.tanh,
        erf=special.erf,
        relu=lambda a: np_.maximum(a, 0),
        softplus=lambda a: np_.logaddexp(a, 0),
        logsumexp=special.logsumexp,
        lgamma=special.gammaln,
        sum=np_.sum,
        diagonal=lambda a: a[:, :, None] * np_.eye(a.shape[1], dtype=a.dtype),
        padded=lambda a: np_.concatenate([np_.zeros((a.shape[0], 1), a.dtype), a], axis=1),
    )


def contenders(task: Task, forms: Forms) -> Entries:
    """The batch form."""
    try:
        import autograd
    except ImportError:
        raise Missing("autograd is not installed") from None
    gradient = autograd.value_and_grad(total(forms.rows, forms, _space(), task.samples))
    params, data = dict(task.params), forms.prepare(task.data)

    def read(found: Any) -> Answer:
        return float(found[0]), found[1]

    yield Contender("autograd", task.samples, lambda: gradient(params, data), read)
