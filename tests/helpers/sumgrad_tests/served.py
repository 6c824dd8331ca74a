"""A server that must leave nothing behind: no process, no descriptor, no shared memory, no temporary file."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import support
from .processes import descriptors, open_files

GRAPHS = 128
SLACK = 2 * GRAPHS + 40
"""Descriptors that may come to stay: two each of graphs, and of arenas that are kept for the next request."""
FLAGS = ("--max-graphs", str(GRAPHS))


@contextlib.contextmanager
def served(folder: Path, *flags: str, prefix: Sequence[str] = (), graceful: bool = True) -> Iterator[Any]:
    """A server whose temporary files go to `folder`/tmp. When the block ends it is told to drain, and must, and nothing of it may be left."""
    temporary = folder / "tmp"
    temporary.mkdir()
    shared = named_memory()
    with support.running(*FLAGS, *flags, prefix=prefix, environ={"TMPDIR": str(temporary)}) as server:
        held = descriptors(server.pid)
        yield server
        workers = server.workers()
        if graceful:
            support.wait_until(lambda: descriptors(server.pid) <= held + SLACK, f"descriptors to be closed: {open_files(server.pid)}")
            assert server.terminate() == 0, server.said()[-3000:]
        support.wait_until(lambda: not any(map(support.is_alive, workers)), "the workers to go")
        assert not any(map(support.is_alive, children_named("sumgrad_server", server.pid))), "a process was left behind"
    assert list(temporary.iterdir()) == []
    assert named_memory() <= shared


def named_memory() -> set[str]:
    """Shared memory with a name that Python or a server of ours gives."""
    return {name for name in os.listdir("/dev/shm") if "sumgrad" in name or name.startswith("psm_")}


def children_named(module: str, parent: int) -> list[int]:
    """Processes that run a module and have this parent, or had it."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent and module in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
    return found


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
