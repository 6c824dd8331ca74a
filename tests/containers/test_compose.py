"""The Dockerfile and docker-compose.yml, brought up for real. SUMGRAD_REQUIRE_CONTAINERS=1 makes a missing engine a failure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.container, pytest.mark.timeout(900), pytest.mark.xdist_group("containers")]

Run = subprocess.CompletedProcess[str]


def _run(*command: str, timeout: float = 60.0) -> Run:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)


def _missing() -> str:
    """What keeps the tests from running, or an empty string."""
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        try:
            answer = _run(*command)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{' '.join(command)}: {error}"
        if answer.returncode != 0:
            return f"{' '.join(command)}: {answer.stderr.strip()}"
    return ""


@pytest.fixture(scope="module")
def compose(repository: Path) -> Iterator[Callable[..., Run]]:
    """Runs `docker compose` on a project of its own, whose containers, network and images are gone afterwards."""
    missing = _missing()
    if missing and os.environ.get("SUMGRAD_REQUIRE_CONTAINERS"):
        pytest.fail(f"SUMGRAD_REQUIRE_CONTAINERS is set, but no container engine answers: {missing}")
    if missing:
        pytest.skip(f"no container engine with compose answers: {missing}")
    project = f"sumgrad-test-{uuid.uuid4().hex[:12]}"

    def call(*arguments: str, timeout: float = 120.0) -> Run:
        return _run("docker", "compose", "-f", str(repository / "docker-compose.yml"), "-p", project, *arguments, timeout=timeout)

    yield call
    call("down", "--volumes", "--rmi", "local", "--timeout", "5")


@pytest.fixture
def server(compose: Callable[..., Run]) -> Iterator[str]:
    """The id of a server's container that is healthy."""
    started = compose("up", "--build", "--detach", "--wait", "server", timeout=600)
    assert started.returncode == 0, started.stdout + started.stderr + compose("logs").stdout
    yield compose("ps", "--all", "--quiet", "server").stdout.strip()
    compose("down", "--volumes", "--timeout", "5")


def test_it_trains_to_the_end(compose: Callable[..., Run]) -> None:
    """`docker compose up` builds the image, starts server and client, and ends with a network that has learnt its points."""
    done = compose("up", "--build", "--abort-on-container-exit", "--exit-code-from", "train", timeout=800)
    said = done.stdout + done.stderr
    compose("down", "--volumes", "--timeout", "5")
    assert done.returncode == 0, said
    assert re.search(r"trained: loss [\d.]+ accuracy 100\.0% after \d+ steps", done.stdout), said


def test_the_server_is_process_1_of_a_plain_user(server: str) -> None:
    """Process 1 is Python itself, without a shell above it, and not root's."""
    looked = _run(
        "docker", "exec", server, "python", "-c", "import os; print(os.getuid(), open('/proc/1/cmdline').read().split(chr(0))[0])"
    )
    user, process = looked.stdout.split()
    assert int(user) != 0
    assert Path(process).name.startswith("python")


def test_the_server_ends_when_it_is_told_to(compose: Callable[..., Run], server: str) -> None:
    """SIGTERM to process 1 drains it: exit code 0, where a kill after the grace period would give 137."""
    stopped = compose("stop", "server")
    assert stopped.returncode == 0, stopped.stderr
    state = json.loads(_run("docker", "inspect", "--format", "{{json .State}}", server).stdout)
    assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False), compose("logs").stdout


def test_the_image_holds_what_it_needs_and_no_more(server: str) -> None:
    """The packages of the server are there; the tools that built them, the demo's plots and the sources are not."""
    code = "import importlib.util as u; print(*[n for n in ('sumgrad_server', 'scipy', 'matplotlib', 'hatchling', 'pytest') if u.find_spec(n)])"
    looked = _run("docker", "exec", server, "python", "-c", code)
    assert looked.stdout.split() == ["sumgrad_server", "scipy"], looked.stderr
    assert _run("docker", "exec", server, "ls", "/src").returncode != 0
