"""One workload in one precision: who takes part, whether they agree, and what each takes at several numbers of samples."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import sumgrad as sg
from sumgrad.bench import Workload, best_seconds
from sumgrad_engine.options import Precision

from .contender import Contender, Task
from .forms import Forms
from .ours import OURS, by_service, in_process
from .peers import peers
from .work import forms


@dataclass(frozen=True)
class Effort:
    """How thorough a run is."""

    rounds: int = 25
    seconds: float = 1.5
    """Budget of one contender at one number of samples."""
    samples: int = 10**9
    """No more samples than these."""
    compile: bool = True


QUICK = Effort(rounds=3, seconds=0.2, samples=10_000, compile=False)
SERVED = {"a", "b", "f"}
"""Workloads that are also sent to a server."""


@dataclass
class Outcome:
    """Nanoseconds a sample, by contender and number of samples."""

    work: Workload
    precision: Precision
    nanoseconds: dict[str, dict[int, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> list[int]:
        """The numbers of samples."""
        return list(self.nanoseconds[OURS])

    def ratio(self, name: str, count: int) -> float | None:
        """A contender's time over ours."""
        found = self.nanoseconds[name].get(count)
        return None if found is None else found / self.nanoseconds[OURS][count]


def duel(work: Workload, precision: Precision, effort: Effort) -> Outcome:
    """Everybody's time, all gradients checked before."""
    outcome = Outcome(work, precision)
    for samples in sorted({min(samples, effort.samples) for samples in work.samples}):
        with ExitStack() as stack:
            task = Task.of(work, samples, precision, compile=effort.compile)
            present, missing = peers(task)
            outcome.notes += missing
            entered = [*_ours(task, stack), *present]
            fit = [contender for contender in entered if _agrees(contender, task, forms(work), outcome)]
            seconds = best_seconds({contender.name: contender.run for contender in fit}, effort.rounds, effort.seconds)
            for contender in fit:
                outcome.nanoseconds.setdefault(contender.name, {})[samples] = seconds[contender.name] / contender.samples * 1e9
    return outcome


def _ours(task: Task, stack: ExitStack) -> Iterable[Contender]:
    yield in_process(task)
    if task.work.key in SERVED and task.precision == "f64":
        yield by_service(stack.enter_context(sg.local(workers=1)), task)


def _agrees(contender: Contender, task: Task, found: Forms, outcome: Outcome) -> bool:
    """Whether value and gradient are NumPy's in float64; ours must be, and a peer that is not is left out and said to be."""
    few = Task.of(task.work, task.samples, "f64").first(contender.samples) if task.precision == "f64" else _doubled(task, contender.samples)
    try:
        error = deviation(contender, few, found)
    except Exception as failure:
        if contender.family == OURS:
            raise
        outcome.notes.append(f"{contender.name} fails and is left out: {str(failure).strip().splitlines()[0]}")
        return False
    if error > task.tolerance and contender.family == OURS:
        raise ValueError(f"{task.work.name}, {task.precision}, {task.samples:,} samples: {contender.name} is off by {error:.1e}")
    if error > task.tolerance:
        outcome.notes.append(f"{contender.name} is off by {error:.1e} and is left out")
    return error <= task.tolerance


def _doubled(task: Task, samples: int) -> Task:
    """The float32 data of a task as float64, so that both sides are given the same numbers."""
    few = task.first(samples)
    double = {name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in few.data.items()}
    params = {name: array.astype(np.float64) for name, array in few.params.items()}
    return Task(few.work, few.samples, "f64", params, double, few.compile)


def deviation(contender: Contender, few: Task, found: Forms) -> float:
    """The largest error of value or gradient, relative to the value and to the gradient's largest entry."""
    value, grads = contender.read(contender.run())
    wanted_value, wanted = found.by_hand(few.params, few.data)
    largest = max(float(np.abs(array).max()) for array in wanted.values())
    errors = [float(np.abs(np.asarray(grads[name], np.float64) - wanted[name]).max()) / largest for name in wanted]
    return float(np.max([abs(value - wanted_value) / abs(wanted_value), *errors]))
