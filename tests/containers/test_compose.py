"""The Dockerfile, docker-compose.yml and compose.dev.yml, brought up for real. SUMGRAD_REQUIRE_CONTAINERS=1 makes a missing engine a failure."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sumgrad as sg

pytestmark = [pytest.mark.container, pytest.mark.timeout(900), pytest.mark.xdist_group("containers")]

Run = subprocess.CompletedProcess[str]
Compose = Callable[..., Run]
SERVER = ["server:50051"]


def _run(*command: str, timeout: float = 60.0, environ: dict[str, str] | None = None) -> Run:
    environment = {**os.environ, **(environ or {})}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, env=environment)


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


def _project(*files: Path, environ: dict[str, str] | None = None) -> Iterator[Compose]:
    """Runs `docker compose` on a project of its own, whose containers, networks, volumes and images are gone afterwards."""
    missing = _missing()
    if missing and os.environ.get("SUMGRAD_REQUIRE_CONTAINERS"):
        pytest.fail(f"SUMGRAD_REQUIRE_CONTAINERS is set, but no container engine answers: {missing}")
    if missing:
        pytest.skip(f"no container engine with compose answers: {missing}")
    project = f"sumgrad-test-{uuid.uuid4().hex[:12]}"
    given = [part for file in files for part in ("-f", str(file))]

    def call(*arguments: str, timeout: float = 120.0) -> Run:
        return _run("docker", "compose", *given, "-p", project, *arguments, timeout=timeout, environ=environ)

    yield call
    call("--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "5")


@pytest.fixture(scope="module")
def compose(repository: Path) -> Iterator[Compose]:
    """The project as it is."""
    yield from _project(repository / "docker-compose.yml")


@pytest.fixture(scope="module")
def ports() -> dict[str, str]:
    """Ports of this machine that are free."""
    found = {}
    for name in ("SUMGRAD_DEV_PORT", "SUMGRAD_DEV_METRICS_PORT"):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            found[name] = str(listening.getsockname()[1])
    return found


@pytest.fixture(scope="module")
def development(repository: Path, ports: dict[str, str]) -> Iterator[Compose]:
    """The project with what is for development on top."""
    yield from _project(repository / "docker-compose.yml", repository / "compose.dev.yml", environ=ports)


def up(compose: Compose) -> str:
    """Brings the server up until it is healthy; the id of its container."""
    started = compose("up", "--build", "--detach", "--wait", "server", timeout=600)
    assert started.returncode == 0, started.stdout + started.stderr + compose("logs").stdout
    return compose("ps", "--all", "--quiet", "server").stdout.strip()


@pytest.fixture(scope="module")
def server(compose: Compose) -> str:
    """The id of a server's container that is healthy. The tests come in order: the last ones end it."""
    return up(compose)


def state_of(container: str) -> dict[str, object]:
    state: dict[str, object] = json.loads(_run("docker", "inspect", "--format", "{{json .State}}", container).stdout)
    return state


def python_in(compose: Compose, code: str, *options: str) -> Run:
    """Runs Python where `train` runs, with its certificates and its token."""
    return compose("run", "--rm", "--no-deps", *options, "--entrypoint", "python", "train", "-c", code)


def test_it_trains_to_the_end(compose: Compose) -> None:
    """`docker compose run train` builds the image, makes certificates and a token, and ends with a network that has learnt over TLS."""
    done = compose("run", "--build", "--rm", "train", timeout=800)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"trained: loss [\d.]+ accuracy 100\.0% after \d+ steps", done.stdout), said
    assert compose("exec", "server", "ls", "/var/cache/sumgrad").stdout.split() != []  # compiled code is kept, hardened workers or not


def test_the_server_is_process_1_of_a_plain_user(server: str) -> None:
    """Process 1 is Python itself, without a shell above it, and not root's; it has no capabilities and gets none."""
    code = "import os; print(os.getuid(), open('/proc/1/cmdline').read().split(chr(0))[0]); print(open('/proc/1/status').read())"
    looked = _run("docker", "exec", server, "python", "-c", code).stdout
    user, process = looked.splitlines()[0].split()
    assert int(user) != 0
    assert Path(process).name.startswith("python")
    assert re.search(r"^CapEff:\s+0+$", looked, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", looked, re.MULTILINE)


def test_the_file_system_is_read_only(server: str) -> None:
    """Beside its volumes and /tmp, a server can write nowhere; nor to its certificates and tokens."""
    for path in ("/new", "/sumgrad/new", "/etc/sumgrad/server/new", "/etc/sumgrad/server/tokens.json"):
        refused = _run("docker", "exec", server, "python", "-c", f"open({path!r}, 'a')")
        assert "Read-only file system" in refused.stderr, refused
    for path in ("/tmp/new", "/var/lib/sumgrad/new", "/var/cache/sumgrad/new"):
        assert _run("docker", "exec", server, "python", "-c", f"open({path!r}, 'w'); import os; os.unlink({path!r})").returncode == 0


def test_it_is_healthy_over_tls(server: str) -> None:
    """The engine's health check asks over TLS, and is answered."""
    health = state_of(server)["Health"]
    assert isinstance(health, dict)
    assert health["Status"] == "healthy"
    plain = _run("docker", "exec", "--env", "SUMGRAD_TLS_CA=", server, "sumgrad", "health", "127.0.0.1:50051")
    assert plain.returncode == 1, plain


def test_without_a_token_nothing_is_computed(compose: Compose, server: str) -> None:
    """The client that trains is UNAUTHENTICATED without its token, and doesn't believe the server without the authority."""
    refused = compose("run", "--rm", "--no-deps", "--env", "SUMGRAD_TOKEN_FILE=", "train", *SERVER)
    assert refused.returncode == 1
    assert "UnauthenticatedError" in refused.stderr
    refused = compose("run", "--rm", "--no-deps", "--env", "SUMGRAD_TLS_CA=", "--env", "SUMGRAD_TOKEN_FILE=", "train", *SERVER)
    assert refused.returncode == 1
    assert "trained" not in refused.stdout


def test_the_image_holds_what_it_needs_and_no_more(server: str) -> None:
    """The packages of the server are there; the tools that built them, the demo's plots and the sources are not."""
    code = "import importlib.util as u; print(*[n for n in ('sumgrad_server', 'scipy', 'matplotlib', 'hatchling', 'pytest') if u.find_spec(n)])"
    looked = _run("docker", "exec", server, "python", "-c", code)
    assert looked.stdout.split() == ["sumgrad_server", "scipy"], looked.stderr
    assert _run("docker", "exec", server, "ls", "/src").returncode != 0


def test_each_side_has_its_own_secrets_only(compose: Compose, server: str) -> None:
    """The authority's key is with neither; the client has no key of the server, and the server no token."""
    assert _run("docker", "exec", server, "ls", "/etc/sumgrad/authority").stdout == ""
    assert _run("docker", "exec", server, "ls", "/etc/sumgrad/server").stdout.split() == [
        "ca.pem",
        "server.key",
        "server.pem",
        "tokens.json",
    ]
    listed = python_in(compose, "import os; print(*sorted(os.listdir('/etc/sumgrad/client')))").stdout
    assert listed.split() == ["ca.pem", "token"]


KEEP = """
import numpy as np, sumgrad as sg
objective = sg.Objective(sg.square(sg.param("w", 1.0) * sg.input("x")))
with sg.connect("server:50051", timeout=60) as service:
    service.upload({"x": np.arange(5.0)}, name="kept")
    print(service.value_and_grad(objective, objective.params, service.dataset("kept")).value)
"""
LOOK = """
import sumgrad as sg
objective = sg.Objective(sg.square(sg.param("w", 1.0) * sg.input("x")))
with sg.connect("server:50051", timeout=60) as service:
    print(service.value_and_grad(objective, objective.params, service.dataset("kept")).value)
"""


def test_state_outlives_the_server(compose: Compose, server: str) -> None:
    """What was uploaded is there after the server is killed and started again, and after everything but the volumes is removed."""
    kept = python_in(compose, KEEP)
    assert kept.stdout.split()[-1:] == ["30.0"], kept
    assert compose("kill", "--signal", "KILL", "server").returncode == 0
    assert state_of(server)["ExitCode"] == 137
    certificate = _certificate(up(compose))
    assert python_in(compose, LOOK).stdout.split()[-1:] == ["30.0"]
    assert compose("down").returncode == 0
    again = up(compose)
    assert again != server
    assert _certificate(again) == certificate
    assert python_in(compose, LOOK).stdout.split()[-1:] == ["30.0"]


def _certificate(server: str) -> str:
    return _run("docker", "exec", server, "cat", "/etc/sumgrad/server/server.pem").stdout


def test_the_server_ends_when_it_is_told_to(compose: Compose) -> None:
    """SIGTERM to process 1 drains it: exit code 0, where a kill after the grace period would give 137."""
    container = up(compose)
    stopped = compose("stop", "server")
    assert stopped.returncode == 0, stopped.stderr
    state = state_of(container)
    assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False), compose("logs").stdout


def test_development_runs_the_source(development: Compose, ports: dict[str, str]) -> None:
    """With compose.dev.yml the server runs this checkout, and answers on this machine without TLS and tokens; it comes back after a restart."""
    container = up(development)
    where = _run("docker", "exec", container, "python", "-c", "import sumgrad_server as s; print(s.__file__)").stdout
    assert where.startswith("/src/server/")
    for _ in range(2):
        with sg.connect(f"127.0.0.1:{ports['SUMGRAD_DEV_PORT']}", timeout=60.0, retry=sg.Retry(attempts=50)) as service:
            assert service.backward(sg.Value(2.0) ** 2) is None
        assert development("restart", "server").returncode == 0
    trained = development("--profile", "train", "run", "--rm", "train")
    assert trained.returncode == 0, trained.stderr
