"""The demo runs, and shows what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from sumgrad.command import main

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
