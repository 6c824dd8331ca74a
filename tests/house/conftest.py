"""What the tests of the house look at: tracked files, their syntax trees, and a built wheel."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

GENERATED = ("_pb2.py", "_pb2_grpc.py")


def parsed(paths: list[Path]) -> Iterator[tuple[Path, ast.Module]]:
    """The syntax tree of each Python file among these."""
    for path in paths:
        if path.suffix == ".py":
            yield path, ast.parse(path.read_text(), filename=str(path))


@pytest.fixture(scope="session")
def tracked(repository: Path) -> list[Path]:
    """The files that git tracks, or would if they were added."""
    command = ["git", "-C", str(repository), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for path in (repository / name for name in listed if name) if path.is_file()]


@pytest.fixture(scope="session")
def sources(repository: Path, tracked: list[Path]) -> list[tuple[Path, ast.Module]]:
    """The Python files of the four packages that people wrote, each with its syntax tree."""
    folders = tuple(repository / name for name in ("proto", "engine", "server", "client"))
    written = [path for path in tracked if path.is_relative_to(repository) and not path.name.endswith(GENERATED)]
    return list(parsed([path for path in written if any(path.is_relative_to(folder) for folder in folders)]))


@pytest.fixture(scope="session")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(repository)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = folder.glob("*.whl")
    return made
