"""Signs of life: what is told of a process that computes, sleeps, is stopped, or is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from sumgrad_server.pulse import Effort, Heart, Pulse


def test_a_pulse_is_missed_until_it_beats() -> None:
    """Every look without a beat since the last one counts, and a beat ends the count."""
    pulse = Pulse()
    heart = Heart(pulse.fd)
    assert [pulse.missed() for _ in range(3)] == [1, 2, 3]
    heart.beat()
    assert [pulse.missed() for _ in range(2)] == [0, 1]


def test_a_process_that_computes_shows_it_and_one_that_is_stopped_does_not(support: Any) -> None:
    """A loop shows effort at each look; stopped, it shows none after the look that saw the last of it."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        effort = Effort()
        support.wait_until(lambda: effort.shown(process.pid), "the loop to begin")
        os.kill(process.pid, signal.SIGSTOP)
        support.wait_until(lambda: not effort.shown(process.pid), "the loop to stand still")
        assert not effort.shown(process.pid)
        os.kill(process.pid, signal.SIGCONT)
        support.wait_until(lambda: effort.shown(process.pid), "the loop to go on")
    finally:
        process.kill()
        process.wait()
    assert not effort.shown(process.pid)
