"""What a deployment is made of fits together: compose files, Kubernetes manifests, the image and the pages about them. tests/containers runs them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sumgrad_server import config

Document = dict[str, Any]

OLDEST = (1, 29)
"""The oldest Kubernetes that is checked."""
VERSIONS = [version for version in kubernetes_validate.utils.all_versions() if tuple(map(int, version.split(".")[:2])) >= OLDEST]
REPOSITORY = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((REPOSITORY / "deploy" / "kubernetes").iterdir())
COMPOSE = sorted([*REPOSITORY.glob("compose*.yml"), REPOSITORY / "docker-compose.yml"])
SIZES = {"s": 1, "m": 60}


def documents(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text()))


def everything() -> list[Document]:
    return [document for path in MANIFESTS for document in documents(path)]


def workloads() -> list[Document]:
    """All manifests that have pods."""
    return [document for document in everything() if "template" in document["spec"]]


def pod_of(workload: Document) -> Document:
    pod: Document = workload["spec"]["template"]["spec"]
    return pod


def container_of(workload: Document) -> Document:
    (container,) = pod_of(workload)["containers"]
    assert isinstance(container, dict)
    return container


def name_of(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def services(path: Path) -> dict[str, Document]:
    found: dict[str, Document] = documents(path)[0]["services"]
    return found


def environments() -> Iterator[tuple[str, dict[str, str]]]:
    """What every container of a deployment is told by variables, with its name."""
    for path in COMPOSE:
        for name, service in services(path).items():
            yield f"{path.name} {name}", service.get("environment", {})
    for workload in workloads():
        yield name_of(workload), {one["name"]: one["value"] for one in container_of(workload).get("env", []) if "value" in one}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_fit_the_schemas(path: Path, version: str) -> None:
    """Each manifest is valid for each version of Kubernetes that is supported, without a field that it doesn't know."""
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(("name", "environment"), list(environments()), ids=lambda value: value if isinstance(value, str) else "")
def test_variables_are_settings(name: str, environment: dict[str, str]) -> None:
    """Each variable of ours that a container gets is one that something reads, and the server accepts the values together."""
    ours = {key: value for key, value in environment.items() if key.startswith(config.PREFIX)}
    assert ours.keys() <= config.VARIABLES.keys() | config.OTHERS
    if any(key in config.VARIABLES for key in ours) and "SUMGRAD_ADDRESS" in ours:
        config.configured({}, ours)


@pytest.mark.parametrize("workload", workloads(), ids=name_of)
def test_pods_are_confined(workload: Document, repository: Path) -> None:
    """No pod is root's, can write to its image, or gets a right that it doesn't need; its user is the image's."""
    pod, container = pod_of(workload), container_of(workload)
    user = int(re.findall(r"useradd .*--uid (\d+)", (repository / "Dockerfile").read_text())[0])
    security = pod["securityContext"]
    assert {security[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {user}
    assert security["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]


@pytest.mark.parametrize("workload", workloads(), ids=name_of)
def test_mounts_have_volumes(workload: Document) -> None:
    """Each volume is mounted, and each mount has a volume."""
    claimed = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
    given = [volume["name"] for volume in pod_of(workload)["volumes"]] + claimed
    assert sorted(given) == sorted(mount["name"] for mount in container_of(workload)["volumeMounts"])


@pytest.mark.parametrize("workload", workloads(), ids=name_of)
def test_secrets_are_made_by_the_page(workload: Document, repository: Path) -> None:
    """docs/deploy.md has a command for each Secret and ConfigMap that a pod mounts, and for each file of it that the pod names."""
    page = (repository / "docs" / "deploy.md").read_text()
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(workload)["volumeMounts"]}
    said = repr(container_of(workload))
    for volume in pod_of(workload)["volumes"]:
        if (source := volume.get("secret", volume.get("configMap"))) is None:
            continue
        name = source.get("secretName", source.get("name"))
        (command,) = re.findall(rf"kubectl create (?:secret \w+|configmap) {re.escape(name)} (.*)", page)
        made = set(re.findall(r"--from-file=([\w.-]+)=", command)) or {"tls.crt", "tls.key"}
        assert set(re.findall(rf"{mounts[volume['name']]}/([\w.-]+)", said)) <= made


@pytest.mark.parametrize("service", [one for one in everything() if one["kind"] == "Service"], ids=name_of)
def test_services_lead_to_pods(service: Document) -> None:
    """The selector of a service chooses one kind of pods, and its ports are theirs."""
    wanted = service["spec"]["selector"]
    (workload,) = [one for one in workloads() if wanted.items() <= one["spec"]["template"]["metadata"]["labels"].items()]
    named = {port["name"]: port["containerPort"] for port in container_of(workload)["ports"]}
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == named


@pytest.mark.parametrize("policy", [one for one in everything() if one["kind"] == "NetworkPolicy"], ids=name_of)
def test_policies_are_about_pods(policy: Document) -> None:
    """Each selector of pods in a policy chooses some, so that no rule is void."""
    labels = [one["spec"]["template"]["metadata"]["labels"].items() for one in workloads()]
    rules = [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]
    peers = [peer for rule in rules for peer in [*rule.get("from", []), *rule.get("to", [])]]
    selectors = [policy["spec"]["podSelector"], *(peer["podSelector"] for peer in peers if "podSelector" in peer and len(peer) == 1)]
    assert all(any(one["matchLabels"].items() <= label for label in labels) for one in selectors)


def test_addresses_lead_to_services() -> None:
    """Each host:port that a pod is given is a port of a service."""
    known = {
        f"{one['metadata']['name']}:{port['port']}" for one in everything() if one["kind"] == "Service" for port in one["spec"]["ports"]
    }
    named = {
        found
        for workload in workloads()
        for found in re.findall(r"\b((?:sumgrad|dask)-[\w-]+:\d+)", repr(container_of(workload)))
        if not found.startswith("sumgrad-dask:")  # an image
    }
    assert named
    assert named <= known


def test_images_are_this_version(repository: Path) -> None:
    """Manifests name the image by the version of the project."""
    version = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    assert {container_of(workload)["image"].partition(":")[2] for workload in workloads()} == {version}


def test_the_server_has_time_to_drain(repository: Path) -> None:
    """Whoever stops the server waits longer than running requests may take."""
    server = services(repository / "docker-compose.yml")["server"]
    assert float(server["environment"]["SUMGRAD_GRACE"]) < float(server["stop_grace_period"].removesuffix("s"))
    (workload,) = [one for one in workloads() if one["kind"] == "StatefulSet"]
    (grace,) = [one["value"] for one in container_of(workload)["env"] if one["name"] == "SUMGRAD_GRACE"]
    assert float(grace) < pod_of(workload)["terminationGracePeriodSeconds"]


def test_volumes_are_the_users(repository: Path) -> None:
    """The image has a directory, of its user, for each volume of a compose file: volumes take owner and mode of it."""
    dockerfile = (repository / "Dockerfile").read_text()
    made = {path for line in re.findall(r"install --directory ((?:.*\\\n)*.*)", dockerfile) for path in re.findall(r"/[\w/-]+", line)}
    mounted = {
        volume.split(":")[1]
        for path in COMPOSE
        for service in services(path).values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert mounted <= made


def test_prometheus_asks_the_server(repository: Path) -> None:
    """The target of Prometheus is where the server of docker-compose.yml serves metrics; its secrets are where they are mounted."""
    ((job,),) = [document["scrape_configs"] for document in documents(repository / "deploy" / "prometheus.yml")]
    environment = services(repository / "docker-compose.yml")["server"]["environment"]
    (target,) = [target for group in job["static_configs"] for target in group["targets"]]
    assert target == f"server:{environment['SUMGRAD_METRICS_ADDRESS'].rpartition(':')[2]}"
    folder = Path(job["tls_config"]["ca_file"]).parent
    assert folder == Path(job["authorization"]["credentials_file"]).parent
    assert any(volume.endswith(f":{folder}:ro") for volume in services(repository / "docker-compose.yml")["metrics"]["volumes"])


def test_commands_in_pages_name_what_is_there(repository: Path, tracked: list[Path]) -> None:
    """Each compose file, service and manifest that a page's command names exists."""
    pages = "\n".join(path.read_text() for path in tracked if path.suffix == ".md" and path.parent in {repository, repository / "docs"})
    files = set(re.findall(r"docker compose[^`\n]*? -f ([\w.-]+)", pages)) | set(re.findall(r" -f (compose[\w.-]+)", pages))
    manifests = set(re.findall(r"(deploy/[\w./-]+\.ya?ml)", pages))
    assert files | manifests
    assert [name for name in sorted(files | manifests) if not (repository / name).is_file()] == []
    known = {name for path in COMPOSE for name in services(path)}
    scaled = set(re.findall(r"--scale (\w+)=", pages))
    assert scaled <= known


def test_the_settings_in_the_page_are_settings(repository: Path, tmp_path: Path) -> None:
    """The file of settings that docs/deploy.md shows is one that the server takes."""
    (shown,) = re.findall(r"```toml\n(.*?)```", (repository / "docs" / "deploy.md").read_text(), re.DOTALL)
    file = tmp_path / "sumgrad.toml"
    file.write_text(shown)
    assert config.configured({}, {}, str(file)).settings.grace == 30.0


def test_the_sizing_adds_up(repository: Path) -> None:
    """The table of step times and memory in docs/deploy.md is what its formulas give for the figures above it, as is the best number of members."""
    page = (repository / "docs" / "deploy.md").read_text()
    figures = dict(re.findall(r"^\| ([a-z][^|]*) \| ([\d.]+) (?:ms|ns|KiB|GB/s)? ?\|$", page, re.MULTILINE))
    part, small, large, connection, copies, fsync, journal_small, journal_large = (float(figure) for figure in figures.values())
    rows = re.findall(r"^\| 10\^(\d) \| (.*) \|$", page, re.MULTILINE)
    assert [int(power) for power, _ in rows] == [3, 6, 7, 8, 9]
    for power, cells in rows:
        count = 10 ** int(power)
        a_byte, journal = (small, journal_small) if count <= 10**6 else (large, journal_large)
        wanted = [
            f"{_time(members * (part * 1e-3 + 16 * count * a_byte * 1e-9) + fsync * 1e-3 + 8 * count / (journal * 1e9))}, "
            f"{_memory(members * (connection * 1024 + 8 * copies * count))}"
            for members in (10, 1000, 100_000)
        ]
        assert cells.split(" | ") == wanted
    each = part * 1e-3 + 16 * 10**6 * small * 1e-9
    assert f"{round((60 / each) ** 0.5)} members, {2 * (60 * each) ** 0.5:.0f} seconds a step" in " ".join(page.split())


def _time(seconds: float) -> str:
    name, size = next((one for one in (("days", 86_400), ("hours", 3600), ("minutes", 60)) if seconds >= 2 * one[1]), ("s", 1))
    return f"{_figure(seconds / size)} {name}" if seconds >= 1 else f"{_figure(seconds * 1e3)} ms"


def _memory(size: float) -> str:
    name, unit = next(one for one in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)) if size >= one[1])
    return f"{_figure(size / unit)} {name}"


def _figure(value: float) -> str:
    """Two digits that count."""
    return f"{float(f'{value:.2g}'):g}"
