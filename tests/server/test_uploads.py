"""Uploads to a real server: whole, broken off and resumed, by many at once, wrong, too large, on a full disk, and through kill -9."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from hypothesis import given
from hypothesis import strategies as st
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.auth import EVERYBODY
from sumgrad_server.dataset_codec import plain_chunk
from sumgrad_server.faults import BusyError
from sumgrad_server.settings import Settings
from sumgrad_server.uploads import Start, Uploads
from sumgrad_tests import uploading
from sumgrad_tests.uploading import Open, chunk, chunks, finish, parts, send, some_arrays, start

MIB = 1 << 20


@pytest.fixture(scope="module")
def keeper(support: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server with a state directory, shared by tests that leave it whole."""
    with support.running("--workers", "1", "--state-dir", str(tmp_path_factory.mktemp("state"))) as made:
        yield made


def describe(server: Any, name: str) -> wire.Dataset:
    """A dataset, as the server describes it."""
    request = wire.DescribeDatasetRequest(request_id="describe", dataset=name)
    found: wire.Dataset = server.client.unary("DescribeDataset", request, wire.DescribeDatasetResponse).dataset
    return found


def names(server: Any) -> list[str]:
    """Names of all datasets."""
    found = server.client.unary("ListDatasets", wire.ListDatasetsRequest(), wire.ListDatasetsResponse)
    return [dataset.name for dataset in found.datasets]


def delete(server: Any, name: str) -> None:
    """Deletes a dataset."""
    server.client.unary("DeleteDataset", wire.DeleteDatasetRequest(dataset=name), wire.DeleteDatasetResponse)


def received(server: Any, upload_id: str = "upload") -> list[int]:
    """What is stored of an upload; nothing if it is not known."""
    request = wire.DescribeUploadRequest(upload_id=upload_id)
    try:
        return list(server.client.unary("DescribeUpload", request, wire.DescribeUploadResponse).received)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return []


def files(state: Path) -> list[str]:
    """Files of columns and uploads in a state directory."""
    return sorted(
        str(path.relative_to(state)) for folder in ("columns", "uploads") for path in (state / folder).rglob("*") if path.is_file()
    )


def gradient_of(support: Any, server: Any, arrays: Any, dataset: str) -> None:
    """A sum over a dataset's rows has the bits of the sum over the arrays in process."""
    objective = sg.Objective(sg.tanh(sg.sum(sg.input("x", shape=(2,)) * sg.param("w", np.array([0.3, 0.7])))) * sg.input("y"))
    graph = server.client.register(objective.graph)
    found = server.client.gradient(graph, objective.params, {}, dataset=dataset)
    support.assert_same_bits(found, objective.value_and_grad(objective.params, {name: arrays[name] for name in ("x", "y")}))


def test_an_upload_becomes_a_dataset(support: Any, keeper: Any) -> None:
    """It is described as it was sent, under the id that the protocol says, and sums over it have the bits of the arrays."""
    arrays = some_arrays()
    answer = send(keeper.client.channel, parts(arrays, "one", "one"))
    assert not answer.already_known
    assert (answer.request_id, answer.dataset.name, answer.dataset.sample_count) == ("upload", "one", 1000)
    assert answer.dataset.id == uploading.dataset_id(arrays)
    assert answer.dataset.byte_count == sum(array.nbytes for array in arrays.values())
    described = {column.name: (tuple(column.shape), column.sha256) for column in answer.dataset.columns}
    assert described == {name: (array.shape[1:], hashlib.sha256(array.tobytes()).digest()) for name, array in arrays.items()}
    assert describe(keeper, "one") == describe(keeper, answer.dataset.id) == answer.dataset
    gradient_of(support, keeper, arrays, "one")


@pytest.mark.parametrize("nbytes", [1, 7, 4096])
def test_chunks_may_be_cut_and_mixed_at_will(keeper: Any, nbytes: int) -> None:
    """Columns may take turns, and chunks end anywhere."""
    arrays = some_arrays(30, seed=nbytes)
    mixed = sorted(chunks(arrays, nbytes), key=lambda part: (part.chunk.offset, part.chunk.column))
    answer = send(keeper.client.channel, [start(arrays, "mixed", f"mixed {nbytes}"), *mixed, finish(arrays)])
    assert answer.dataset.id == uploading.dataset_id(arrays)


def test_the_same_content_is_there_already(keeper: Any) -> None:
    """Sending the same again, under the same name or another, is said to be known; its columns are stored once."""
    arrays = some_arrays(100, seed=1)
    first, again, other = (send(keeper.client.channel, parts(arrays, "same", name)) for name in ("a", "a", ""))
    assert [answer.already_known for answer in (first, again, other)] == [False, True, True]
    assert first.dataset == again.dataset
    assert other.dataset.name == other.dataset.id == first.dataset.id


def test_a_name_is_replaced_only_if_that_is_wished(support: Any, keeper: Any) -> None:
    """A name that stands for another content is refused, and may be tried again with `replace` without sending the bytes again."""
    old, new = some_arrays(50, seed=2), some_arrays(60, seed=3)
    send(keeper.client.channel, parts(old, "old", "taken"))
    code, details, said = support.refused(lambda: send(keeper.client.channel, parts(new, "new", "taken")))
    assert (code, details["reason"]) == (grpc.StatusCode.ALREADY_EXISTS, "NAME_TAKEN")
    assert "'taken'" in said
    assert describe(keeper, "taken").sample_count == 50
    assert received(keeper, "new") == [array.nbytes for array in new.values()]
    send(keeper.client.channel, [start(new, "new", "taken", replace=True), finish(new)])
    assert describe(keeper, "taken").sample_count == 60
    assert received(keeper, "new") == []


def test_an_upload_that_broke_off_is_resumed(support: Any, keeper: Any) -> None:
    """What came before the connection broke is kept, nothing is visible, and the rest makes it whole."""
    arrays = some_arrays(200_000, seed=4)
    sent = list(chunks(arrays, 100_000))
    broken = Open(keeper.client.channel, start(arrays, "broken", "broken"), *sent[:20])
    support.wait_until(lambda: sum(received(keeper, "broken")) == 2_000_000, "the chunks to be stored")
    broken.break_off()
    assert "broken" not in names(keeper)

    def resumed() -> bool:
        rest = [start(arrays, "broken", "broken"), *chunks(arrays, received=received(keeper, "broken")), finish(arrays)]
        try:
            return send(keeper.client.channel, rest).dataset.id == uploading.dataset_id(arrays)
        except grpc.RpcError as error:
            if support.details_of(error)["reason"] != "BUSY":  # the server may not have heard yet that the other one left
                raise
            return False

    support.wait_until(resumed, "the upload to be resumed")
    gradient_of(support, keeper, arrays, "broken")


def test_only_one_sends_at_a_time(support: Any, keeper: Any) -> None:
    """A second one with the same upload_id is told so, and when to come back; the first is not disturbed."""
    arrays = some_arrays(10, seed=5)
    first = Open(keeper.client.channel, start(arrays, "both", "both"), *chunks(arrays))
    support.wait_until(lambda: sum(received(keeper, "both")) > 0, "the first one to be on the way")
    code, details, said = support.refused(lambda: send(keeper.client.channel, parts(arrays, "both", "both")))
    assert (code, details["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUSY")
    assert "somebody sends upload 'both'" in said
    assert details["retry"] > 0
    first.send(finish(arrays))
    first.end()
    assert first.call.result().dataset.name == "both"


def test_two_uploads_of_the_same_content_at_once(support: Any, tmp_path: Path) -> None:
    """Both succeed, and the columns are stored once."""
    arrays = some_arrays(1000, seed=6)
    with support.running("--workers", "1", "--state-dir", str(tmp_path)) as server:
        both = [Open(server.client.channel, *parts(arrays, f"upload {number}", f"name {number}")) for number in range(2)]
        for one in both:
            one.end()
        assert {one.call.result().dataset.id for one in both} == {uploading.dataset_id(arrays)}
        assert names(server) == ["name 0", "name 1"]
        assert files(tmp_path) == sorted(f"columns/{hashlib.sha256(array.tobytes()).hexdigest()}" for array in arrays.values())


def test_bytes_that_changed_on_the_way_are_refused(support: Any, keeper: Any) -> None:
    """A checksum that does not fit is DATA_LOSS that names the column, and nothing is left of the upload."""
    arrays = some_arrays(100, seed=7)
    other = {**arrays, "k": arrays["k"][::-1]}
    code, details, said = support.refused(
        lambda: send(keeper.client.channel, [start(arrays, "lossy", "lossy"), *chunks(arrays), finish(other)])
    )
    assert (code, details["reason"], details["column"]) == (grpc.StatusCode.DATA_LOSS, "DAMAGED", "k")
    assert "send it again" in said
    assert "lossy" not in names(keeper)
    assert received(keeper, "lossy") == []


def column(name: str = "x", dtype: Any = graph_pb2.DTYPE_F64, shape: Sequence[int] = (), sha256: bytes = b"") -> wire.Column:
    """A column."""
    return wire.Column(name=name, dtype=dtype, shape=shape, sha256=sha256)


def begin(*columns: wire.Column, upload_id: str = "wrong", name: str = "wrong") -> wire.UploadDatasetRequest:
    """A first part."""
    return wire.UploadDatasetRequest(start=wire.UploadStart(upload_id=upload_id, name=name, columns=columns))


def end(samples: int, *digests: bytes) -> wire.UploadDatasetRequest:
    """A last part."""
    return wire.UploadDatasetRequest(finish=wire.UploadFinish(sample_count=samples, sha256=digests))


ONE = begin(column())
WRONG = {
    "nothing": ([], "start", "begins with UploadStart"),
    "an empty part": ([wire.UploadDatasetRequest()], "start", "begins with UploadStart"),
    "no start": ([chunk(0, 0, b"")], "start", "begins with UploadStart"),
    "two starts": ([ONE, ONE], "part", "after UploadStart"),
    "an empty part later": ([ONE, wire.UploadDatasetRequest()], "part", "after UploadStart"),
    "no end": ([ONE, chunk(0, 0, bytes(8))], "finish", "ended without UploadFinish"),
    "no upload_id": ([begin(column(), upload_id="")], "start.upload_id", "0 bytes"),
    "a long upload_id": ([begin(column(), upload_id="é" * 65)], "start.upload_id", "130 bytes"),
    "a long name": ([begin(column(), name="n" * 257)], "start.name", "257 bytes"),
    "a name with a line feed": ([begin(column(), name="a\nb")], "start.name", "control characters"),
    "a name like an id": ([begin(column(), name="0" * 64)], "start.name", "form of an id"),
    "no columns": ([begin()], "start.columns", "at least one"),
    "a column without name": ([begin(column(""))], "start.columns[0].name", "0 bytes"),
    "a column's name with a tab": ([begin(column(), column("a\tb"))], "start.columns[1].name", "control characters"),
    "two columns of one name": ([begin(column(), column())], "start.columns[1].name", "two columns are called 'x'"),
    "no dtype": ([begin(column(dtype=0))], "start.columns[0].dtype", "is 0"),
    "an unknown dtype": ([begin(column(dtype=77))], "start.columns[0].dtype", "is 77"),
    "many axes": ([begin(column(shape=[1] * 17))], "start.columns[0].shape", "17 axes"),
    "no elements": ([begin(column(shape=[2, 0]))], "start.columns[0].shape", "without elements"),
    "an early checksum": ([begin(column(sha256=bytes(32)))], "start.columns[0].sha256", "belong into UploadFinish"),
    "no such column": ([ONE, chunk(1, 0, b"")], "chunk.column", "1 columns"),
    "a gap": ([ONE, chunk(0, 8, bytes(8))], "chunk.offset", "0 bytes of column 'x' have come"),
    "no checksums": ([ONE, chunk(0, 0, bytes(8)), end(1)], "finish.sha256", "0 checksums for 1 columns"),
    "a short checksum": ([ONE, chunk(0, 0, bytes(8)), end(1, bytes(31))], "finish.sha256[0]", "31 bytes"),
    "no samples": ([ONE, end(0, hashlib.sha256().digest())], "finish.sample_count", "is 0"),
    "too few bytes": ([ONE, chunk(0, 0, bytes(8)), end(2, bytes(32))], "finish.sample_count", "2 samples"),
    "too many samples": ([ONE, chunk(0, 0, bytes(8)), end(2**64 - 1, bytes(32))], "finish.sample_count", "has 8 bytes"),
    "no booleans": (
        [begin(column(dtype=graph_pb2.DTYPE_BOOL)), chunk(0, 0, b"\0\1\2"), end(3, bytes(32))],
        "columns[0]",
        "other than 0 and 1",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named(support: Any, keeper: Any, wrong: str) -> None:
    """Each mistake is INVALID_ARGUMENT with the field and what is wrong with it, and nothing of it becomes visible."""
    messages, field, said = WRONG[wrong]
    fresh = [wire.UploadDatasetRequest.FromString(message.SerializeToString()) for message in messages]
    for message in fresh:
        if message.start.upload_id == "wrong":
            message.start.upload_id = wrong
    code, details, text = support.refused(lambda: send(keeper.client.channel, fresh))
    assert (code, details["violations"]) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert said in text
    assert "wrong" not in names(keeper)


def test_resuming_with_other_columns_is_refused(support: Any, keeper: Any) -> None:
    """An upload goes on as it was begun."""
    send_all = [start(some_arrays(3), "columns", "columns")]
    support.refused(lambda: send(keeper.client.channel, send_all))
    code, details, said = support.refused(lambda: send(keeper.client.channel, [begin(column(), upload_id="columns")]))
    assert (code, details["violations"]) == (grpc.StatusCode.INVALID_ARGUMENT, ["start.columns"])
    assert "begun with other columns" in said


@pytest.mark.parametrize(
    ("flag", "most", "messages"),
    [
        ("max_columns", 1, [begin(column("a"), column("b"))]),
        ("max_elements", 100, [begin(column(shape=[2**63, 2**63]))]),
        ("max_dataset_bytes", 100, [ONE, chunk(0, 0, bytes(64)), chunk(0, 64, bytes(64))]),
        ("max_datasets", 1, [begin(column(), name="another"), chunk(0, 0, bytes(8)), end(1, hashlib.sha256(bytes(8)).digest())]),
    ],
)
def test_limits_are_named(support: Any, flag: str, most: int, messages: Any) -> None:
    """What goes beyond a limit is refused with its name and its value."""
    with support.running("--workers", "1", f"--{flag.replace('_', '-')}", str(most)) as server:
        if flag == "max_datasets":
            send(server.client.channel, parts(some_arrays(3)))
        code, details, said = support.refused(lambda: send(server.client.channel, messages))
    assert (code, details["reason"], details["limit"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", flag)
    assert flag in said


def test_uploads_that_broke_off_make_way(support: Any) -> None:
    """With as many uploads as may be, the one that was broken off longest ago is dropped; those that are being sent are not."""
    with support.running("--workers", "1", "--max-uploads", "2") as server:
        for upload_id in ("first", "second", "third"):
            support.refused(
                lambda upload_id=upload_id: send(server.client.channel, [begin(column(), upload_id=upload_id), chunk(0, 0, bytes(8))])
            )
        assert [received(server, upload_id) for upload_id in ("first", "second", "third")] == [[], [8], [8]]


def test_an_upload_that_nobody_resumes_expires(support: Any, tmp_path: Path) -> None:
    """After upload_expiry_seconds nothing is left of it."""
    arrays = some_arrays(10)
    with support.running("--workers", "1", "--state-dir", str(tmp_path), "--upload-expiry-seconds", "0.2") as server:
        support.refused(lambda: send(server.client.channel, [start(arrays), *chunks(arrays)]))
        support.wait_until(lambda: received(server) == [] and files(tmp_path) == [], "the upload to expire")
        assert send(server.client.channel, parts(arrays)).dataset.name == "data"


@pytest.mark.chaos
def test_kill_in_mid_upload_leaves_nothing_half_visible(support: Any, tmp_path: Path) -> None:
    """After kill -9 and a restart no dataset is there, what was stored is still counted, and the rest makes it whole."""
    arrays = some_arrays(200_000)
    sent = list(chunks(arrays, 100_000))
    with support.running("--workers", "1", "--state-dir", str(tmp_path)) as server:
        broken = Open(server.client.channel, start(arrays), *sent[:20])
        support.wait_until(lambda: sum(received(server)) == 2_000_000, "the chunks to be stored")
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        broken.end()
    with support.running("--workers", "1", "--state-dir", str(tmp_path)) as server:
        assert names(server) == []
        assert sum(received(server)) == 2_000_000
        rest = [start(arrays), *chunks(arrays, received=received(server)), finish(arrays)]
        assert send(server.client.channel, rest).dataset.id == uploading.dataset_id(arrays)
        assert len(files(tmp_path)) == len(arrays)
        gradient_of(support, server, arrays, "data")


@pytest.mark.chaos
def test_what_was_acknowledged_survives_a_kill(support: Any, tmp_path: Path) -> None:
    """After kill -9 and a restart datasets are there with their bits, and graphs need not be registered again."""
    arrays, objective = some_arrays(5000), sg.Objective(sg.sum(sg.input("x", shape=(2,))) * sg.param("w", 0.3))
    with support.running("--workers", "1", "--state-dir", str(tmp_path)) as server:
        stored = send(server.client.channel, parts(arrays)).dataset
        graph = server.client.register(objective.graph)
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
    with support.running("--workers", "1", "--state-dir", str(tmp_path)) as server:
        assert describe(server, "data") == stored
        found = server.client.gradient(graph, objective.params, {}, dataset="data")
        support.assert_same_bits(found, objective.value_and_grad(objective.params, {"x": arrays["x"]}))
        request = wire.RegisterGraphRequest(graph=support.graph_bytes(objective.graph))
        assert server.client.unary("RegisterGraph", request, wire.RegisterGraphResponse).already_known


@pytest.mark.chaos
def test_without_a_state_directory_nothing_is_left_behind(support: Any, tmp_path: Path) -> None:
    """Datasets in unnamed files serve as others do, and no file has a name, before and after kill -9."""
    arrays = some_arrays(5000)
    with support.running("--workers", "1", environ={"TMPDIR": str(tmp_path)}) as server:
        send(server.client.channel, parts(arrays))
        gradient_of(support, server, arrays, "data")
        support.refused(lambda: send(server.client.channel, [start(arrays, "half"), *chunks(arrays)]))
        assert sum(received(server, "half")) > 0
        assert list(tmp_path.rglob("*")) == []
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
    assert list(tmp_path.rglob("*")) == []


def can_mount() -> bool:
    """Whether this process may mount a file system of its own."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.chaos
@pytest.mark.parametrize("size", ["3m", "400k"])
def test_a_full_disk_is_a_clear_error_and_the_server_goes_on(support: Any, tmp_path: Path, size: str) -> None:
    """An upload that finds no room is told so and dropped; smaller ones, computations, new graphs and deleting go on."""
    if not can_mount():
        pytest.skip("mounting needs root's rights")
    mounting = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs {tmp_path} && exec "$@"', "sh"]
    small, large = some_arrays(100), {"x": np.random.default_rng(0).normal(size=(MIB, 2)), "y": np.ones(MIB, np.float32)}
    with support.running("--workers", "1", "--state-dir", str(tmp_path / "state"), prefix=mounting) as server:
        send(server.client.channel, parts(small, "small", "small"))
        code, details, said = support.refused(lambda: send(server.client.channel, parts(large, "large", "large")))
        assert (code, details["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_ROOM")
        assert "the disk is full" in said
        assert "the upload was dropped" in said
        assert names(server) == ["small"]
        assert received(server, "large") == []
        gradient_of(support, server, small, "small")
        delete(server, "small")
        send(server.client.channel, parts(some_arrays(200), "other", "other"))


@pytest.mark.chaos
def test_a_file_that_may_not_grow_is_lack_of_room(support: Any, tmp_path: Path) -> None:
    """A limit on file sizes is named, and when it is lifted the upload goes on from where it stopped."""
    if shutil.which("prlimit") is None:
        pytest.skip("there is no prlimit")
    arrays = {"x": np.arange(float(MIB))}
    with support.running("--workers", "1", "--state-dir", str(tmp_path)) as server:
        subprocess.run(["prlimit", f"--pid={server.pid}", f"--fsize={3 * MIB}:unlimited"], check=True)
        code, details, said = support.refused(lambda: send(server.client.channel, parts(arrays)))
        assert (code, details["reason"]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_ROOM")
        assert "ulimit -f" in said
        assert received(server) == [3 * MIB]
        subprocess.run(["prlimit", f"--pid={server.pid}", "--fsize=unlimited:unlimited"], check=True)
        rest = [start(arrays), *chunks(arrays, received=[3 * MIB]), finish(arrays)]
        assert send(server.client.channel, rest).dataset.id == uploading.dataset_id(arrays)


messages = st.builds(chunk, st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=300))


@given(messages, st.data())
def test_chunks_read_in_place_are_what_protobuf_reads(message: wire.UploadDatasetRequest, data: st.DataObject) -> None:
    """What is read without protobuf is the same, whatever was changed in the bytes; what is read by neither is refused by protobuf later."""
    sent = bytearray(message.SerializeToString())
    assert plain_chunk(bytes(sent)) == (message.chunk.column, message.chunk.offset, message.chunk.data)
    for _ in range(data.draw(st.integers(0, 3))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    found = plain_chunk(bytes(sent))
    if found is not None:
        read = wire.UploadDatasetRequest.FromString(bytes(sent))
        assert (read.chunk.column, read.chunk.offset, read.chunk.data) == found


class Nowhere:
    """A state that keeps nothing: files and a database that take what they are given."""

    def __init__(self) -> None:
        self.files = self.database = self
        self.removed = 0

    def parts(self, folder: str) -> Nowhere:
        return self

    def sizes(self, count: int) -> list[int]:
        return [0] * count

    def close(self) -> None:
        pass

    def remove(self) -> None:
        self.removed += 1

    async def run(self, doing: str, work: Any, *, freeing: bool = False) -> None:
        await asyncio.sleep(0)


def test_uploads_that_begin_together_drop_each_one_once() -> None:
    """All places are taken by what was broken off: each newcomer lets another one go, and two that begin the same upload don't both."""

    async def work() -> tuple[int, list[str], list[str]]:
        state = Nowhere()
        uploads = Uploads(cast(Any, state), cast(Any, None), Settings(max_uploads=3))
        refused: list[str] = []

        async def begin(upload_id: str) -> None:
            try:
                async with uploads.receiving(EVERYBODY, Start(upload_id, "", ())):
                    await asyncio.sleep(0)
            except BusyError as error:
                refused.append(str(error))

        for old in ("old 1", "old 2", "old 3"):
            await begin(old)
        await asyncio.gather(*(begin(new) for new in ("new 1", "new 2", "new 3", "new 3")))
        return state.removed, sorted(upload_id for _, upload_id in uploads._uploads), refused

    removed, there, refused = asyncio.run(work())
    assert removed == 3
    assert there == ["new 1", "new 2", "new 3"]
    assert all("somebody sends upload 'new 3'" in error or "uploads under way" in error for error in refused)
