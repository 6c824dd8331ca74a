"""The pages that people read agree with the files that they speak of."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest


def _targets(makefile: str) -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    return {target for target in phony.split() if re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)}


def test_make_targets_in_pages_exist(repository: Path, tracked: list[Path]) -> None:
    """Each `make TARGET` that a page shows is in the Makefile, and the README shows the two commands."""
    targets = _targets((repository / "Makefile").read_text())
    readme = (repository / "README.md").read_text()
    pages = "\n".join(path.read_text() for path in tracked if path.suffix == ".md" and path.parent in {repository, repository / "docs"})
    shown = set(re.findall(r"(?:^|[`$] ?)make ([a-z][a-z-]*)", pages, re.MULTILINE))
    assert shown - targets == set()
    assert {"demo", "test"} <= set(re.findall(r"\bmake ([a-z]+)", readme))


def test_links_in_pages_lead_somewhere(repository: Path, tracked: list[Path]) -> None:
    """Each relative link or picture of a page is a file of the repository."""
    broken = [
        f"{page.name}: {target}"
        for page in tracked
        if page.suffix == ".md" and page.parent in {repository, repository / "docs"}
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert broken == []


def test_versions_agree(repository: Path) -> None:
    """pyproject.toml, the newest entry of CHANGELOG.md and the installed metadata name the same version."""
    declared = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    entries = re.findall(r"^## \[([^]]+)\]", (repository / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert (entries[0], version("sumgrad")) == (declared, declared)


@pytest.mark.parametrize("extra", ["dependencies", "server", "dask", "otel", "demo", "dev"])
def test_the_lock_has_every_dependency(repository: Path, extra: str) -> None:
    """What pyproject.toml asks for is in the lock file by name, so that `make` needs to resolve nothing."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] if extra == "dependencies" else project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=~! ]", item)[0] for item in wanted} - {"sumgrad"}
    locked = {line.partition("==")[0].strip() for line in (repository / "requirements-dev.lock").read_text().splitlines()}
    assert names - locked == set()


def test_the_code_on_the_first_page_runs(repository: Path, tmp_path: Path) -> None:
    """What README shows, one block after the other, runs as it stands and without warnings."""
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "data 10.2400" in done.stdout
