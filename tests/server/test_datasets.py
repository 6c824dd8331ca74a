"""The catalogue of datasets and the graphs, on a state directory and without one: looking, changing, damage, restarts; against a model of it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sumgrad_engine.errors import GraphError, LimitError
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.auth import Principal
from sumgrad_server.datasets import Column
from sumgrad_server.faults import DamagedError, NameTakenError, UnknownDatasetError, UnknownGraphError
from sumgrad_server.graphs import Graphs, StoredGraph, graph_id
from sumgrad_server.jobs import SharedGraph
from sumgrad_server.kept import Kept
from sumgrad_server.settings import Settings
from sumgrad_server.tasks import Signature
from sumgrad_server.uploads import Start
from sumgrad_tests import uploading

Answer = TypeVar("Answer")
KINDS = {"f8": "f64", "f4": "f32", "i8": "i64", "i4": "i32", "b1": "bool"}


def keeping(path: Path | None, work: Callable[[Kept], Awaitable[Answer]], **settings: Any) -> Answer:
    """What some work with all that a server keeps gives."""

    async def run() -> Answer:
        kept = Kept(Settings(state_dir=None if path is None else str(path), **settings))
        await kept.open()
        try:
            return await work(kept)
        finally:
            await kept.close()

    return asyncio.run(run())


async def store(kept: Kept, arrays: Any, name: str = "data", *, namespace: str = "default", replace: bool = False) -> str:
    """Uploads arrays; gives the id."""
    columns = tuple(Column(column, KINDS[array.dtype.str[1:]], array.shape[1:]) for column, array in arrays.items())
    start = Start("upload", name, columns, replace)
    async with kept.uploads.receiving(Principal("", namespace), start) as arriving:
        for number, array in enumerate(arrays.values()):
            if arriving.upload.expected[number] == 0:
                await arriving.put(number, 0, array.tobytes())
        digests = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays.values()]
        entry, _, _ = await kept.uploads.finish(arriving, start, len(next(iter(arrays.values()))), digests)
    return entry.id


async def content(kept: Kept, name: str, namespace: str = "default") -> dict[str, bytes]:
    """The bytes of a dataset's columns."""
    dataset = await kept.datasets.open(namespace, name)
    return {column: os.pread(found.file.fd, found.file.nbytes, 0) for column, found in dataset.columns.items()}


def as_bytes(arrays: Any) -> dict[str, bytes]:
    """The same of arrays."""
    return {name: array.tobytes() for name, array in arrays.items()}


def column_files(path: Path) -> set[str]:
    """Names of the files of columns."""
    return {file.name for file in (path / "columns").iterdir()}


def digests(*datasets: Any) -> set[str]:
    """What these files should be called."""
    return {hashlib.sha256(array.tobytes()).hexdigest() for arrays in datasets for array in arrays.values()}


@pytest.fixture(params=["state directory", "unnamed files"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the state is."""
    return tmp_path / "state" if request.param == "state directory" else None


def test_columns_are_open_as_they_were_sent(place: Path | None) -> None:
    """A dataset found by name or id has its columns' types, shapes and bytes, and is the same object the next time."""
    arrays = uploading.some_arrays()

    async def work(kept: Kept) -> None:
        id_ = await store(kept, arrays)
        assert id_ == uploading.dataset_id(arrays)
        found = await kept.datasets.open("default", "data")
        assert await kept.datasets.open("default", id_) is found
        assert found.sample_count == 1000
        assert {name: (column.dtype, column.shape) for name, column in found.columns.items()} == {
            name: (array.dtype, array.shape[1:]) for name, array in arrays.items()
        }
        assert await content(kept, "data") == as_bytes(arrays)

    keeping(place, work)


def test_namespaces_see_their_own(place: Path | None) -> None:
    """The same name stands for different datasets in two namespaces, and nobody finds another's by its id."""
    ours, theirs = uploading.some_arrays(seed=1), uploading.some_arrays(seed=2)

    async def work(kept: Kept) -> None:
        mine = await store(kept, ours, namespace="ours")
        await store(kept, theirs, namespace="theirs")
        assert await content(kept, "data", "ours") == as_bytes(ours)
        assert await content(kept, "data", "theirs") == as_bytes(theirs)
        with pytest.raises(UnknownDatasetError):
            await kept.datasets.open("theirs", mine)
        with pytest.raises(UnknownDatasetError):
            await kept.datasets.delete("theirs", mine)
        assert [entry.name for entry, _ in await kept.datasets.listed("theirs")] == ["data"]
        assert kept.datasets.nbytes("ours") == sum(array.nbytes for array in ours.values())

    keeping(place, work)


def test_nobody_learns_what_others_have(place: Path | None) -> None:
    """Content that another namespace has already is stored once, but not said to be known."""
    arrays = uploading.some_arrays()

    async def work(kept: Kept) -> None:
        for namespace in ("ours", "theirs"):
            start = Start("upload", "", tuple(Column(name, KINDS[array.dtype.str[1:]], array.shape[1:]) for name, array in arrays.items()))
            async with kept.uploads.receiving(Principal("", namespace), start) as arriving:
                for number, array in enumerate(arrays.values()):
                    await arriving.put(number, 0, array.tobytes())
                sums = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays.values()]
                _, _, known = await kept.uploads.finish(arriving, start, 1000, sums)
            assert not known
        await kept.datasets.delete("ours", uploading.dataset_id(arrays))
        assert await content(kept, uploading.dataset_id(arrays), "theirs") == as_bytes(arrays)

    keeping(place, work)
    if place is not None:
        assert column_files(place) == digests(arrays)


def test_equal_columns_are_stored_once(tmp_path: Path) -> None:
    """Datasets that share a column share its file, which stays until the last of them goes."""
    first = uploading.some_arrays()
    second = {**uploading.some_arrays(seed=1), "x": first["x"]}

    async def work(kept: Kept) -> None:
        await store(kept, first, "first")
        await store(kept, second, "second")
        assert column_files(tmp_path) == digests(first, second)
        one, two = await kept.datasets.open("default", "first"), await kept.datasets.open("default", "second")
        assert one.columns["x"].file is two.columns["x"].file
        await kept.datasets.delete("default", "first")
        assert column_files(tmp_path) == digests(second)
        await kept.datasets.delete("default", "second")
        assert column_files(tmp_path) == set()

    keeping(tmp_path, work)


def test_deleting_harms_nobody_who_reads(place: Path | None) -> None:
    """Whoever has a dataset open reads it to the end after it was deleted or its name stands for another."""
    arrays = uploading.some_arrays()

    async def work(kept: Kept) -> None:
        await store(kept, arrays)
        open_one = await kept.datasets.open("default", "data")
        await store(kept, uploading.some_arrays(seed=1), replace=True)
        await kept.datasets.delete("default", "data")
        with pytest.raises(UnknownDatasetError, match="no dataset 'data'"):
            await kept.datasets.open("default", "data")
        assert {name: os.pread(column.file.fd, column.file.nbytes, 0) for name, column in open_one.columns.items()} == as_bytes(arrays)

    keeping(place, work)


def test_deleting_an_id_forgets_all_its_names(place: Path | None) -> None:
    """A name takes only itself away, an id every name of its content."""
    arrays = uploading.some_arrays()

    async def work(kept: Kept) -> list[str]:
        for name in ("a", "b", "c", ""):
            id_ = await store(kept, arrays, name)
        await kept.datasets.delete("default", "a")
        left = sorted(entry.name for entry in kept.datasets.entries())
        assert left == sorted(["b", "c", id_])
        await kept.datasets.delete("default", "b")
        await kept.datasets.delete("default", id_)  # its own name
        assert [entry.name for entry in kept.datasets.entries()] == ["c"]
        await kept.datasets.delete("default", id_)
        return [entry.name for entry in kept.datasets.entries()]

    assert keeping(place, work) == []


def test_descriptors_are_given_back(place: Path | None) -> None:
    """What was deleted and is not read any more holds no descriptor."""

    async def work(kept: Kept) -> None:
        await store(kept, uploading.some_arrays(seed=99))
        await content(kept, "data")
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for seed in range(5):
            await store(kept, uploading.some_arrays(seed=seed), f"data {seed}")
            await content(kept, f"data {seed}")
            await kept.datasets.delete("default", f"data {seed}")
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before

    keeping(place, work)


def test_open_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many datasets that were read, only the last ones stay open."""
    monkeypatch.setattr("sumgrad_server.datasets.OPEN_COLUMNS", 10)

    async def work(kept: Kept) -> None:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for seed in range(6):
            await store(kept, uploading.some_arrays(10, seed=seed), f"data {seed}")
            assert await content(kept, f"data {seed}") == as_bytes(uploading.some_arrays(10, seed=seed))
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before + 10
        assert await content(kept, "data 0") == as_bytes(uploading.some_arrays(10, seed=0))

    keeping(tmp_path, work)


def damage(path: Path, kind: str) -> None:
    """Does something to a column's file."""
    if kind == "missing":
        path.unlink()
    elif kind == "short":
        os.truncate(path, path.stat().st_size - 1)
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize(("kind", "said"), [("missing", "is missing"), ("short", "bytes, and should have"), ("changed", "other bytes")])
def test_a_damaged_column_is_refused_by_name(tmp_path: Path, kind: str, said: str) -> None:
    """The error names dataset, column and file; other datasets are not affected; the same content sent again heals it."""
    arrays, others = uploading.some_arrays(), uploading.some_arrays(seed=1)

    async def fill(kept: Kept) -> None:
        await store(kept, arrays, "hurt")
        await store(kept, others, "whole")

    keeping(tmp_path, fill)
    file = tmp_path / "columns" / hashlib.sha256(arrays["y"].tobytes()).hexdigest()
    damage(file, kind)

    async def look(kept: Kept) -> None:
        for _ in range(2):
            with pytest.raises(DamagedError, match=said) as refused:
                await kept.datasets.open("default", "hurt")
            assert refused.value.details == {"dataset": "hurt", "column": "y", "file": str(file)}
        assert await content(kept, "whole") == as_bytes(others)
        await store(kept, arrays, "hurt")
        assert await content(kept, "hurt") == as_bytes(arrays)

    keeping(tmp_path, look)


def test_many_who_open_a_dataset_at_once_get_the_same(tmp_path: Path) -> None:
    """After a restart content is checked once, however many ask for it at that moment; one who gives up disturbs nobody."""
    arrays = uploading.some_arrays()
    keeping(tmp_path, lambda kept: store(kept, arrays))

    async def work(kept: Kept) -> None:
        asking = [asyncio.create_task(kept.datasets.open("default", "data")) for _ in range(5)]
        await asyncio.sleep(0)
        asking[0].cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert len(set(map(id, found[1:]))) == 1

    keeping(tmp_path, work)


def test_a_name_that_changes_while_it_is_opened(tmp_path: Path) -> None:
    """Whoever opens a name gets the content that it stood for then, whole, or that it stands for now; never one under the other's id."""
    old, new = uploading.some_arrays(seed=1), uploading.some_arrays(seed=2)

    async def work(kept: Kept) -> None:
        await store(kept, old)
        opening = asyncio.create_task(kept.datasets.open("default", "data"))
        await store(kept, new, replace=True)
        (found,) = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(found, BaseException):
            assert isinstance(found, UnknownDatasetError)
        else:
            there = {name: os.pread(column.file.fd, column.file.nbytes, 0) for name, column in found.columns.items()}
            assert (found.id, there) in [(uploading.dataset_id(arrays), as_bytes(arrays)) for arrays in (old, new)]
        assert await content(kept, "data") == as_bytes(new)

    for _ in range(5):
        keeping(tmp_path, work)
        shutil.rmtree(tmp_path)


def test_a_token_may_have_less(place: Path | None) -> None:
    """A caller's own limit on bytes stands in for the server's, and counts what is stored and what comes."""
    arrays = {"x": np.zeros(100)}

    async def work(kept: Kept) -> None:
        await store(kept, arrays)
        start = Start("more", "more", (Column("x", "f64", ()),))
        async with kept.uploads.receiving(Principal("", max_dataset_bytes=1000), start) as arriving:
            await arriving.put(0, 0, bytes(200))
            with pytest.raises(LimitError, match="max_dataset_bytes") as refused:
                await arriving.put(0, 200, bytes(8))
        assert (refused.value.value, refused.value.allowed) == (1008, 1000)

    keeping(place, work)


def test_a_cancelled_caller_leaves_things_whole(place: Path | None) -> None:
    """One who gives up while his dataset is being stored finds it there or not at all, and can send it again."""
    arrays = uploading.some_arrays()

    async def work(kept: Kept) -> None:
        for turns in range(40):
            task = asyncio.create_task(store(kept, arrays, "data", replace=True))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if kept.datasets.entries():
                assert await content(kept, "data") == as_bytes(arrays)
                await kept.datasets.delete("default", "data")
        await store(kept, arrays)
        assert await content(kept, "data") == as_bytes(arrays)

    keeping(place, work)
    if place is not None:
        assert column_files(place) == digests(arrays)
        assert list((place / "uploads").iterdir()) == []


# Graphs.


def some_graph(data: bytes, sources: bytes = b"sources") -> StoredGraph:
    """A graph whose bytes nobody reads."""
    return StoredGraph(SharedGraph.of(graph_id(data), data, sources), signature())


def signature() -> Signature:
    """What no graph has."""
    return Signature(1, trace({"y": sg.input("x")}), (), GraphError("no objective"))


async def described(shared: SharedGraph) -> Signature:
    """What an executor would say of it."""
    return signature()


def test_graphs_come_back_after_a_restart(tmp_path: Path) -> None:
    """A graph that was put is read again by the next server, with its source map; an unknown one is not."""

    async def put(kept: Kept) -> None:
        await kept.graphs.put(some_graph(b"graph"))

    async def look(kept: Kept) -> None:
        name = graph_id(b"graph")
        assert kept.graphs.find(name) is None
        found = await kept.graphs.get(name, described)
        assert found.shared.ref.split(found.shared.arena.bytes) == (b"graph", b"sources")
        assert kept.graphs.find(name) is found
        with pytest.raises(UnknownGraphError):
            await kept.graphs.get(graph_id(b"other"), described)

    keeping(tmp_path, put)
    keeping(tmp_path, look)


def test_large_graphs_are_kept_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is cut into parts in the database is whole again when it is read."""
    monkeypatch.setattr("sumgrad_server.graphs.PART_BYTES", 10)
    data = bytes(range(256))
    keeping(tmp_path, lambda kept: kept.graphs.put(some_graph(data)))
    found = keeping(tmp_path, lambda kept: kept.graphs.get(graph_id(data), described))
    assert found.shared.ref.split(found.shared.arena.bytes) == (data, b"sources")


def test_graphs_on_the_disk_are_bounded(tmp_path: Path) -> None:
    """Those that were dropped are dropped on the disk too, also by a server that allows fewer than the one before."""

    async def put(kept: Kept) -> None:
        for number in range(5):
            await kept.graphs.put(some_graph(b"graph %d" % number))

    async def left(kept: Kept) -> list[int]:
        found = []
        for number in range(5):
            try:
                await kept.graphs.get(graph_id(b"graph %d" % number), described)
            except UnknownGraphError:
                continue
            found.append(number)
        return found

    keeping(tmp_path, put, max_graphs=3)
    assert keeping(tmp_path, left) == [2, 3, 4]
    assert keeping(tmp_path, left, max_graphs=1) == [4]
    assert keeping(tmp_path, left) == [4]


def test_a_damaged_graph_is_dropped_by_name(tmp_path: Path) -> None:
    """Bytes that are not what their name says are refused once; then the graph is unknown, and may be registered again."""
    name = graph_id(b"graph")

    async def put(kept: Kept) -> None:
        await kept.graphs.put(some_graph(b"graph"))
        await kept._state.database.run("a test", lambda sql: sql.execute("UPDATE graph_parts SET data = X'6772617065'"))

    async def look(kept: Kept) -> None:
        with pytest.raises(DamagedError, match=f"graph {name} was damaged in .*state.sqlite3"):
            await kept.graphs.get(name, described)
        with pytest.raises(UnknownGraphError):
            await kept.graphs.get(name, described)
        await kept.graphs.put(some_graph(b"graph"))

    keeping(tmp_path, put)
    keeping(tmp_path, look)
    assert keeping(tmp_path, lambda kept: kept.graphs.get(name, described)).id == name


def test_without_a_state_directory_graphs_are_in_memory_only() -> None:
    """Nothing of a graph goes into the database that is gone anyway."""

    async def put(kept: Kept) -> Any:
        await kept.graphs.put(some_graph(b"graph"))
        return await kept._state.database.run("a test", lambda sql: sql.execute("SELECT count(*) FROM graphs").fetchone()[0])

    assert keeping(None, put) == 0
    assert isinstance(Kept(Settings()).graphs, Graphs)


# The methods, and a server that can't start.


def test_unknown_datasets_are_not_found(support: Any, server: Any) -> None:
    """Describing, deleting or computing with what is not there is NOT_FOUND, with its name."""
    asked = {
        "DescribeDataset": (wire.DescribeDatasetRequest(dataset="nobody"), wire.DescribeDatasetResponse),
        "DeleteDataset": (wire.DeleteDatasetRequest(dataset="nobody"), wire.DeleteDatasetResponse),
        "DescribeUpload": (wire.DescribeUploadRequest(upload_id="nobody"), wire.DescribeUploadResponse),
    }
    for method, (request, kind) in asked.items():
        code, details, said = support.refused(lambda method=method, request=request, kind=kind: server.client.unary(method, request, kind))
        assert (code, details["reason"]) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_DATASET")
        assert "'nobody'" in said


def test_a_server_with_a_damaged_state_does_not_start(tmp_path: Path) -> None:
    """It says which file is damaged, and what to do, and ends."""
    keeping(tmp_path, lambda kept: store(kept, uploading.some_arrays(10)))
    (tmp_path / "state.sqlite3").write_bytes(b"no database" * 1000)
    command = [sys.executable, "-m", "sumgrad_server", "--address", "127.0.0.1:0", "--state-dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert f"the database {tmp_path}/state.sqlite3 can't be used" in ended.stderr
    assert "Traceback" not in ended.stderr


# Against a model.

NAMES = ("a", "b", "")
SEEDS = st.integers(0, 3)


class CatalogueMachine(RuleBasedStateMachine):
    """Uploads, replacements, deletions and restarts in any order, and beside it a dictionary of what should be there."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.model: dict[tuple[str, str], int] = {}
        self.start()

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """What some work gives."""
        return self.runner.run(work)

    def start(self) -> None:
        """As a server does."""
        self.kept = Kept(Settings(state_dir=str(self.path), max_datasets=3))
        self.run(self.kept.open())

    def teardown(self) -> None:
        self.run(self.kept.close())
        self.runner.close()
        shutil.rmtree(self.path)

    @rule(seed=SEEDS, name=st.sampled_from(NAMES), namespace=st.sampled_from(["n", "m"]), replace=st.booleans())
    def upload(self, seed: int, name: str, namespace: str, replace: bool) -> None:
        arrays = uploading.some_arrays(4, seed=seed)
        key = (namespace, name or uploading.dataset_id(arrays))
        taken = key in self.model and self.model[key] != seed
        full = key not in self.model and sum(one == namespace for one, _ in self.model) >= 3
        work = store(self.kept, arrays, name, namespace=namespace, replace=replace)
        if (taken and not replace) or full:
            with pytest.raises(LimitError if full else NameTakenError):
                self.run(work)
            self.run(self.forget_upload(namespace))
            return
        assert self.run(work) == uploading.dataset_id(arrays)
        self.model[key] = seed

    async def forget_upload(self, namespace: str) -> None:
        await self.kept.uploads._drop(self.kept.uploads._uploads[namespace, "upload"])

    @rule(namespace=st.sampled_from(["n", "m"]), seed=SEEDS, by_id=st.booleans(), name=st.sampled_from(NAMES))
    def delete(self, namespace: str, seed: int, by_id: bool, name: str) -> None:
        wanted = uploading.dataset_id(uploading.some_arrays(4, seed=seed)) if by_id or not name else name
        if (namespace, wanted) in self.model:
            gone = [(namespace, wanted)]
        else:
            gone = [key for key, held in self.model.items() if by_id and key[0] == namespace and held == seed]
        if gone:
            self.run(self.kept.datasets.delete(namespace, wanted))
            for key in gone:
                del self.model[key]
        elif (namespace, wanted) not in self.model:
            ids = {uploading.dataset_id(uploading.some_arrays(4, seed=held)) for (one, _), held in self.model.items() if one == namespace}
            if wanted not in ids:
                with pytest.raises(UnknownDatasetError):
                    self.run(self.kept.datasets.delete(namespace, wanted))

    @rule()
    def restart(self) -> None:
        self.run(self.kept.close())
        self.start()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        found = {(entry.namespace, entry.name): entry.id for entry in self.kept.datasets.entries()}
        assert found == {key: uploading.dataset_id(uploading.some_arrays(4, seed=seed)) for key, seed in self.model.items()}
        for (namespace, name), seed in self.model.items():
            assert self.run(content(self.kept, name, namespace)) == as_bytes(uploading.some_arrays(4, seed=seed))
        assert column_files(self.path) == digests(*(uploading.some_arrays(4, seed=seed) for seed in self.model.values()))
        for namespace in ("n", "m"):
            seeds = {seed for (one, _), seed in self.model.items() if one == namespace}
            sizes = [sum(array.nbytes for array in uploading.some_arrays(4, seed=seed).values()) for seed in seeds]
            assert self.kept.datasets.nbytes(namespace) == sum(sizes)


TestCatalogue = CatalogueMachine.TestCase
TestCatalogue.settings = hypothesis_settings(max_examples=20, stateful_step_count=15, deadline=None)
