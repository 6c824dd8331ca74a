"""What the pool of workers is doing, counted: for the status, metrics and the page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .tasks import Cost


@dataclass
class Totals:
    """Counters since the start."""

    jobs_finished: int = 0
    jobs_failed: int = 0
    samples: int = 0
    shards: int = 0
    worker_restarts: int = 0
    programs: int = 0
    prepare_seconds: float = 0.0
    compute_seconds: float = 0.0

    def count(self, cost: Cost) -> None:
        """Counts a shard."""
        self.shards += 1
        self.programs += cost.prepare > 0.0
        self.prepare_seconds += cost.prepare
        self.compute_seconds += cost.compute


@dataclass(frozen=True)
class WorkerCensus:
    """One worker: `shards` that it has done, memory that it holds beside what is shared."""

    number: int
    pid: int
    state: Literal["starting", "idle", "busy"]
    shards: int
    resident_bytes: int


@dataclass(frozen=True)
class Census:
    """What the pool is doing now."""

    workers: tuple[WorkerCensus, ...]
    active_jobs: int
    shared_bytes: int
    totals: Totals


def resident_bytes(pid: int) -> int:
    """Memory that a process holds for itself; 0 if it is gone, or this machine doesn't say."""
    try:
        pages = (Path("/proc") / str(pid) / "statm").read_text().split()
    except OSError:
        return 0
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
