"""Measurements that need a process of their own: it starts as we did, on one core, and answers with a line of JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .contender import Missing

ROOT = Path(__file__).resolve().parents[1]
SLOW = "more than"
"""How the reason begins when a process took too long."""


def ask(module: str, *arguments: object, seconds: float) -> dict[str, Any]:
    """What `python -m benchmarks.MODULE ARGUMENTS` answers in its last line. Raises Missing with the reason if it fails or takes too long."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    with tempfile.TemporaryDirectory(prefix="sumgrad-bench-") as folder:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            command,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        said, errors = _wait(child, seconds)
    if child.returncode:
        reason = (errors.strip().splitlines() or ["killed"])[-1]
        raise Missing(reason.removeprefix("benchmarks.contender.Missing: ")[:160])
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def _wait(child: subprocess.Popen[str], seconds: float) -> tuple[str, str]:
    """What it says, if it says it in time. The compilers that it started end with it."""
    try:
        return child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Missing(f"{SLOW} {seconds:,.0f} s") from None
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
