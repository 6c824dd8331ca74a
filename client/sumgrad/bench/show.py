"""`sumgrad bench`: what a gradient costs on this machine."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from sumgrad_engine.options import Precision

from .models import WORKLOADS
from .timing import best_seconds, gradient, precisions
from .workload import Workload


def run_bench(letters: Iterable[str] = (), *, samples: int | None = None, rounds: int = 25) -> None:
    """Times the workloads of these letters (all, if none) with one thread in this process, and prints a line for each.

    `samples` is the number of samples, if it is to be another than each workload's own largest. Raises ValueError for an unknown letter.
    """
    wanted = tuple(letters) or tuple(sorted({work.key for work in WORKLOADS}))
    unknown = set(wanted) - {work.key for work in WORKLOADS}
    if unknown:
        raise ValueError(f"there is no workload {', '.join(sorted(unknown))}; there are {', '.join(sorted({w.key for w in WORKLOADS}))}")
    print(f"sumgrad {_version()}, {processor()}, Python {platform.python_version()}; one thread, best of {rounds} rounds")
    print(f"  {'':42}{'samples':>10}{'ns a sample':>13}{'GFLOP/s':>9}  evaluator")
    for work in WORKLOADS:
        if work.key in wanted:
            for precision in precisions(work):
                _print(work, precision, samples or max(work.samples), rounds)


def _print(work: Workload, precision: Precision, samples: int, rounds: int) -> None:
    objective, data = work.objective(samples), work.data(samples, precision)
    evaluator = gradient(objective, work.params, data, precision).evaluator  # compiles
    seconds = best_seconds({"ours": lambda: gradient(objective, work.params, data, precision)}, rounds)["ours"] / samples
    name = f"{work.key}  {work.name} {precision}"
    print(f"  {name:42}{samples:10,}{seconds * 1e9:13,.1f}{work.flops / seconds / 1e9:9.2f}  {evaluator}", flush=True)


def processor() -> str:
    """The name that the processor gives itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version() -> str:
    from importlib.metadata import version

    return version("sumgrad")
