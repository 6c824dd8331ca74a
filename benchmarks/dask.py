"""`python -m benchmarks.dask [--quick]`: the Dask executor beside the processes of one machine, with the same number of workers, in one run.

All of it runs on this machine: scheduler, workers, server and client share its cores. What is measured is the overhead; what a cluster is for, more
machines, is not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sumgrad as sg
from sumgrad.bench import WORKLOADS, processor
from sumgrad.launch import server_environment

from .report import Report, figure

WORKERS = 2
ROUNDS = 3
START_SECONDS = 30.0


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """The address of a scheduler with two workers of one thread."""
    told = folder / "scheduler.json"
    scheduler = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(told)]
    processes = [_started(scheduler)]
    try:
        address = _address(told)
        flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
        processes += [_started(["dask_worker", address, *flags]) for _ in range(WORKERS)]
        yield address
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _started(command: Sequence[str]) -> subprocess.Popen[bytes]:
    program, *arguments = command
    full = [sys.executable, "-m", f"distributed.cli.{program}", *arguments]
    return subprocess.Popen(full, stderr=subprocess.DEVNULL, env=server_environment())  # noqa: S603 - programs of a library that we depend on


def _address(told: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            return str(json.loads(told.read_text())["address"])
        time.sleep(0.02)
    raise TimeoutError("the scheduler did not start")


def seconds(work: Callable[[], object], calls: int) -> float:
    """The median time of some calls, after one that prepares."""
    work()
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def works(service: sg.Service, rows: int) -> dict[str, tuple[Callable[[], Any], int]]:
    """What is measured, and how often."""
    workload = next(found for found in WORKLOADS if found.key == "b")
    objective, data, params = workload.objective(rows), workload.data(rows), workload.params
    small = {name: values[:512] for name, values in data.items()}
    resident = service.upload(data, name=f"rows {rows}", progress=False)
    return {
        "512 samples sent along": (lambda: service.value_and_grad(objective, params, small), 100),
        f"{rows:,} samples sent along": (lambda: service.value_and_grad(objective, params, data), 5),
        f"{rows:,} resident rows": (lambda: service.value_and_grad(objective, params, resident), 5),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dask", description="The Dask executor beside processes.")
    parser.add_argument("--quick", action="store_true", help="few rows: a look, not a measurement")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into a page, between its marks")
    options = parser.parse_args(arguments)
    sizes = [100_000] if options.quick else [1_000_000, 10_000_000]
    report = Report()
    report.notes(
        [f"{processor()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, distributed {version('distributed')}"]
    )
    rows: list[list[str]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder)) as address,
        sg.local(workers=WORKERS) as here,
        sg.local(workers=1, flags=["--executor", address]) as there,
    ):
        for size in sizes:
            rows += measured(here, there, size)
    report.heading(f"{WORKERS} workers")
    report.table(["sum", "processes, ms", "Dask, ms", "Dask / processes"], rows)
    if options.write:
        report.write(options.write)
    return 0


def measured(here: sg.Service, there: sg.Service, size: int) -> list[list[str]]:
    """A line for each kind of sum; both have the same bits."""
    lines = []
    ours, theirs = works(here, size), works(there, size)
    for name, (work, calls) in ours.items():
        other, _ = theirs[name]
        assert work().value == other().value, name
        pairs = [(seconds(work, calls), seconds(other, calls)) for _ in range(ROUNDS)]
        process, dask = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        lines.append([name, figure(process), figure(dask), figure(dask / process)])
    return lines


if __name__ == "__main__":
    sys.exit(main())
