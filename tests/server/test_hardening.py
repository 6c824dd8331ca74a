"""What a worker has, and what it can't do any more."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sumgrad_server import landlock
from sumgrad_server.hardening import MOST_DESCRIPTORS, worker_environment

SECRETS = {
    "SUMGRAD_TOKEN": "t",
    "SUMGRAD_SERVER_TLS_KEY": "",
    "AWS_SECRET_ACCESS_KEY": "a",
    "DATABASE_URL": "postgres://u:p@h",
    "GH_PAT": "x",
}
NEEDS_LANDLOCK = pytest.mark.skipif(landlock.version() == 0, reason="the kernel has no Landlock")


@pytest.fixture(scope="module")
def served(support: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with secrets in its environment, whose worker has computed something and kept its code."""
    with support.running(
        "--workers", "1", "--cache-dir", str(tmp_path_factory.mktemp("cache") / "made" / "by the worker"), environ=SECRETS
    ) as server:
        objective = support.slow_objective()
        graph_id = server.client.register(objective.graph)
        server.client.gradient(graph_id, objective.params, support.slow_samples(4))
        yield server


@pytest.fixture
def worker(served: Any) -> Path:
    """Where the kernel tells about the worker."""
    (pid,) = served.workers()
    return Path(f"/proc/{pid}")


def test_workers_see_no_secrets(worker: Path) -> None:
    """What is in the server's environment for others does not get to its workers."""
    found = dict(entry.split("=", 1) for entry in (worker / "environ").read_text().split("\0") if entry)
    assert found.keys() & SECRETS.keys() == set()
    assert {"PATH", "PYTHONPATH", "OMP_NUM_THREADS"} <= found.keys()


def test_the_environment_is_chosen_by_name() -> None:
    """Names that are needed pass; names that nobody foresaw do not."""
    given = {**SECRETS, "HOME": "/h", "LC_ALL": "C", "PYTHONPATH": "/p", "MALLOC_TRIM_THRESHOLD_": "1", "SUMGRAD_CACHE": ""}
    assert worker_environment(given) == {name: given[name] for name in given if name not in SECRETS}


def test_workers_inherit_no_descriptors(worker: Path) -> None:
    """A worker's channel, /dev/null, the log, and shared memory by pages: no listening socket, no state, no pipe of the server's parent."""
    found = {int(entry.name): os.readlink(entry) for entry in (worker / "fd").iterdir()}
    assert (found.pop(0), found.pop(1)) == ("/dev/null", "/dev/null")
    assert "/tmp" in found.pop(2)
    others = [what for what in found.values() if not what.startswith("/memfd:")]
    assert [what.partition(":")[0] for what in others] == ["socket"]


def test_limits_are_in_force(worker: Path) -> None:
    """No core dumps, few descriptors, no endless files; and they can't be raised again."""
    assert resource.prlimit(int(worker.name), resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(int(worker.name), resource.RLIMIT_NOFILE)[1] <= MOST_DESCRIPTORS
    assert resource.prlimit(int(worker.name), resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY
    assert "NoNewPrivs:\t1" in (worker / "status").read_text()


def test_compiled_code_is_kept_all_the_same(served: Any, worker: Path) -> None:
    """The directory for it is the one place where a worker still writes."""
    arguments = Path(f"/proc/{served.pid}/cmdline").read_text().split("\0")
    assert [*Path(arguments[arguments.index("--cache-dir") + 1]).iterdir()] != []


PROBE = """
import os, socket, subprocess, sys, threading
from pathlib import Path
from sumgrad_server.hardening import harden
from sumgrad_server.settings import Settings

folder, port, parent = Path(sys.argv[1]), int(sys.argv[2]), os.getppid()
harden(Settings(cache_dir=str(folder / "cache")))

def told(name, work):
    try:
        work()
    except OSError:
        print(name, "refused")
    else:
        print(name, "done")

def attempts():
    told("write", lambda: (folder / "new").write_text("x"))
    told("append", lambda: open(folder / "old", "a"))
    told("truncate", lambda: os.truncate(folder / "old", 0))
    told("remove", lambda: (folder / "old").unlink())
    told("rename", lambda: (folder / "old").rename(folder / "cache" / "moved"))
    told("run", lambda: subprocess.run(["/bin/true"]))
    told("connect", lambda: socket.create_connection(("127.0.0.1", port), timeout=5).close())
    told("listen", lambda: socket.create_server(("127.0.0.1", 0)).close())
    told("keep", lambda: (folder / "cache" / "code").write_bytes(b"x"))
    told("read", lambda: (folder / "old").read_text())
    told("memory", lambda: os.truncate(os.memfd_create("m"), 100))

attempts()
thread = threading.Thread(target=attempts)
thread.start()
thread.join()
"""
ALLOWED = {"keep", "read", "memory"}


@NEEDS_LANDLOCK
def test_what_a_hardened_process_can_do(tmp_path: Path) -> None:
    """It keeps code and reads; it changes no other file, runs no program and reaches nobody; nor do its threads."""
    (tmp_path / "old").write_text("old")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-c", PROBE, str(tmp_path), str(listening.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines()]
    network = landlock.version() < 4
    expected = [[name, "done" if name in ALLOWED or (network and name in {"connect", "listen"}) else "refused"] for name, _ in said]
    assert said == expected
    assert len(said) == 22
    assert (tmp_path / "old").read_text() == "old"


def test_without_landlock_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that knows none of it, or a container that forbids it, is no error."""

    def forbidden(number: int, *arguments: Any) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(landlock, "_syscall", forbidden)
    assert landlock.version() == 0
    assert landlock.restrict([Path("/")]) is False
