"""`sumgrad bench`: what a gradient costs on this machine."""

from __future__ import annotations

import argparse

from .command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which workloads, and how much of them."""
    parser.add_argument("workloads", nargs="*", metavar="LETTER", help="a to g; all of them, if none is named")
    parser.add_argument("--samples", type=int, help="samples a call (default: each workload's own)")
    parser.add_argument("--rounds", type=int, default=25, help="rounds, of which the best counts (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Prints nanoseconds a sample for each workload."""
    from sumgrad.bench import run_bench  # it needs the extra "server"

    run_bench(options.workloads, samples=options.samples, rounds=options.rounds)
    return 0


COMMAND = Command("bench", "time gradients of some models on this machine", run, add_arguments)
