"""Fixtures: a Dask cluster of two workers for all tests that leave it as it is, and a server that computes on it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import sumgrad as sg
from sumgrad_tests.cluster import Cluster, cluster

SUPPORT = Path(__file__).parents[1] / "server" / "support.py"


@pytest.fixture(scope="session")
def support() -> ModuleType:
    """The helpers of tests/server/support.py, loaded by path: test folders are no packages."""
    name = "sumgrad_tests_server_support"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, SUPPORT)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two workers."""
    with cluster(tmp_path_factory.mktemp("cluster"), 2) as made:
        yield made


@pytest.fixture(scope="module")
def service(two: Cluster) -> Iterator[sg.Service]:
    """A server that computes there."""
    with sg.local(workers=1, timeout=120.0, flags=["--executor", two.address]) as made:
        yield made
