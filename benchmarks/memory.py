"""Memory at peak, each contender in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    from .one_thread import confine

    confine()

from sumgrad.bench import WORKLOADS

from .children import ask
from .contender import Missing, Task
from .duel import Effort
from .ours import OURS, in_process
from .peers import named
from .report import Report, figure

NAMES = (
    OURS,
    "NumPy by hand",
    "JAX, batch by rows",
    "JAX, batch by columns",
    "JAX, scan over columns",
    "PyTorch, eager by rows",
    "PyTorch, eager by columns",
    "autograd",
)
WORKS = (0, 3, 8)
"""Their places in the list of workloads: the smallest network, the mixture in ten dimensions, the classifier."""


def show(report: Report, effort: Effort) -> None:
    """A table of megabytes: what libraries and data take, and what a call adds."""
    for place in WORKS:
        work = WORKLOADS[place]
        samples = min(effort.samples, max(work.samples))
        report.heading(f"Memory: ({work.key}) {work.name}, f64, {samples:,} samples")
        rows, notes = [], []
        for name in NAMES:
            try:
                found = ask("memory", place, samples, name, seconds=300)
            except Missing as reason:
                notes.append(f"{name}: {reason}")
            else:
                rows.append([name, figure(found["before"]), figure(found["peak"]), figure(found["peak"] - found["before"])])
        report.table(["megabytes", "libraries and data", "at peak", "added by calls"], rows)
        report.notes(notes)


def measure(place: int, samples: int, name: str) -> dict[str, float]:
    """Megabytes that this process has before the first call, and has had at most after three."""
    task = Task.of(WORKLOADS[place], samples, "f64", compile=False)
    contender = in_process(task) if name == OURS else named(name, task)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _peak_megabytes()
    for _ in range(3):
        contender.run()
    return {"before": before, "peak": _peak_megabytes()}


def _peak_megabytes() -> float:
    """The most memory that this process has held. Not getrusage's ru_maxrss, which begins with what the parent held when it forked."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
