"""Uploads, driven by hand: what is sent, how checksums come about, and where an upload goes on that broke off."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sumgrad as sg
from sumgrad.calls import Call, Pause
from sumgrad.protocol import Protocol
from sumgrad.resident import DatasetColumn, chosen_rows, content_id
from sumgrad.uploads import CHUNK_BYTES, chunk
from sumgrad_engine.errors import InputError
from sumgrad_proto.v1 import service_pb2 as wire

DATA = {"x": np.arange(600_000.0), "k": np.arange(600_000, dtype=np.int32)}


class Server:
    """Keeps what arrives, as a server does. `lose` is how many bytes it takes before the connection breaks, for each call in turn."""

    def __init__(self, *lose: int | None) -> None:
        self.lose = list(lose)
        self.columns: list[Any] = []
        self.received: list[bytearray] = []
        self.stored: dict[str, wire.Dataset] = {}
        self.calls: list[str] = []
        self.answers_lost = 0

    def __call__(self, call: Call) -> Any:
        """Answers a call, or breaks."""
        self.calls.append(call.method.name)
        if call.method.name == "UploadDataset":
            assert isinstance(call.request, Iterator)
            return self.upload(call.request, self.lose.pop(0) if self.lose else None)
        if call.method.name == "DescribeUpload":
            if not self.received:
                raise sg.NotFoundError("no upload", status="NOT_FOUND")
            return wire.DescribeUploadResponse(received=[len(part) for part in self.received])
        if call.request.dataset in self.stored:
            return wire.DescribeDatasetResponse(dataset=self.stored[call.request.dataset])
        raise sg.NotFoundError("no dataset", status="NOT_FOUND", reason="UNKNOWN_DATASET")

    def upload(self, requests: Iterator[bytes], most: int | None) -> Any:
        """Takes an upload until so many bytes have come."""
        taken = 0
        for data in requests:
            part = wire.UploadDatasetRequest.FromString(data)
            if part.HasField("start"):
                self.start = part.start
                self.received = self.received or [bytearray() for _ in part.start.columns]
            elif part.HasField("chunk"):
                assert part.chunk.offset == len(self.received[part.chunk.column])
                self.received[part.chunk.column] += part.chunk.data
                taken += len(part.chunk.data)
            else:
                return self.finish(part.finish)
            if most is not None and taken > most:
                break
        raise sg.UnavailableError("gone", status="UNAVAILABLE")

    def finish(self, finish: wire.UploadFinish) -> wire.UploadDatasetResponse:
        """Checks the checksums, and stores."""
        digests = [hashlib.sha256(part).digest() for part in self.received]
        assert list(finish.sha256) == digests
        columns = [
            wire.Column(name=c.name, dtype=c.dtype, shape=c.shape, sha256=d) for c, d in zip(self.start.columns, digests, strict=True)
        ]
        nbytes = sum(map(len, self.received))
        types = {"x": np.dtype("<f8"), "k": np.dtype("<i4")}
        known = {c.name: DatasetColumn(types[c.name], tuple(c.shape), c.sha256.hex()) for c in columns}
        made = wire.Dataset(
            id=content_id(finish.sample_count, known),
            name=self.start.name,
            sample_count=finish.sample_count,
            columns=columns,
            byte_count=nbytes,
        )
        self.stored[made.name] = self.stored[made.id] = made
        self.received = []
        if self.answers_lost:
            self.answers_lost -= 1
            raise sg.UnavailableError("the answer was lost", status="UNAVAILABLE")
        return wire.UploadDatasetResponse(dataset=made)


def drive(steps: Any, server: Server) -> Any:
    """Carries steps out against a server; pauses take no time."""
    reply, error = None, None
    while True:
        try:
            step = steps.send(reply) if error is None else steps.throw(error)
        except StopIteration as done:
            return done.value
        reply, error = None, None
        if isinstance(step, Pause):
            continue
        try:
            reply = server(step)
        except sg.ServiceError as refused:
            error = refused


def upload(server: Server, data: Any = DATA, name: str = "train", **options: Any) -> sg.Dataset:
    """An upload without a progress bar."""
    made: sg.Dataset = drive(Protocol().upload(data, name, progress=False, **options), server)
    return made


def test_the_bytes_arrive() -> None:
    """Every column comes whole, in order, with its checksum, and the handle says what is there."""
    server = Server()
    made = upload(server)
    assert (made.name, made.sample_count, made.nbytes) == ("train", 600_000, 600_000 * 12)
    assert made.columns["x"].sha256 == hashlib.sha256(DATA["x"].tobytes()).hexdigest()
    assert {name: (column.dtype, column.shape) for name, column in made.columns.items()} == {
        "x": (np.dtype(float), ()),
        "k": (np.dtype(np.int32), ()),
    }


@pytest.mark.parametrize("lose", [(0,), (CHUNK_BYTES,), (5_000_000, 100, None), (7_199_999,)])
def test_what_breaks_off_goes_on(lose: tuple[int | None, ...]) -> None:
    """After each break only what the server does not have is sent, and the content is the same."""
    server = Server(*lose)
    assert upload(server).id == upload(Server()).id
    assert server.calls.count("UploadDataset") == len([n for n in lose if n is not None]) + 1


def test_functions_begin_anew_and_iterators_do_not() -> None:
    """Batches from a function are gone through again; those of an iterator are an error that says so."""
    batches = [{"x": np.arange(300_000.0)}, {"x": np.arange(300_000.0)}]
    assert upload(Server(CHUNK_BYTES), lambda: iter(batches)).sample_count == 600_000
    with pytest.raises(InputError, match="iterator that can't begin anew"):
        upload(Server(CHUNK_BYTES), iter(batches))


def test_a_lost_answer_is_not_a_second_upload() -> None:
    """If everything was stored and only the answer was lost, nothing is sent again."""
    server = Server()
    server.answers_lost = 1
    assert upload(server).name == "train"
    assert server.calls.count("UploadDataset") == 1


def test_what_is_there_is_not_sent() -> None:
    """The same arrays under the same name, or without one, cost a question; other content under the name is sent."""
    server = Server()
    first = upload(server)
    assert upload(server).id == first.id
    assert upload(server, name="").id == first.id
    assert server.calls.count("UploadDataset") == 1
    other = upload(server, {**DATA, "x": DATA["x"] + 1.0})
    assert other.id != first.id
    assert server.calls.count("UploadDataset") == 2


def test_mistakes_in_the_data_are_raised_as_they_are() -> None:
    """What a source finds wrong while gRPC reads from it reaches the caller."""
    with pytest.raises(InputError, match="batch 1 has"):
        upload(Server(), [{"x": [1.0]}, {"x": [[1.0]]}])


def test_whatever_a_source_raises_reaches_its_user() -> None:
    """An error of the user's own function is raised as it is."""

    def batches() -> Iterator[dict[str, Any]]:
        yield {"x": [1.0]}
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        upload(Server(), batches)


def test_an_upload_gives_up() -> None:
    """A server that never comes back is an UnavailableError after the last attempt."""
    with pytest.raises(sg.UnavailableError):
        upload(Server(*[-1] * 20))


@pytest.mark.parametrize(("column", "offset", "size"), [(0, 0, 0), (3, 2**40, 300), (200, 127, 128)])
def test_chunks_are_messages(column: int, offset: int, size: int) -> None:
    """What is serialised by hand reads as protobuf writes it."""
    data = bytes(range(256)) * 2
    read = wire.UploadDatasetRequest.FromString(chunk(column, offset, memoryview(data)[:size]))
    assert read == wire.UploadDatasetRequest(chunk=wire.UploadChunk(column=column, offset=offset, data=data[:size]))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (slice(None), slice(0, 10)),
        (slice(-3, None), slice(7, 10)),
        (slice(2, 100), slice(2, 10)),
        (range(3, 5), slice(3, 5)),
        (slice(None, None, 4), [0, 4, 8]),
        (slice(3, 0, -1), [3, 2, 1]),
        ([5, 5, -1, 0], [5, 5, 9, 0]),
        (np.arange(10) % 3 == 0, [0, 3, 6, 9]),
    ],
)
def test_rows_mean_what_they_mean_in_numpy(rows: Any, expected: Any) -> None:
    """Slices, indices and masks choose what they choose of an array."""
    found = chosen_rows(rows, 10)
    assert (found if isinstance(found, slice) else found.tolist()) == expected
    np.testing.assert_array_equal(np.arange(10)[found], np.arange(10)[np.asarray(rows) if isinstance(rows, range | list) else rows])


@pytest.mark.parametrize("rows", [[10], [-11], [], slice(5, 5), [1.5], [[1]], np.ones(9, bool), np.zeros(10, bool)])
def test_rows_that_are_none(rows: Any) -> None:
    """Indices beyond the samples, none at all, and what is no choice are refused by the field's name."""
    with pytest.raises(InputError) as refused:
        chosen_rows(rows, 10)
    assert refused.value.field == "rows"
