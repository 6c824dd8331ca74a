"""A container engine with compose, and projects on it that leave nothing behind. SUMGRAD_REQUIRE_CONTAINERS=1 makes a missing engine a failure."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Done = subprocess.CompletedProcess[str]
PATIENCE = 120.0
"""How long something that comes may take, in seconds. Nothing waits so long but where the test fails."""


def run(*command: str, timeout: float = 60.0, environ: dict[str, str] | None = None) -> Done:
    """Runs a command to its end, whatever that is."""
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environ or {})})


def piped(*command: str, given: bytes | None = None, timeout: float = 60.0, environ: dict[str, str] | None = None) -> bytes:
    """The bytes that a command writes, which succeeds."""
    done = subprocess.run(command, check=False, capture_output=True, input=given, timeout=timeout, env={**os.environ, **(environ or {})})
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def docker(*arguments: str, timeout: float = 60.0) -> str:
    """What a command of the engine says that succeeds."""
    done = run("docker", *arguments, timeout=timeout)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def require() -> None:
    """Skips the test, or fails it, if no engine answers."""
    missing = _missing()
    if missing and os.environ.get("SUMGRAD_REQUIRE_CONTAINERS"):
        pytest.fail(f"SUMGRAD_REQUIRE_CONTAINERS is set, but no container engine answers: {missing}")
    if missing:
        pytest.skip(f"no container engine with compose answers: {missing}")


def _missing() -> str:
    """What keeps tests from running, or an empty string."""
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        try:
            answer = run(*command)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{' '.join(command)}: {error}"
        if answer.returncode != 0:
            return f"{' '.join(command)}: {answer.stderr.strip()}"
    return ""


def free_ports(*names: str) -> dict[str, str]:
    """For each variable the number of a port of this machine that is free."""
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: str(one.getsockname()[1]) for name, one in zip(names, listening, strict=True)}


class Project:
    """A compose project under a name of its own."""

    def __init__(self, *files: Path, environ: dict[str, str] | None = None) -> None:
        self.name, self.environ = f"sumgrad-test-{uuid.uuid4().hex[:12]}", dict(environ or {})
        self._files = [part for file in files for part in ("-f", str(file))]

    def __call__(self, *arguments: str, timeout: float = 120.0) -> Done:
        """Runs `docker compose` with these arguments."""
        return run("docker", "compose", *self._files, "-p", self.name, *arguments, timeout=timeout, environ=self.environ)

    def piped(self, *arguments: str, given: bytes | None = None) -> bytes:
        """The bytes that a command of compose writes, which succeeds."""
        return piped("docker", "compose", *self._files, "-p", self.name, *arguments, given=given, environ=self.environ)

    def must(self, *arguments: str, timeout: float = 120.0) -> str:
        """What a command of compose says that succeeds."""
        done = self(*arguments, timeout=timeout)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stdout}{done.stderr}\n{self('logs').stdout[-5000:]}"
        return done.stdout

    def up(self, *services: str) -> None:
        """Starts these services, building images that are not there yet, and waits until they are healthy."""
        self.must("up", "--detach", "--wait", *services, timeout=600)

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.must("ps", "--all", "--quiet", service).strip()

    def state(self, service: str) -> dict[str, Any]:
        """What the engine says of a service's container."""
        state: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", self.container(service)))
        return state

    def said(self, service: str) -> str:
        """What a service has printed, on stdout and then on stderr."""
        done = run("docker", "logs", self.container(service))
        return done.stdout + done.stderr

    def wait_for(self, service: str, pattern: str, since: int = 0) -> re.Match[str]:
        """Waits until a service has printed what the pattern finds, beyond its first `since` characters."""
        return awaited(lambda: re.compile(pattern, re.MULTILINE).search(self.said(service), since), f"{pattern!r} from {service}", self)

    def down(self) -> None:
        """Removes its containers, networks, volumes and images."""
        self("--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "5")


def awaited(look: Callable[[], Any], what: str, project: Project | None = None) -> Any:
    """What `look` finds, as soon as it finds something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE:g} s for {what}" + (f"\n{project('logs').stdout[-5000:]}" if project else ""))


def projected(*files: Path, environ: dict[str, str] | None = None) -> Iterator[Project]:
    """A project for as long as a fixture lives."""
    require()
    project = Project(*files, environ=environ)
    try:
        yield project
    finally:
        project.down()
