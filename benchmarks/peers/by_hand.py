"""NumPy with derivatives written by hand, and the limits: loops in C and functions made for one model."""

from __future__ import annotations

from ..contender import Contender, Entries, Missing, Task
from ..forms import Forms

NAME = "NumPy by hand"


def contenders(task: Task, forms: Forms) -> Entries:
    """NumPy, and the limits of the workload."""
    yield Contender(NAME, task.samples, lambda: forms.by_hand(task.params, task.data), lambda found: found)
    for limit in forms.limits:
        try:
            yield limit(task)
        except Missing as reason:
            yield reason
