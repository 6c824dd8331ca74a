"""Dask clusters on this machine, for tests: a scheduler and workers as processes of their own, ended by their numbers."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PATIENCE = 60.0


class Cluster:
    """One scheduler; workers come and go. `tls` are the flags of an encrypted one."""

    def __init__(self, folder: Path, tls: Sequence[str] = ()) -> None:
        self._folder, self._tls = folder, list(tls)
        self._started = 0
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""
        self.scheduler = self._start_scheduler("0")

    def add_workers(self, count: int) -> None:
        """Starts some more, of one thread each, and does not wait for them."""
        for _ in range(count):
            place = self._folder / f"worker {len(self.workers)}"
            flags = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(place), *self._tls]
            self.workers.append(self._start("dask_worker", self.address, *flags))

    def kill_workers(self, count: int | None = None) -> None:
        """Kills the oldest ones, or all."""
        for worker in self.workers[:count]:
            _end(worker)
        del self.workers[:count]

    def restart_scheduler(self) -> None:
        """Kills it, and starts another at the same port."""
        _end(self.scheduler)
        self.scheduler = self._start_scheduler(self.address.rpartition(":")[2])

    def stop(self) -> None:
        """Ends everything."""
        self.kill_workers()
        _end(self.scheduler)

    def _start_scheduler(self, port: str) -> subprocess.Popen[bytes]:
        self._started += 1
        told = self._folder / f"scheduler {self._started}.json"
        flags = ["--host", f"{'tls' if self._tls else 'tcp'}://127.0.0.1", "--port", port, "--no-dashboard", *self._tls]
        process = self._start("dask_scheduler", "--scheduler-file", str(told), *flags)
        self.address = self._address(told, process)
        return process

    def _address(self, told: Path, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                return str(json.loads(told.read_text())["address"])
            time.sleep(0.02)
        raise RuntimeError(f"the scheduler did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            environ = {**os.environ, "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False"}
            return subprocess.Popen([sys.executable, "-m", f"distributed.cli.{program}", *arguments], stdout=log, stderr=log, env=environ)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@contextlib.contextmanager
def cluster(folder: Path, workers: int, tls: Sequence[str] = ()) -> Iterator[Cluster]:
    """A cluster of so many workers."""
    made = Cluster(folder, tls)
    try:
        made.add_workers(workers)
        yield made
    finally:
        made.stop()
