"""The Kubernetes manifests under deploy/, their pods run one by one as a kubelet would: what a schema can't say is found here."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sumgrad_tests import moons
from sumgrad_tests.engine import awaited, docker, require, run
from sumgrad_tests.pods import Document, Files, Node, probe

pytestmark = [pytest.mark.container, pytest.mark.timeout(900), pytest.mark.xdist_group("containers")]

MEMBERS = 4
STEPS = ["--steps", "100"]


def workloads(repository: Path) -> dict[str, Document]:
    """All manifests that have pods, by name."""
    paths = (repository / "deploy" / "kubernetes").glob("*.yaml")
    documents = [document for path in paths for document in yaml.safe_load_all(path.read_text())]
    return {document["metadata"]["name"]: document for document in documents if "template" in document["spec"]}


def container_of(workload: Document) -> Document:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def told(workload: Document, **fields: Any) -> Document:
    """A workload with other fields of its container, as `kubectl set` and editors leave it; those of a list come in addition."""
    changed = copy.deepcopy(workload)
    container = container_of(changed)
    for name, value in fields.items():
        container[name] = [*container[name], *value] if isinstance(value, list) else value
    return changed


def sumgrad(folder: Path, *arguments: str) -> bytes:
    """What a command of docs/deploy.md prints."""
    command = [sys.executable, "-c", "from sumgrad.command import main; main()", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout


def secrets(page: str, folder: Path) -> dict[str, Files]:
    """The Secrets and ConfigMaps that the commands of the page make, from files that its commands make."""
    (section,) = re.findall(r"## Kubernetes\n(.*?)(?=\n## |\Z)", page, re.DOTALL)
    for line in re.findall(r"^    sumgrad (.*)$", section, re.MULTILINE):
        command, _, output = line.partition(" > ")
        said = sumgrad(folder, *command.split())
        if output:
            (folder / output).write_bytes(said)
    found: dict[str, Files] = {}
    for kind, name, given in re.findall(r"kubectl create (secret \w+|configmap) ([\w-]+) (.*)", section):
        pairs = re.findall(r"--from-file=([\w.-]+)=(\S+)", given)
        if kind == "secret tls":
            pairs = [("tls.crt", re.findall(r"--cert=(\S+)", given)[0]), ("tls.key", re.findall(r"--key=(\S+)", given)[0])]
        found[name] = {key: (folder / path).read_bytes() for key, path in pairs}
    return found


@pytest.fixture(scope="module")
def images(repository: Path) -> Iterator[dict[str, str]]:
    """Both images, by their names in manifests, under names of their own."""
    require()
    named = {container_of(one)["image"] for one in workloads(repository).values()}
    built = {name: f"sumgrad-test-{name.replace(':', '-')}" for name in named}
    for name, tag in built.items():
        extras = ["--build-arg", "EXTRAS=dask"] if "dask" in name else []
        docker("build", "--quiet", *extras, "--tag", tag, str(repository), timeout=600)
    yield built
    for tag in built.values():
        run("docker", "image", "rm", "--force", tag)


@pytest.fixture
def node(repository: Path, images: dict[str, str], tmp_path: Path) -> Iterator[Node]:
    """A node with the secrets of docs/deploy.md."""
    made = Node(images, secrets((repository / "docs" / "deploy.md").read_text(), tmp_path))
    yield made
    made.close()


def ready(container: str, workload: Document) -> None:
    """Waits until a pod has started and is ready, and then it must be alive, as its probes say."""
    of = container_of(workload)
    for kind in ("startupProbe", "readinessProbe"):
        awaited(lambda kind=kind: probe(container, of[kind]).returncode == 0 or not state_of(container)["Running"], f"the pod's {kind}")
        assert state_of(container)["Running"], run("docker", "logs", container)
    alive = probe(container, of["livenessProbe"])
    assert alive.returncode == 0, alive


def trained_together(node: Node, training: Document) -> set[tuple[int, str]]:
    """What the members of a Job say when they have ended, which must go well."""
    members = [node.start(training, "member", index) for index in range(MEMBERS)]
    found = set()
    for member in members:
        awaited(lambda member=member: not state_of(member)["Running"], "a member to end")
        assert state_of(member)["ExitCode"] == 0, run("docker", "logs", member)
        found.add(moons.trained(docker("logs", member)))
    return found


def state_of(container: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(docker("inspect", "--format", "{{json .State}}", container))
    return state


def test_the_job_trains_with_the_server(node: Node, repository: Path) -> None:
    """The server's pod becomes ready, all members of the Job train through it, and it drains in time; a new pod goes on with its volume."""
    server, training = workloads(repository)["sumgrad-server"], workloads(repository)["sumgrad-training"]
    assert training["spec"]["completions"] == MEMBERS
    first = node.start(server, "sumgrad-server")
    ready(first, server)
    found = trained_together(node, told(training, args=STEPS))
    assert len(found) == 1, "members have other parameters"
    grace = server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    docker("stop", "--time", str(grace), first)
    assert state_of(first)["ExitCode"] == 0
    docker("network", "disconnect", node.name, first)
    ready(node.start(server, "sumgrad-server"), server)
    assert trained_together(node, told(training, args=STEPS)) == found  # the run is over, and still there


def test_a_cluster_does_the_sums_of_the_server(node: Node, repository: Path) -> None:
    """With the image and the variables that docs/deploy.md sets, the server's sums are done by the pods of dask.yaml."""
    known = workloads(repository)
    page = (repository / "docs" / "deploy.md").read_text()
    (image,) = re.findall(r"kubectl set image statefulset/sumgrad-server server=(\S+)", page)
    (said,) = re.findall(r"kubectl set env statefulset/sumgrad-server (.*\\\n.*)", page)
    variables = [{"name": name, "value": value} for name, value in re.findall(r"(\w+)=(\S+)", said)]
    server = told(known["sumgrad-server"], image=image, env=variables)
    node.start(known["dask-scheduler"], "dask-scheduler")
    started = node.start(server, "sumgrad-server")
    awaited(lambda: probe(started, container_of(server)["startupProbe"]).returncode == 0, "the server to live")
    assert probe(started, container_of(server)["readinessProbe"]).returncode == 1  # there are no workers
    workers = [node.start(known["dask-worker"], "dask-worker", index) for index in range(2)]
    ready(started, server)
    assert len(trained_together(node, told(known["sumgrad-training"], args=[*STEPS[:1], "5"]))) == 1
    assert all(state_of(worker)["Running"] for worker in workers)
