"""How time is taken: in turns, the best of several rounds, each long enough for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sumgrad_engine.options import Options, Precision
from sumgrad_engine.program import chosen_evaluator

import sumgrad as sg

from .workload import Workload

SHORTEST = 2e-3
"""Seconds that a round lasts at least: fast work is repeated inside it."""


def gradient(objective: sg.Objective, params: Mapping[str, Any], data: Mapping[str, Any], precision: Precision = "f64") -> sg.Result:
    """One call of ours, as all benchmarks make it."""
    return objective.value_and_grad(params, data, precision=precision)


def precisions(work: Workload) -> tuple[Precision, ...]:
    """The precisions in which a workload can be timed here: float32 needs the compiler."""
    return work.precisions if chosen_evaluator(Options()) == "compiled" else ("f64",)


def best_seconds(runs: Mapping[str, Callable[[], object]], rounds: int = 25, budget: float = 2.0) -> dict[str, float]:
    """The seconds that one call of each takes at best.

    Each has its turn in every round, so that a slow moment of the machine meets all of them; one that would take more than `budget` seconds over
    all rounds sits out the later ones.
    """
    best = {name: _warm(run) for name, run in runs.items()}
    repeats = {name: max(1, int(SHORTEST / max(seconds, 1e-9))) for name, seconds in best.items()}
    for done in range(1, rounds + 1):
        for name, run in runs.items():
            if best[name] * repeats[name] * done <= budget:
                best[name] = min(best[name], _seconds(run, repeats[name]))
    return best


def _warm(run: Callable[[], object]) -> float:
    """About what a call takes; of a fast one the second, as caches are cold at first."""
    first = _seconds(run, 1)
    return first if first > SHORTEST else _seconds(run, 1)


def _seconds(run: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats
