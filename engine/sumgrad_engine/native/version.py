"""The version of generated code: what was compiled by another one is not used."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

_FOLDERS = (Path(__file__).parent, Path(__file__).parent.parent)


def _sources() -> bytes:
    """The text of the engine: any change of it may change the code."""
    files = sorted({file for folder in _FOLDERS for file in folder.rglob("*.py")})
    return b"".join(file.read_bytes() for file in files)


VERSION = f"{hashlib.sha256(_sources()).hexdigest()} llvmlite {metadata.version('llvmlite')}"
"""Names the engine's sources and the compiler behind them."""
