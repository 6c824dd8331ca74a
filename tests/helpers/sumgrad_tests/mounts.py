"""File systems of a process's own, small enough to be filled."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare, for file systems of its own"
)


def with_mount(folder: Path, nbytes: int, then: str = "true") -> Sequence[str]:
    """A command that runs another one where this folder is a small file system in memory, seen by nobody else and gone with it."""
    mount = f'mount -t tmpfs -o size={nbytes} tmpfs "{folder}" && {then} && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, "sh"]


def seen_by(pid: int, path: Path) -> Path:
    """Where a file of this process's view is in ours."""
    return Path(f"/proc/{pid}/root", path.relative_to("/"))
