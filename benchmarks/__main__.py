"""`python -m benchmarks [PART ...] [--quick] [--write PAGE]`: measures and prints. `--help` lists the parts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .one_thread import confine

confine()

from sumgrad.bench import WORKLOADS, precisions  # noqa: E402 - the lines above come before NumPy

from . import compile_time, growth, memory, overhead, scalars, tables  # noqa: E402
from .duel import QUICK, Effort, duel  # noqa: E402
from .machine import description  # noqa: E402
from .report import Report  # noqa: E402

PARTS: dict[str, Callable[[Report, Effort], None]] = {
    "h": compile_time.show,
    "scalars": scalars.show,
    "overhead": overhead.show,
    "memory": memory.show,
    "growth": growth.show,
}
"""The parts that are no workloads."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts in order; all of them, if none is named."""
    letters = sorted({work.key for work in WORKLOADS})
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="sumgrad beside other libraries, one thread each.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join([*letters, *PARTS])}; all, if none is named")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, few samples, and nothing that compiles for long: a look, not a measurement"
    )
    parser.add_argument("--samples", type=int, default=None, help="at most so many samples")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into a page, between its marks")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - {*letters, *PARTS}:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    report = run(options.parts or [*letters, *PARTS], _effort(options))
    if options.write:
        report.write(options.write)
    return 0


def _effort(options: argparse.Namespace) -> Effort:
    chosen = QUICK if options.quick else Effort()
    return Effort(chosen.rounds, chosen.seconds, options.samples or chosen.samples, chosen.compile)


def run(parts: Sequence[str], effort: Effort) -> Report:
    """Everything that was asked for."""
    report = Report()
    report.notes(description())
    outcomes = []
    for work in WORKLOADS:
        if work.key in parts:
            for precision in precisions(work):
                outcomes.append(duel(work, precision, effort))
                tables.times(report, outcomes[-1])
    if outcomes:
        tables.efficiency(report, outcomes)
        tables.targets(report, outcomes)
    for name, show in PARTS.items():
        if name in parts:
            show(report, effort)
    return report


if __name__ == "__main__":
    sys.exit(main())
