"""The Dockerfile, docker-compose.yml and compose.dev.yml, brought up for real. SUMGRAD_REQUIRE_CONTAINERS=1 makes a missing engine a failure."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sumgrad as sg
from sumgrad_tests import moons
from sumgrad_tests.engine import Done, Project, awaited, docker, free_ports, projected, require, run

pytestmark = [pytest.mark.container, pytest.mark.timeout(900), pytest.mark.xdist_group("containers")]

STEPS = 3000
"""Long enough to be disturbed."""


@pytest.fixture(scope="module")
def compose(repository: Path) -> Iterator[Project]:
    """The project as it is. The tests come in order: the first one trains, the last ones end the server."""
    yield from projected(repository / "docker-compose.yml", environ={"TRAIN_STEPS": str(STEPS), **free_ports("METRICS_PORT")})


@pytest.fixture(scope="module")
def development(repository: Path) -> Iterator[Project]:
    """The project with what is for development on top."""
    ports = free_ports("SUMGRAD_DEV_PORT", "SUMGRAD_DEV_METRICS_PORT")
    yield from projected(repository / "docker-compose.yml", repository / "compose.dev.yml", environ={"TRAIN_STEPS": "10", **ports})


@pytest.fixture(scope="module")
def server(compose: Project) -> str:
    """The id of a server's container that is healthy."""
    compose.up("server", "metrics")
    return compose.container("server")


def python_in(compose: Project, code: str, *options: str) -> Done:
    """Runs Python where `train-a` runs, with its certificates and its token."""
    return compose("run", "--rm", "--no-deps", *options, "--entrypoint", "python", "train-a", "-c", code)


@pytest.mark.parametrize("on_top", [[], ["dask"], ["dev"], ["dev", "dask"]], ids="+".join)
def test_compose_takes_the_files(repository: Path, on_top: list[str]) -> None:
    """Each combination of compose files is valid, and each service of it has what it is built from."""
    require()
    files = [repository / "docker-compose.yml", *(repository / f"compose.{name}.yml" for name in on_top)]
    found = json.loads(Project(*files).must("--profile", "*", "config", "--format", "json"))
    assert all((Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file() for service in found["services"].values())
    assert {"init", "server", "metrics", "train-a", "train-b"} <= found["services"].keys()


def test_training_survives_what_happens_to_it(compose: Project, repository: Path) -> None:
    """Two members train over TLS with tokens. Members and the server are killed, a network is cut: they end with the bits of a calm run."""
    compose.must("up", "--build", "--detach", timeout=800)
    compose.wait_for("train-b", r"^step [1-9]")
    network = f"{compose.name}_gradients"

    docker("kill", compose.container("train-a"))
    docker("network", "disconnect", network, compose.container("train-b"))
    before = len(compose.said("train-b"))
    compose.must("up", "--detach", "--no-deps", "train-a")
    docker("network", "connect", network, compose.container("train-b"))
    compose.wait_for("train-b", r"^step", since=before)

    before = len(compose.said("train-a"))
    moons.kill_inside(compose.container("train-a"))
    compose.wait_for("train-a", r"^step", since=before)
    assert docker("inspect", "--format", "{{.RestartCount}}", compose.container("train-a")) == "1"

    before = len(compose.said("train-b"))
    docker("kill", compose.container("server"))
    compose.must("up", "--detach", "--no-deps", "server")
    compose.wait_for("train-b", r"^step", since=before)

    for name in ("train-a", "train-b"):
        awaited(lambda name=name: not compose.state(name)["Running"], f"{name} to end", compose)
        assert compose.state(name)["ExitCode"] == 0, compose.said(name)
        assert moons.trained(compose.said(name)) == (STEPS, moons.expected(repository, STEPS, seeds=(1, 2)))


LEDGER = """
import sumgrad as sg
with sg.connect("server:50051", timeout=60) as service:
    run = service.get_run("moons")
    print(run.info().state, run.info().sample_count, sorted({tuple(line.samples.items()) for line in run.ledger()}))
"""


def test_each_sample_counted_once(compose: Project) -> None:
    """After all that, each step has the batches of both members, once."""
    assert python_in(compose, LEDGER).stdout.strip() == f"finished {STEPS * 50} [((0, 25), (1, 25))]"


def test_training_again_says_what_came_of_it(compose: Project, repository: Path) -> None:
    """A member of a run that is over ends at once, with the same parameters."""
    said = compose.must("up", "--no-deps", "--no-log-prefix", "train-b")
    assert moons.trained(said) == (STEPS, moons.expected(repository, STEPS, seeds=(1, 2)))


def test_prometheus_has_asked(compose: Project) -> None:
    """The metrics of the server are in Prometheus, over TLS and with a token; its configuration is valid."""
    asked = urllib.parse.urlencode({"query": 'sumgrad_summed_samples_total{job="sumgrad"} > 0'})
    url = f"http://127.0.0.1:{compose.environ['METRICS_PORT']}/api/v1/query?{asked}"

    def answer() -> Any:
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]["result"]

    assert len(awaited(answer, "a sample in Prometheus", compose)) == 1
    compose.must("exec", "metrics", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    assert awaited(lambda: compose.state("metrics")["Health"]["Status"] == "healthy", "Prometheus to be healthy", compose)


def test_the_server_is_process_1_of_a_plain_user(server: str) -> None:
    """Process 1 is Python itself, without a shell above it, and not root's; it has no capabilities and gets none."""
    code = "import os; print(os.getuid(), open('/proc/1/cmdline').read().split(chr(0))[0]); print(open('/proc/1/status').read())"
    looked = run("docker", "exec", server, "python", "-c", code).stdout
    user, process = looked.splitlines()[0].split()
    assert int(user) != 0
    assert Path(process).name.startswith("python")
    assert re.search(r"^CapEff:\s+0+$", looked, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", looked, re.MULTILINE)


def test_the_file_system_is_read_only(server: str) -> None:
    """Beside its volumes and /tmp, a server can write nowhere; nor to its certificates and tokens."""
    for path in ("/new", "/sumgrad/new", "/etc/sumgrad/server/new", "/etc/sumgrad/server/tokens.json"):
        refused = run("docker", "exec", server, "python", "-c", f"open({path!r}, 'a')")
        assert "Read-only file system" in refused.stderr, refused
    for path in ("/tmp/new", "/var/lib/sumgrad/new", "/var/cache/sumgrad/new"):
        assert run("docker", "exec", server, "python", "-c", f"open({path!r}, 'w'); import os; os.unlink({path!r})").returncode == 0


def test_it_is_healthy_over_tls(compose: Project, server: str) -> None:
    """The engine's health check asks over TLS, and is answered."""
    assert compose.state("server")["Health"]["Status"] == "healthy"
    plain = run("docker", "exec", "--env", "SUMGRAD_TLS_CA=", server, "sumgrad", "health", "127.0.0.1:50051")
    assert plain.returncode == 1, plain


def test_without_a_token_nothing_is_computed(compose: Project, server: str) -> None:
    """The client that trains is UNAUTHENTICATED without its token, and doesn't believe the server without the authority."""
    asked = ["run", "--rm", "--no-deps", "--env", "SUMGRAD_TOKEN_FILE="]
    refused = compose(*asked, "train-a", "server:50051")
    assert refused.returncode == 1
    assert "UnauthenticatedError" in refused.stderr
    refused = compose(*asked, "--env", "SUMGRAD_TLS_CA=", "train-a", "server:50051")
    assert refused.returncode == 1
    assert "trained" not in refused.stdout


def test_the_image_holds_what_it_needs_and_no_more(server: str) -> None:
    """The packages of the server are there; the tools that built them, the demo's plots and the sources are not."""
    code = "import importlib.util as u; print(*[n for n in ('sumgrad_server', 'scipy', 'matplotlib', 'hatchling', 'pytest') if u.find_spec(n)])"
    looked = run("docker", "exec", server, "python", "-c", code)
    assert looked.stdout.split() == ["sumgrad_server", "scipy"], looked.stderr
    assert run("docker", "exec", server, "ls", "/src").returncode != 0


def test_each_side_has_its_own_secrets_only(compose: Project, server: str) -> None:
    """The authority's key is with nobody; clients have no key of the server nor another's token, and the server no token."""
    assert run("docker", "exec", server, "ls", "/etc/sumgrad/authority").stdout == ""
    assert run("docker", "exec", server, "ls", "/etc/sumgrad/server").stdout.split() == [
        "ca.pem",
        "server.key",
        "server.pem",
        "tokens.json",
    ]
    listed = python_in(compose, "import os; print(*sorted(os.listdir('/etc/sumgrad/client')))").stdout
    assert listed.split() == ["ca.pem", "token"]
    assert compose.must("exec", "metrics", "ls", "/etc/sumgrad/metrics").split() == ["ca.pem", "token"]


def test_who_watches_does_not_compute(compose: Project, server: str) -> None:
    """The token of Prometheus reads what is everybody's: it can't upload or compute, and sees no run of the members."""
    token = compose.must("exec", "metrics", "cat", "/etc/sumgrad/metrics/token").strip()
    assert "PermissionDeniedError" in python_in(compose, KEEP, "--env", f"SUMGRAD_TOKEN={token}").stderr
    assert "NotFoundError" in python_in(compose, LEDGER, "--env", f"SUMGRAD_TOKEN={token}").stderr


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


def test_state_outlives_the_server(compose: Project, server: str) -> None:
    """What was uploaded is there after the server is killed and started again, and after everything but the volumes is removed."""
    kept = python_in(compose, KEEP)
    assert kept.stdout.split()[-1:] == ["30.0"], kept
    compose.must("kill", "--signal", "KILL", "server")
    assert compose.state("server")["ExitCode"] == 137
    compose.up("server")
    certificate = _certificate(compose)
    assert python_in(compose, LOOK).stdout.split()[-1:] == ["30.0"]
    compose.must("down")
    compose.up("server")
    assert compose.container("server") != server
    assert _certificate(compose) == certificate
    assert python_in(compose, LOOK).stdout.split()[-1:] == ["30.0"]


def test_a_backup_brings_it_all_back(compose: Project, repository: Path) -> None:
    """The commands of docs/deploy.md copy the state of a server that is stopped, and put it where there is none."""
    page = (repository / "docs" / "deploy.md").read_text()
    save, restore = (re.findall(rf"docker compose (run .* tar server {way} .*) [<>] state.tar", page)[0].split() for way in ("-c", "-x"))
    compose.must("stop", "server")
    saved = compose.piped(*save)
    compose.must("down")
    docker("volume", "rm", f"{compose.name}_state")
    compose.must("create", "server")
    compose.piped(*restore, given=saved)
    compose.up("server")
    assert python_in(compose, LOOK).stdout.split()[-1:] == ["30.0"]
    assert python_in(compose, LEDGER).stdout.startswith("finished")


def _certificate(compose: Project) -> str:
    return compose.must("exec", "server", "cat", "/etc/sumgrad/server/server.pem")


def test_the_server_ends_when_it_is_told_to(compose: Project) -> None:
    """SIGTERM to process 1 drains it: exit code 0, where a kill after the grace period would give 137."""
    compose.up("server")
    compose.must("stop", "server")
    state = compose.state("server")
    assert (state["Running"], state["ExitCode"], state["OOMKilled"]) == (False, 0, False), compose("logs").stdout


def test_development_runs_the_source(development: Project) -> None:
    """With compose.dev.yml the server runs this checkout, and answers on this machine without TLS and tokens; it comes back after a restart."""
    development.up("server")
    where = run("docker", "exec", development.container("server"), "python", "-c", "import sumgrad_server as s; print(s.__file__)").stdout
    assert where.startswith("/src/server/")
    for change in (False, True):
        if change:
            development.must("restart", "server")
        with sg.connect(f"127.0.0.1:{development.environ['SUMGRAD_DEV_PORT']}", timeout=60.0, retry=sg.Retry(attempts=50)) as service:
            assert service.backward(sg.Value(2.0) ** 2) is None
    development.must("--profile", "train", "up", "--detach", "train-a", "train-b")
    for name in ("train-a", "train-b"):
        awaited(lambda name=name: not development.state(name)["Running"], f"{name} to end", development)
        assert development.state(name)["ExitCode"] == 0, development.said(name)
