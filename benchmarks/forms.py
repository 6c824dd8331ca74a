"""A workload as each library's users would write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .contender import Answer, Arrays, Contender, Task
from .space import Space


@dataclass(frozen=True)
class Forms:
    """One file under `work/` makes one of these. `s` is the library's mathematics; losses are summed over the samples."""

    by_hand: Callable[[Arrays, Arrays], Answer]
    """NumPy, with derivatives written out: the best that its author knows, and what all others are checked against."""
    rows: Callable[[Space, Any, Any], Any]
    """A batch of samples, a row each, in array operations."""
    columns: Callable[[Space, Any, Any], Any]
    """The same with a column for each sample: what was (samples, features) is (features, samples)."""
    scalar: Callable[[Space, Any, Any], Any]
    """One sample in scalar operations; parameters and data are nested lists of scalars."""
    penalty: Callable[[Space, Any, int], Any] | None = None
    """A term of the parameters alone, for array libraries."""
    penalty_by_hand: Callable[[Arrays, int], Answer] | None = None
    prepare: Callable[[Arrays], Arrays] = lambda data: data
    """The data as peers like it best, made before the clock starts."""
    limits: tuple[Callable[[Task], Contender], ...] = ()
    """What no library does: loops in C for this one model, or a function made for it. Each raises Missing where it can't be had."""


def total(form: Callable[[Space, Any, Any], Any], forms: Forms, s: Space, samples: int) -> Callable[[Any, Any], Any]:
    """The whole objective as a function of parameters and data."""
    penalty = forms.penalty
    if penalty is None:
        return lambda params, data: form(s, params, data)
    return lambda params, data: form(s, params, data) + penalty(s, params, samples)
