"""Our own side: in this process, and through a server with one worker on the same core."""

from __future__ import annotations

from typing import Any

import sumgrad as sg
from sumgrad.bench import gradient

from .contender import Answer, Contender, Task

OURS = "sumgrad"


def in_process(task: Task) -> Contender:
    """Without a server."""
    objective, params, data = task.work.objective(task.samples), dict(task.work.params), dict(task.data)
    return Contender(OURS, task.samples, lambda: gradient(objective, params, data, task.precision), _read)


def by_service(service: sg.Service, task: Task) -> Contender:
    """By a server, with the data sent along in each call."""
    objective, params, data = task.work.objective(task.samples), dict(task.work.params), dict(task.data)
    return Contender(f"{OURS}, server", task.samples, lambda: service.value_and_grad(objective, params, data), _read)


def _read(found: Any) -> Answer:
    return found.value, found.grads
