"""Fixtures: a server with two workers for tests that don't hurt it, and others to order."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load(path: Path) -> ModuleType:
    # Test folders are no packages: what they share is loaded by its path, once.
    name = f"sumgrad_tests_{path.parent.name}_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def support() -> ModuleType:
    """The helpers of support.py."""
    return _load(Path(__file__).parent / "support.py")


@pytest.fixture(scope="session")
def server(support: ModuleType) -> Iterator[Any]:
    """A server with two workers, shared by all tests that leave it whole."""
    with support.running("--workers", "2") as made:
        yield made
