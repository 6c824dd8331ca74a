"""Kernels are compiled once: by graph, precision and machine, in memory and on disk; files that are not whole or not ours are not used."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.errors import LimitError
from sumgrad_engine.native import Job
from sumgrad_engine.native.artifact import Artifact
from sumgrad_engine.native.cache import DiskCache, default_directory
from sumgrad_engine.native.compilation import Compiler
from sumgrad_engine.native.kernel import Kernel
from sumgrad_engine.native.machine import AVX2
from sumgrad_engine.program import derived, gradient_layout

ARRAYS = {"x": np.linspace(-1, 1, 700)}
PARAMS = {"w": np.array(0.7)}


def objective(constant: float = 1.0) -> sg.Objective:
    """A small objective; another constant makes another graph."""
    return sg.Objective(sg.exp(sg.input("x") * sg.param("w", 0.7)) * constant)


def kernel(compiler: Compiler, precision: str = "f64", constant: float = 1.0) -> Kernel:
    """The kernel of its gradient."""
    graph = objective(constant).graph
    return compiler.kernel(graph.digest, precision, lambda: Job(*derived(graph, gradient_layout(graph), "loss")))


def sums(found: Kernel) -> bytes:
    """The bits of its result."""
    bits: bytes = found.sums(PARAMS, ARRAYS, 0, 700, lambda: False).tobytes()
    return bits


def test_compiled_once(tmp_path: Path) -> None:
    """The same graph again is the same kernel; another precision, graph or machine is another one."""
    compiler = Compiler(tmp_path / "cache")
    assert kernel(compiler) is kernel(compiler)
    assert compiler.compiled == 1
    assert kernel(compiler, "f32") is not kernel(compiler)
    assert kernel(compiler, constant=2.0) is not kernel(compiler)
    assert kernel(Compiler(tmp_path / "cache", machine=AVX2)) is not kernel(compiler)
    assert compiler.compiled == 3


def test_second_start_compiles_nothing(tmp_path: Path) -> None:
    """Another process finds the code on disk, and it computes the same bits."""
    first, second = Compiler(tmp_path / "cache"), Compiler(tmp_path / "cache")
    assert sums(kernel(first)) == sums(kernel(second))
    assert (first.compiled, second.compiled) == (1, 0)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """The least recently used kernel is dropped."""
    compiler = Compiler(None, most=2)
    for constant in (1.0, 2.0, 1.0, 3.0):
        kernel(compiler, constant=constant)
    assert compiler.compiled == 3
    kernel(compiler, constant=1.0)
    assert compiler.compiled == 3
    kernel(compiler, constant=2.0)
    assert compiler.compiled == 4


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_damaged_file(tmp_path: Path, damage: str) -> None:
    """A file that is not whole is compiled again, and replaced."""
    wanted = sums(kernel(Compiler(tmp_path / "cache")))
    (path,) = (tmp_path / "cache").iterdir()
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-7], "changed": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}[damage])
    again = Compiler(tmp_path / "cache")
    assert sums(kernel(again)) == wanted
    assert again.compiled == 1
    assert path.read_bytes() == data


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o755])
def test_directory_that_others_can_enter(tmp_path: Path, mode: int) -> None:
    """Code from a directory that is not this user's alone is not run, and none is put there."""
    directory = tmp_path / "cache"
    directory.mkdir()
    directory.chmod(mode)
    kernel(Compiler(directory))
    assert list(directory.iterdir()) == []


def test_directory_that_is_a_link(tmp_path: Path) -> None:
    """A link could lead anywhere."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert DiskCache(tmp_path / "link").directory is None


def test_directory_of_another_user(tmp_path: Path) -> None:
    """Who owns the directory could have planted what is in it."""
    if os.getuid():
        pytest.skip("only root can give a directory away")
    (tmp_path / "cache").mkdir(mode=0o700)
    os.chown(tmp_path / "cache", 12345, 12345)
    assert DiskCache(tmp_path / "cache").directory is None


def test_many_writers(tmp_path: Path) -> None:
    """Several that compile the same at once leave one file, which is whole."""
    start = threading.Barrier(4)

    def compile_one(_: int) -> bytes:
        compiler = Compiler(tmp_path / "cache")
        start.wait()
        return sums(kernel(compiler))

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(compile_one, range(4)))) == 1
    (path,) = (tmp_path / "cache").iterdir()
    assert DiskCache(tmp_path / "cache").get(path.name) is not None


def test_bytes_of_an_artifact(tmp_path: Path) -> None:
    """What is written is what is read."""
    kernel(Compiler(tmp_path / "cache"))
    (path,) = (tmp_path / "cache").iterdir()
    found = DiskCache(tmp_path / "cache").get(path.name)
    assert found is not None
    again = Artifact.from_bytes(found.to_bytes())
    assert (again.plan, again.code) == (found.plan, found.code)
    np.testing.assert_array_equal(again.tables, found.tables)


def test_where_code_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SUMGRAD_CACHE, or the user's cache directory; nowhere if it is empty."""
    monkeypatch.setenv("SUMGRAD_CACHE", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.setenv("SUMGRAD_CACHE", "")
    assert default_directory() is None
    monkeypatch.delenv("SUMGRAD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_directory() == tmp_path / "sumgrad" / "kernels"


def test_deadline() -> None:
    """A graph that takes longer to compile than it may is refused by the name of the limit."""
    compiler = Compiler(None)
    compiler.max_seconds = 0.0
    with pytest.raises(LimitError, match="max_compile_seconds") as caught:
        kernel(compiler)
    assert caught.value.limit == "max_compile_seconds"


def test_threads_share_a_kernel() -> None:
    """Calls at the same time have memory of their own."""
    found = kernel(Compiler(None))
    wanted = sums(found)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: sums(found), range(200))) == {wanted}
