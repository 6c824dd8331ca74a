"""The worker processes of a server, as Linux shows them under /proc."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["busy_seconds", "worker_pids"]

_PROC = Path("/proc")
_WORKER = b"sumgrad_server.worker"


def worker_pids(server: int) -> list[int]:
    """The process ids of a server's workers. OSError where there is no /proc."""
    children = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal() and _parent(int(entry.name)) == server]
    return sorted(pid for pid in children if _WORKER in _command_line(pid))


def busy_seconds(pid: int) -> float:
    """Processor time that a process has used so far; 0 if it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: the second is a name, which may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command_line(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
