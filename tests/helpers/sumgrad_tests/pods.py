"""Runs the pods of Kubernetes manifests on a container engine, as a kubelet would: user, rights, variables, probes, and volumes with their owners.

There is no cluster in it: nothing is scheduled, restarted or policed. It shows that what a manifest says makes a container that works.
"""

from __future__ import annotations

import io
import re
import tarfile
import uuid
from dataclasses import dataclass, field
from typing import Any

from .engine import Done, docker, piped, run

Document = dict[str, Any]
Files = dict[str, bytes]


@dataclass
class Node:
    """A node with one network, on which pods are found by the name of their service, and with Secrets and ConfigMaps, which are files by name."""

    images: dict[str, str]
    """Those that are there, by their names in manifests."""
    secrets: dict[str, Files]
    name: str = field(default_factory=lambda: f"sumgrad-node-{uuid.uuid4().hex[:12]}")
    volumes: dict[str, str] = field(default_factory=dict)
    containers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        docker("network", "create", "--internal", self.name)

    def close(self) -> None:
        """Removes everything."""
        for container in self.containers:
            run("docker", "rm", "--force", "--volumes", container)
        for volume in self.volumes.values():
            run("docker", "volume", "rm", "--force", volume)
        run("docker", "network", "rm", self.name)

    def start(self, workload: Document, service: str, index: int = 0) -> str:
        """Starts a pod of the workload, the one of this index; the id of its container."""
        pod = workload["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        environment = {one["name"]: self._value(one, index) for one in container.get("env", [])}
        words = [_expanded(word, environment) for word in [*container.get("command", []), *container.get("args", [])]]
        entry = ["--entrypoint", words.pop(0)] if "command" in container else []
        given = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
        flags = [*_confinement(pod, container), *self._mounts(workload, index), *given, *entry]
        where = ["--network", self.name, "--network-alias", service]
        started = docker("run", "--detach", *where, *flags, self.images[container["image"]], *words)
        self.containers.append(started)
        return started

    def _value(self, variable: Document, index: int) -> str:
        if "value" in variable:
            return str(variable["value"])
        path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        return str(index)

    def _mounts(self, workload: Document, index: int) -> list[str]:
        pod = workload["spec"]["template"]["spec"]
        group = pod["securityContext"]["fsGroup"]
        claims = {claim["metadata"]["name"]: {"claim": claim} for claim in workload["spec"].get("volumeClaimTemplates", [])}
        sources = claims | {volume["name"]: volume for volume in pod["volumes"]}
        flags = []
        for mount in pod["containers"][0]["volumeMounts"]:
            name = f"{self.name}-{workload['metadata']['name']}-{index}-{mount['name']}"
            if name not in self.volumes:
                self.volumes[name] = docker("volume", "create", name)
                self._fill(name, sources[mount["name"]], group)
            # Docker would otherwise give an empty volume the owner that the image's directory has.
            flags += ["--volume", f"{name}:{mount['mountPath']}:nocopy{',ro' if mount.get('readOnly') else ''}"]
        return flags

    def _fill(self, volume: str, source: Document, group: int) -> None:
        """Gives a volume what a kubelet gives it: files of a Secret are root's, and links; the group may do with them what their owner may."""
        entries = [_entry(".", tarfile.DIRTYPE, group, 0o2775 if "claim" in source else 0o2777)]
        files: Files = {}
        if "secret" in source or "configMap" in source:
            kind = source.get("secret") or source["configMap"]
            name = kind.get("secretName") or kind["name"]
            files = self.secrets.get(name, {}) if kind.get("optional") else self.secrets[name]
            mode = kind.get("defaultMode", 0o644) | 0o440
            entries.append(_entry("..data", tarfile.DIRTYPE, group, 0o2755))
            entries += [_entry(f"..data/{name}", tarfile.REGTYPE, group, mode, len(data)) for name, data in files.items()]
            entries += [_entry(name, tarfile.SYMTYPE, group, 0o777, link=f"..data/{name}") for name in files]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for entry in entries:
                archive.addfile(entry, io.BytesIO(files.get(entry.name.removeprefix("..data/"), b"")) if entry.isreg() else None)
        image = next(iter(self.images.values()))
        unpack = ["run", "--rm", "--interactive", "--user", "0", "--volume", f"{volume}:/volume:nocopy", "--entrypoint", "tar", image]
        piped("docker", *unpack, "--extract", "--preserve-permissions", "--same-owner", "--directory", "/volume", given=packed.getvalue())


def probe(container: str, asked: Document) -> Done:
    """Asks a container what a probe that runs a command asks it; 0 is success."""
    return run("docker", "exec", container, *asked["exec"]["command"])


def _entry(name: str, kind: bytes, group: int, mode: int, size: int = 0, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.size, made.linkname = kind, mode, size, link
    made.uid, made.gid = 0, group
    return made


def _expanded(word: str, environment: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], word)


def _confinement(pod: Document, container: Document) -> list[str]:
    security, own = pod["securityContext"], container["securityContext"]
    flags = ["--user", f"{security['runAsUser']}:{security['runAsGroup']}", "--group-add", str(security["fsGroup"])]
    flags += [part for right in own["capabilities"]["drop"] for part in ("--cap-drop", right)]
    flags += ["--read-only"] if own["readOnlyRootFilesystem"] else []
    flags += [] if own["allowPrivilegeEscalation"] else ["--security-opt", "no-new-privileges:true"]
    return [*flags, "--memory", container["resources"]["limits"]["memory"].removesuffix("i").lower()]
