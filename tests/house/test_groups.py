"""Tests of one group run in one process, one after the other: they share a deployment, or the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

pytestmark = pytest.mark.xdist_group("together")


@pytest.mark.parametrize("number", range(4))
def test_{name}(number, worker_id):
    with open("workers", "a") as file:
        print(worker_id, file=file)


def test_{name}_waits(worker_id):
    open("workers", "a").write(worker_id + "\\n")
"""


def test_groups_stay_together(tmp_path: Path) -> None:
    """Two modules of one group, with the distribution that the Makefile asks for, run in one worker of two."""
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(TESTS.replace("{name}", name))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = xdist_group\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    workers = (tmp_path / "workers").read_text().split()
    assert len(workers) == 10
    assert len(set(workers)) == 1, workers
