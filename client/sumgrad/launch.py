"""A server on this machine, as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from sumgrad_engine.options import Evaluator

from .errors import ServerStartError

_MODULE = "sumgrad_server"
_STOP_SECONDS = 20.0
_LOG_TAIL = 4000  # bytes


def server_command(flags: Sequence[str]) -> list[str]:
    """The command that runs a server with these flags."""
    return [sys.executable, "-m", _MODULE, *flags]


def tools_command(name: str, flags: Sequence[str]) -> list[str]:
    """The command that runs one of the server package's tools."""
    return [sys.executable, "-m", f"{_MODULE}.tools", name, *flags]


def server_environment() -> dict[str, str]:
    """The environment of this process, with malloc told to keep large blocks.

    Messages of many megabytes are otherwise bound by page faults: 279 MB/s against 1,375 for one of 64 MB (DESIGN.md, known traps). The limits
    are read when a process starts, so they have to come from here.
    """
    kept = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
    return {**kept, **os.environ}


class ServerProcess:
    """A running server that goes when this object is stopped, or this process ends."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
        self.process = process
        self.address = address
        self._log = log

    @classmethod
    def start(
        cls,
        *,
        workers: int = 2,
        evaluator: Evaluator = "auto",
        state_dir: str | os.PathLike[str] | None = None,
        flags: Sequence[str] = (),
        startup_timeout: float = 60.0,
    ) -> ServerProcess:
        """Starts a server on a free loopback port and waits until it listens. `flags` are further ones of `sumgrad serve`.

        Raises ServerStartError with what the server said, and with the cure if a package is missing.
        """
        if workers < 1:
            raise ValueError(f"a server needs at least one worker, not workers={workers}")
        own = ["--address", "127.0.0.1:0", "--workers", str(workers), "--evaluator", evaluator, "--announce", "--exit-with-parent"]
        own += ["--state-dir", os.fspath(state_dir)] if state_dir is not None else []
        own.append("--ignore-environment")  # which may be for another server, that others reach
        # The log lives as long as the server: a pipe that nobody reads would block it.
        log = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(  # noqa: S603 - our own command
            server_command([*own, *flags]), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=server_environment()
        )
        try:
            return cls(process, _announced_address(process, log, startup_timeout), log)
        except BaseException:
            _end(process)
            log.close()
            raise

    @property
    def pid(self) -> int:
        """The server's process id; its workers are its children."""
        return self.process.pid

    def log(self) -> str:
        """The last lines that the server wrote."""
        return "" if self._log.closed else _tail(self._log)

    def stop(self) -> None:
        """Asks the server to finish what it has begun and to go, and waits for that. Stopping twice is fine."""
        _end(self.process)
        self._log.close()


def _announced_address(process: subprocess.Popen[bytes], log: IO[bytes], timeout: float) -> str:
    line = _first_line(process, timeout)
    if line is None:
        raise ServerStartError(f"the server did not listen within {timeout:g} s; it said:\n{_tail(log)}")
    if not line:
        process.wait()
        raise ServerStartError(_why(_tail(log), process.returncode))
    try:
        return str(json.loads(line)["address"])
    except (ValueError, KeyError, TypeError):
        raise ServerStartError(f"the server announced {line!r}, which is not an address") from None


def _first_line(process: subprocess.Popen[bytes], timeout: float) -> bytes | None:
    """The first line on the process's stdout, b"" if it ended before, None if neither came in time."""
    assert process.stdout is not None
    end = time.monotonic() + timeout
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, end - time.monotonic())):
                return None
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                return b""
            line += piece
    return line


def _tail(log: IO[bytes]) -> str:
    # pread: the server writes through the same file offset, which a seek here would move.
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), _LOG_TAIL, max(0, size - _LOG_TAIL)).decode(errors="replace").strip()


def _why(said: str, code: int) -> str:
    missing = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'\Z", said)
    if missing:
        return f'the server needs {missing[1]!r}, which is not installed here. Install it with: pip install "sumgrad[server]"'
    return f"the server ended with exit code {code} before it listened; it said:\n{said}"


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
