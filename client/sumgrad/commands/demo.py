"""`sumgrad demo`: what the service is for, in five parts."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the picture goes, and how many workers the server gets."""
    parser.add_argument("--picture", type=Path, default=Path("demo-moons.png"), help="the decision boundary (default: ./%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Starts a server on a free loopback port and shows it five jobs."""
    from sumgrad.demo import run_demo  # it needs the extra "demo"

    run_demo(workers=options.workers, picture=options.picture)
    return 0


COMMAND = Command("demo", "start a server here and show what it is for, in five parts", run, add_arguments)
