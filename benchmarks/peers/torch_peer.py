"""PyTorch: eager mode, and torch.compile of value and gradient together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..contender import Answer, Contender, Entries, Missing, Task
from ..forms import Forms, total
from ..space import Space


def _space() -> Space:
    import torch

    return Space(
        exp=torch.exp,
        log=torch.log,
        sqrt=torch.sqrt,
        tanh=torch.tanh,
        erf=torch.erf,
        relu=torch.relu,
        softplus=lambda a: torch.logaddexp(a, torch.zeros((), dtype=a.dtype)),  # nn's own is linear above 20
        logsumexp=torch.logsumexp,
        lgamma=torch.lgamma,
        sum=lambda a, axis: torch.sum(a) if axis is None else torch.sum(a, axis),
        diagonal=torch.diag_embed,
        padded=lambda a: torch.nn.functional.pad(a, (1, 0)),
    )


def contenders(task: Task, forms: Forms) -> Entries:
    """Both layouts, eager and compiled."""
    try:
        import torch
    except ImportError:
        raise Missing("PyTorch is not installed") from None
    torch.set_num_threads(1)
    torch.compiler.reset()  # or it goes back to eager mode after eight tasks
    s, data = _space(), forms.prepare(task.data)
    flipped = {name: np.ascontiguousarray(array.T) for name, array in data.items()}
    layouts = {"by rows": (forms.rows, data)}
    if forms.columns is not forms.rows:
        layouts["by columns"] = (forms.columns, flipped)
    for name, (form, arrays) in layouts.items():
        objective = total(form, forms, s, task.samples)
        yield _contender(f"PyTorch, eager {name}", _eager(objective), task, arrays)
        if task.compile:
            yield _contender(f"PyTorch, compile {name}", torch.compile(torch.func.grad_and_value(objective), dynamic=False), task, arrays)


def _eager(objective: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    import torch

    def run(params: Any, data: Any) -> Any:
        value = objective(params, data)
        return dict(zip(params, torch.autograd.grad(value, list(params.values())), strict=True)), value

    return run


def _contender(name: str, gradient: Callable[[Any, Any], Any], task: Task, data: Any) -> Contender:
    import torch

    params = {key: torch.tensor(array, requires_grad="eager" in name) for key, array in task.params.items()}
    tensors = {key: torch.tensor(array) for key, array in data.items()}

    def read(found: Any) -> Answer:
        return found[1].item(), {key: tensor.detach().numpy() for key, tensor in found[0].items()}

    return Contender(name, task.samples, lambda: gradient(params, tensors), read)
