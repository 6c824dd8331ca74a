"""The command line, as far as it needs no server."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sumgrad.command import main


def test_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """--help names every command."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("serve", "demo", "health", "graph", "datasets", "runs"))


def test_unknown_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that a command does not have is a usage error."""
    with pytest.raises(SystemExit) as ended:
        main(["health", "127.0.0.1:1", "--fast"])
    assert ended.value.code == 2
    assert "--fast" in capsys.readouterr().err


def test_health_of_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody at the address is status 1 and one line."""
    assert main(["health", "unix:/nonexistent/socket", "--timeout", "0.2"]) == 1
    assert capsys.readouterr().err.startswith("sumgrad health: ")


def test_other_machines_need_permission(capsys: pytest.CaptureFixture[str]) -> None:
    """The command keeps to this machine too."""
    assert main(["health", "198.51.100.7:50051"]) == 1
    assert "insecure=True" in capsys.readouterr().err


def test_import_loads_no_grpc() -> None:
    """A program that stays in its process does not pay for gRPC."""
    code = "import sys, sumgrad as sg; sg.nn; assert 'grpc' not in sys.modules; sg.connect; assert 'grpc' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
