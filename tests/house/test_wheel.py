"""What is shipped."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = {"sumgrad", "sumgrad_engine", "sumgrad_proto", "sumgrad_server"}


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_four_packages_and_nothing_else(names: list[str]) -> None:
    """The wheel's top level is the four packages and their metadata."""
    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert len(top) == len(PACKAGES) + 1


def test_each_package_says_that_it_is_typed(names: list[str]) -> None:
    """py.typed in each, so that type checkers read the annotations."""
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_the_protocol_is_shipped_and_tests_are_not(names: list[str]) -> None:
    """People who write clients in other languages find the .proto files; nobody finds tests, caches or tools."""
    assert {"sumgrad_proto/v1/graph.proto", "sumgrad_proto/v1/service.proto"} <= set(names)
    stray = [name for name in names if "test" in name.lower() or "__pycache__" in name or name.endswith((".pyc", ".so", ".log"))]
    assert stray == []


def test_the_page_is_shipped(names: list[str]) -> None:
    """The templates and files of the server's page go along with its code."""
    observe = "sumgrad_server/observe"
    templates = {f"{observe}/templates/{name}.html" for name in ("base", "page", "live", "graph", "error")}
    assert templates | {f"{observe}/static/{name}" for name in ("style.css", "page.js", "icon.svg")} <= set(names)


def test_the_licence_is_shipped(names: list[str]) -> None:
    """MIT asks for its text to go along."""
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")] != []


def test_the_installed_wheel_imports(wheel: Path, tmp_path: Path) -> None:
    """Installed elsewhere, all four packages come from there and not from this checkout."""
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    done = subprocess.run(install, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = f"import {', '.join(sorted(PACKAGES))}; print(*[m.__file__ for m in ({', '.join(sorted(PACKAGES))})], sep='\\n')"
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert [Path(line).parent.parent for line in done.stdout.split()] == [target] * len(PACKAGES)
