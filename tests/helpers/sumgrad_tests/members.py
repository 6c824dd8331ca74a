"""Members of a run of `training` as processes, which can be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import support
from .served import kill

Launch = Callable[[str], "subprocess.Popen[str]"]
"""Starts the member of a name."""


def command(address: str, run: str, name: str, pace: float = 0.0) -> list[str]:
    """What starts a member, with so many seconds between two steps."""
    return [sys.executable, "-m", "sumgrad_tests.member", address, run, name, str(pace)]


def environment(**more: str) -> Mapping[str, str]:
    """What it finds in its environment: this package, beside ours."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **more}


def launcher(address: str, run: str, pace: float = 0.0) -> Launch:
    """Starts members on this machine."""

    def launch(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(command(address, run, name, pace), stdout=subprocess.PIPE, env=environment(), text=True)

    return launch


class Members:
    """Processes by the members' names."""

    def __init__(self, launch: Launch, *names: str) -> None:
        """Starts these members."""
        self._launch = launch
        self.running: dict[str, subprocess.Popen[str]] = {}
        for name in names:
            self.start(name)

    def start(self, name: str) -> None:
        """Starts a member."""
        self.running[name] = self._launch(name)

    def kill(self, name: str) -> None:
        """Kills a member."""
        process = self.running.pop(name)
        process.kill()
        process.communicate()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Sends a member a signal."""
        kill(self.running[name].pid, number)

    def finish(self, steps: int) -> None:
        """All members see the end of the run after so many steps, and end well."""
        for name, process in self.running.items():
            said, _ = process.communicate(timeout=support.PATIENCE)
            assert said.split()[1:] == [str(steps)], (name, said)
            assert process.returncode == 0, name

    def close(self) -> None:
        """Ends all that still runs."""
        for name in list(self.running):
            self.kill(name)


@contextmanager
def training_on(address: str, run: Any, *names: str, pace: float = 0.0) -> Iterator[Members]:
    """Members of a run on this machine, which are gone after the block."""
    members = Members(launcher(address, run.name, pace), *names)
    try:
        yield members
    finally:
        members.close()
