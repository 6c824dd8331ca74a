"""compose.dask.yml, brought up for real: the sums of a run are done by Dask workers over mutual TLS, one of which is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sumgrad_tests import moons
from sumgrad_tests.engine import Project, awaited, docker, free_ports, projected

pytestmark = [pytest.mark.container, pytest.mark.timeout(900), pytest.mark.xdist_group("containers")]

STEPS, WORKERS = 500, 4


@pytest.fixture(scope="module")
def cluster(repository: Path) -> Iterator[Project]:
    """The project with a cluster on top."""
    environ = {"TRAIN_STEPS": str(STEPS), **free_ports("METRICS_PORT")}
    yield from projected(repository / "docker-compose.yml", repository / "compose.dask.yml", environ=environ)


def test_the_cluster_does_the_sums(cluster: Project, repository: Path) -> None:
    """Two members train through four Dask workers, of which one is killed: they end with the bits of a run without any cluster."""
    cluster.must("up", "--build", "--detach", "--scale", f"worker={WORKERS}", timeout=800)
    workers = cluster.container("worker").split()
    assert len(workers) == WORKERS
    cluster.wait_for("train-a", r"^step 0")
    docker("kill", workers[0])
    cluster.wait_for("train-a", r"^step", since=len(cluster.said("train-a")))
    for name in ("train-a", "train-b"):
        awaited(lambda name=name: not cluster.state(name)["Running"], f"{name} to end", cluster)
        assert moons.trained(cluster.said(name)) == (STEPS, moons.expected(repository, STEPS, seeds=(1, 2)))


def test_nobody_joins_the_cluster_without_a_certificate(cluster: Project) -> None:
    """The scheduler speaks to nobody without TLS, nor to who shows no certificate of the cluster's authority."""
    for address in ("tcp://scheduler:8786", "tls://scheduler:8786"):
        code = f"from distributed import Client; Client({address!r}, timeout=2)"
        hidden = [part for name in ("WORKER", "CLIENT") for part in ("--env", f"DASK_DISTRIBUTED__COMM__TLS__{name}__CERT=")]
        relaxed = ["--env", "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=false", *hidden]
        asked = cluster("run", "--rm", "--no-deps", *relaxed, "--entrypoint", "python", "worker", "-c", code)
        assert asked.returncode != 0, address


def test_clients_do_not_reach_the_cluster(cluster: Project) -> None:
    """Members are on another network than scheduler and workers, and have none of their certificates; these have no token and none of the server's keys."""
    for service, networks in (
        ("train-a", {"gradients"}),
        ("server", {"gradients", "cluster"}),
        ("scheduler", {"cluster"}),
        ("worker", {"cluster"}),
    ):
        for container in cluster.container(service).split():
            attached = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
            assert attached.keys() == {f"{cluster.name}_{network}" for network in networks}
    code = "import os; print(*(os.listdir(f'/etc/sumgrad/{name}') for name in ('dask', 'server', 'client')))"
    assert cluster.must("run", "--rm", "--no-deps", "--entrypoint", "python", "train-a", "-c", code).startswith("[] [] ['")
    assert cluster.must("exec", "scheduler", "python", "-c", code).endswith("[] []\n")
