"""What the tests of the engine share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

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
def graphs() -> ModuleType:
    """Random expressions: random_graphs.py."""
    return _load(Path(__file__).parent / "random_graphs.py")
