"""The kill tests use the helpers of tests/server."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SUPPORT = Path(__file__).parents[1] / "server" / "support.py"


@pytest.fixture(scope="session")
def support() -> ModuleType:
    """The helpers of tests/server/support.py, loaded by path: test folders are no packages."""
    name = "sumgrad_tests_server_support"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SUPPORT)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
