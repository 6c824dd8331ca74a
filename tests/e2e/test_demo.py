"""The demo and the examples run, and show what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sumgrad.command import main

ROOT = Path(__file__).parents[2]
# The compose client needs a server that is there already; its own test brings one up.
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py") if path.name != "train_compose.py")

KNOWN = """\
    loss 10.24      w 1.68
    loss 0.4096     w 1.936
    loss 0.01638    w 1.987
    loss 0.0006554  w 1.997
    loss 2.621e-05  w 1.999
    loss 1.049e-06  w 2
"""


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All five parts: go-micrograd's known lines, both networks, NIST's digits, and the same bits after a kill."""
    picture = tmp_path / "moons.png"
    assert main(["demo", "--picture", str(picture)]) == 0
    said = capsys.readouterr().out
    assert KNOWN in said
    assert "accuracy 100%" in said
    assert said.count("11.0 digits agree") == 4
    assert "kill -9" in said
    assert "the same bits" in said
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_there_are_examples() -> None:
    """The scripts that the next test runs are found."""
    assert len(EXAMPLES) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, tmp_path: Path) -> None:
    """The script runs from any folder with warnings as errors, and prints something."""
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2
