"""How time grows: with the samples, from a thousand to a hundred million rows, and with the parameters of a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sumgrad.bench import best_seconds, network

from .contender import Contender, Missing, Task
from .duel import Effort
from .ours import OURS, in_process
from .peers import named
from .report import Report, figure

ROWS = tuple(10**k for k in range(3, 9))
WIDTHS = (4, 16, 64, 256)
LONGEST = 20.0
"""Seconds that one call may take."""
MEMORY = 4e9
"""Bytes that a contender may take, and no more than half of what is free."""
DISTINCT = 100_000
"""Samples that differ; a larger set repeats them."""


@dataclass(frozen=True)
class Entrant:
    """A contender, and the arrays of a number a sample that it holds: data, a copy in another order, results kept for the way back."""

    name: str
    numbers: int
    least: int = 0
    """It takes part from more samples than these on."""

    def make(self, task: Task) -> Contender:
        """The contender for a task. Raises Missing."""
        return in_process(task) if self.name == OURS else named(self.name, task)


# A 3-4-4-1 network: 4 numbers of data, 9 activations and as many slopes.
ENTRANTS = (
    Entrant(OURS, 4),
    Entrant("NumPy by hand", 4 + 18),
    Entrant("JAX, batch by columns", 8 + 18),
    Entrant("JAX, scan over columns", 8, least=10_000),
)


def show(report: Report, effort: Effort) -> None:
    """Both tables."""
    _by_rows(report, effort)
    _by_parameters(report, effort)


def _by_rows(report: Report, effort: Effort) -> None:
    report.heading("Growth with the samples: nanoseconds a sample, 3-4-4-1 tanh, f64")
    found: dict[str, list[float | None]] = {entrant.name: [] for entrant in ENTRANTS}
    counts, notes = [rows for rows in ROWS if rows <= effort.samples], []
    for rows in counts:
        for entrant in ENTRANTS:
            reason = _too_much(entrant, rows, found[entrant.name])
            if reason:
                notes.append(reason)
            found[entrant.name].append(None if reason or rows <= entrant.least else _nanoseconds(entrant.make, _task(rows), effort, notes))
    report.table(["", *(f"{rows:,}" for rows in counts)], [[name, *map(_cell, values)] for name, values in found.items()])
    report.notes(notes)


def _too_much(entrant: Entrant, rows: int, before: list[float | None]) -> str | None:
    """Why this is left out: memory or time."""
    wanted, free = 8 * entrant.numbers * rows, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if wanted > min(MEMORY, free / 2):
        return f"{entrant.name}: {rows:,} rows would take {wanted / 1e9:.1f} GB, and were skipped"
    seconds = (before[-1] or 0.0) * rows * 1e-9 if before else 0.0
    return f"{entrant.name}: {rows:,} rows would take {seconds:.0f} s a call, and were skipped" if seconds > LONGEST else None


def _nanoseconds(make: Callable[[Task], Contender], task: Task, effort: Effort, notes: list[str]) -> float | None:
    try:
        contender = make(task)
    except Missing as reason:
        notes.append(str(reason))
        return None
    return best_seconds({"": contender.run}, effort.rounds, effort.seconds)[""] / contender.samples * 1e9


def _task(rows: int) -> Task:
    """So many rows, drawn once and then repeated."""
    work = network("a", [3, 4, 4, 1])
    drawn = Task.of(work, min(rows, DISTINCT), "f64")
    data = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in drawn.data.items()}
    return Task(work, rows, "f64", drawn.params, data)


def _by_parameters(report: Report, effort: Effort) -> None:
    samples = min(10_000, effort.samples)
    report.heading(f"Growth with the parameters: nanoseconds a sample, 2-w-w-1 tanh, f64, {samples:,} samples")
    rows: list[list[str]] = []
    notes: list[str] = []
    for width in WIDTHS:
        task = Task.of(network("a", [2, width, width, 1]), samples, "f64")
        times = [_nanoseconds(entrant.make, task, effort, notes) for entrant in ENTRANTS[:3]]
        rate = task.work.flops / times[0] if times[0] else None
        rows.append([str(width), f"{task.work.parameters:,}", *map(_cell, times), _cell(rate)])
    report.table(["w", "parameters", *(entrant.name for entrant in ENTRANTS[:3]), "our GFLOP/s"], rows)
    report.notes(notes)


def _cell(value: float | None) -> str:
    return "" if value is None else figure(value)
