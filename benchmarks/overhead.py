"""What a call costs that has next to nothing to sum: one sample of the smallest network."""

from __future__ import annotations

from sumgrad.bench import WORKLOADS, best_seconds

from .contender import Contender, Task
from .duel import Effort
from .ours import in_process
from .peers import peers
from .report import Report, figure

WITHIN = 30.0
"""Microseconds that a call of ours may take beyond its sums."""


def show(report: Report, effort: Effort) -> None:
    """A table of microseconds a call."""
    task = Task.of(WORKLOADS[0], 1, "f64", compile=effort.compile)
    present, missing = peers(task)
    entered: list[Contender] = [in_process(task), *present]
    for contender in entered:
        contender.run()  # compiles
    best = best_seconds({contender.name: contender.run for contender in entered}, effort.rounds, effort.seconds)
    report.heading(f"Overhead: one sample of the {task.work.name} network")
    report.table(["microseconds a call", ""], [[name, figure(seconds * 1e6)] for name, seconds in best.items()])
    ours = best[entered[0].name] * 1e6
    report.notes([*missing, f"target: within {WITHIN:.0f} microseconds; {'met' if ours < WITHIN else 'not met'} with {ours:.1f}"])
