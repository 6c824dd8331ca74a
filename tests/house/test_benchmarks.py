"""The benchmark programs run, and what they measure is right. Other libraries take part where they are installed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sumgrad.bench import WORKLOADS, Workload, gradient, precisions

LETTERS = ("a", "c", "d", "e", "g")
"""All but the two whose slowest peer, micrograd, takes seconds for a sample."""


@pytest.fixture
def benchmarks(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package `benchmarks`, which is not installed."""
    monkeypatch.syspath_prepend(str(repository))
    return importlib.import_module("benchmarks.work")


def _run(repository: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--samples", "100", *arguments]
    done = subprocess.run(command, cwd=repository, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("work", WORKLOADS, ids=lambda work: work.name)
@pytest.mark.parametrize("samples", [1, 20])
def test_gradients_are_those_by_hand(benchmarks: ModuleType, work: Workload, samples: int) -> None:
    """Our value and gradient of each workload are those of NumPy with derivatives written by hand."""
    data = work.data(samples)
    found = gradient(work.objective(samples), work.params, data)
    value, grads = benchmarks.forms(work).by_hand(work.params, data)
    assert found.value == pytest.approx(value, rel=1e-11)
    largest = max(np.abs(wanted).max() for wanted in grads.values())
    for name, wanted in grads.items():
        np.testing.assert_allclose(found.grads[name], wanted, rtol=1e-9, atol=1e-11 * largest)


def test_workloads_are_compared(repository: Path) -> None:
    """A quick run prints a table for each workload of a letter, with ours and NumPy's times, and a verdict for each target."""
    works = [work for work in WORKLOADS if work.key in LETTERS]
    said = _run(repository, *LETTERS)
    for work in works:
        for precision in precisions(work):
            assert f"({work.key}) {work.name}, {precision}:" in said
    cases = sum(len(precisions(work)) for work in works)
    assert said.count("\n| sumgrad ") == said.count("\n| NumPy by hand ") == cases
    assert said.count("met |") >= cases
    assert "is left out" not in said


def test_the_other_parts_print_tables(repository: Path) -> None:
    """Scalars, overhead, memory and growth have a row of ours each; a library that is not here is named."""
    said = _run(repository, "scalars", "overhead", "memory", "growth")
    assert said.count("\n| sumgrad ") == 1 + 3 + 1
    assert "\n| a parameter " in said
    assert "our GFLOP/s" in said


def test_tables_go_into_a_page(repository: Path, tmp_path: Path) -> None:
    """--write puts the tables between a page's marks and leaves the rest alone."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- tables: begin -->\nold\n<!-- tables: end -->\nafter\n")
    _run(repository, "g", "--write", str(page))
    written = page.read_text()
    assert written.startswith("before\n<!-- tables: begin -->\n")
    assert written.endswith("<!-- tables: end -->\nafter\n")
    assert "Poisson" in written
    assert "old" not in written
