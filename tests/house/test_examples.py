"""The examples do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sumgrad as sg

# What each example must print, with room for the last digits where they depend on the machine's libraries.
SAID = {
    "async_client": r"w = 2\.000   F\(w\) = 0\.057137   F'\(w\) = \+0\.077609",
    "digits": r"30    97\.\d\d%         97\.\d\d%\nafter 210 steps of 3 members no weight differs from scikit-learn's by more than \d\.\de-1[0-9]",
    "hessian": r"Newton step 10: w = \[0\.49\d+ 0\.79\d+\], \|gradient\| = [\d.]+e-(0[89]|1\d)",
    "logistic_regression": r"7\d\.\d% of 20,000 samples on the right side",
    "moons": r"accuracy (9[5-9]\.\d|100\.0)%",
    "nist_fit": r"b1 = 2\.38942129\d+E\+02, .*\nb2 = 5\.50156431\d+E-04, ",
    "resident_data": r"samples: 50,000 samples, 1,600,000 bytes .*\nw = \[ ?1\.\d -[12]\.\d .*\], 8\d\.\d%",
    "scalar": r"e = 0\.071945, de/da = 0\.142596, de/db = 0\.503614, by the service",
    "train_compose": r"step 200 .*\ntrained: loss [\d.]+ accuracy 100\.0% after 300 steps, parameters ([0-9a-f]{64})",
    "train_together": r"3 members took [\d,]+ samples\n(2 members took [\d,]+ samples\n)+(1 members .*\n)*step 2,000: w = \[.*\], 8\d\.\d% of the samples",
}


def _run(script: Path, folder: Path, *arguments: str) -> str:
    """What an example prints, with warnings as errors; it runs in a folder of its own."""
    command = [sys.executable, "-W", "error", str(script), *arguments]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run(repository: Path) -> None:
    """The table above has a line for each example, and no line for one that is gone."""
    assert {path.stem for path in (repository / "examples").glob("*.py")} == SAID.keys()


@pytest.mark.parametrize("name", sorted(SAID.keys() - {"train_compose"}))
def test_example_runs(repository: Path, tmp_path: Path, name: str) -> None:
    """An example ends well, without a warning, and prints the figures that it is about."""
    said = _run(repository / "examples" / f"{name}.py", tmp_path)
    assert re.search(SAID[name], said), said


def test_compose_example_trains_with_others(repository: Path, tmp_path: Path) -> None:
    """Two members of the example of docker-compose.yml end a run through a server that is already there, with the same parameters."""
    with sg.local(workers=1) as service, ThreadPoolExecutor() as pool:
        assert service.process is not None
        command = [repository / "examples" / "train_compose.py", tmp_path, service.process.address, "--steps", "300"]
        members = [pool.submit(_run, *command, "--member", name, "--seed", seed) for name, seed in (("a", "1"), ("b", "2"))]
        found = [re.search(SAID["train_compose"], member.result()) for member in members]
    assert all(found)
    assert len({match[1] for match in found if match}) == 1
