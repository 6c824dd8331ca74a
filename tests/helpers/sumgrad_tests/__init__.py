"""What the tests of several folders share. pytest has the folder above on its path; test folders themselves are no packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TESTS = Path(__file__).resolve().parents[2]


def _load(path: Path) -> ModuleType:
    # Once, under the name that the fixtures of the folders use: whoever asks gets the same module.
    name = f"sumgrad_tests_{path.parent.name}_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


support = _load(TESTS / "server" / "support.py")
"""A real server, and a client made of nothing but the generated messages."""
