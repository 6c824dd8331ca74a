"""Who may import whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BASE_ONLY = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"scipy", "matplotlib", "grpc_reflection", "llvmlite", "aiohttp", "jinja2", "prometheus_client", "opentelemetry"}:
            raise ImportError(f"{name} is not part of the base install")

sys.meta_path.insert(0, Refuse())
import sumgrad
for name in sumgrad.__all__:
    getattr(sumgrad, name)
import sumgrad.command
assert "sumgrad_server" not in sys.modules
print("imported")
"""


def test_the_layers_hold(repository: Path) -> None:
    """import-linter finds no import against the contracts in pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    linted = subprocess.run(command, cwd=repository, check=False, capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_base_install_is_enough_to_import() -> None:
    """`import sumgrad`, all its names and its command need nothing of the extras, and nothing of the server."""
    done = subprocess.run([sys.executable, "-c", BASE_ONLY], check=False, capture_output=True, text=True)
    assert done.stdout == "imported\n", done.stderr


def test_the_engine_loads_no_network() -> None:
    """Importing the engine brings in no gRPC, no protobuf, no asyncio and no multiprocessing."""
    code = "import sys, sumgrad_engine; print(*sorted({'grpc', 'google.protobuf', 'asyncio', 'multiprocessing'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
