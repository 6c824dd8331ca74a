"""Fuzzing of the front's decoding that follows the branches it finds: by hand, not in CI.

    python -m venv /tmp/guided
    /tmp/guided/bin/pip install atheris numpy protobuf grpcio grpcio-status grpcio-health-checking fast-sugiyama tqdm scipy llvmlite
    /tmp/guided/bin/python tests/fuzz/guided.py graph|arrays|scan|chunk|upload CORPUS -max_total_time=600 -max_len=4096

with proto, engine, server, client and tests/helpers on PYTHONPATH. atheris is not in the lock, since it has no wheels for all Pythons. The first
run fills CORPUS with good messages. What ends in anything but an error of the server's table is a finding: libFuzzer writes it to a file, and its
bytes belong into `FOUND` of test_rpcs.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import atheris
from google.protobuf.message import DecodeError

with atheris.instrument_imports(include=["sumgrad_server", "sumgrad_engine"]):
    from sumgrad_engine.errors import SumgradError
    from sumgrad_proto.v1 import service_pb2 as wire
    from sumgrad_server import codec, scan
    from sumgrad_server.dataset_codec import plain_chunk
    from sumgrad_server.dataset_methods import DatasetMethods
    from sumgrad_server.datasets import Catalogue
    from sumgrad_server.rpc import Activity, Call, Host
    from sumgrad_server.settings import Settings
    from sumgrad_server.store.state import State
    from sumgrad_server.uploads import Uploads

from sumgrad_tests.mutation import mutated
from sumgrad_tests.requests import INNER, seeds

SETTINGS = Settings(max_elements=1 << 16, max_nodes=10_000)


def graph(data: bytes) -> None:
    """A graph and its source map."""
    request = codec.parse(wire.RegisterGraphRequest, data)
    codec.parse_graph(request.graph, request.sources.SerializeToString(), SETTINGS)


def arrays(data: bytes) -> None:
    """The arrays of a gradient, and its rows."""
    request = codec.parse(wire.GradientRequest, data)
    codec.decode_arrays(request.parameters, "parameters", SETTINGS)
    codec.decode_arrays(request.inputs, "inputs", SETTINGS)
    if request.rows.HasField("indices"):
        codec.decode_array(request.rows.indices, "rows.indices")


def looked_at(data: bytes) -> None:
    """The look at a message before it is read: what it lets pass has no more fields than it says."""
    scan.SMALL = 0
    scan.scan(wire.GradientRequest, data, scan.Most(200, "max_arrays", 100, "max_nodes"))
    request = codec.parse(wire.GradientRequest, data)
    assert len(request.parameters) + len(request.inputs) + len(request.wrt) <= 200
    assert all(len(named.array.shape) <= 200 * 100 for named in request.parameters)


def chunk(data: bytes) -> None:
    """A chunk that is read without protobuf is what protobuf reads, or refuses for a number that is written longer than it need be."""
    plain = plain_chunk(data)
    with contextlib.suppress(DecodeError):
        read = wire.UploadDatasetRequest.FromString(data if plain else b"")
        assert plain is None or read.WhichOneof("part") == "chunk"
        assert plain is None or (read.chunk.column, read.chunk.offset, read.chunk.data) == (plain[0], plain[1], bytes(plain[2]))


class Uploading:
    """The state machine of uploads, on a state that is nowhere: messages of an upload, each behind its length in two bytes."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._methods = self._loop.run_until_complete(self._made())

    async def _made(self) -> DatasetMethods:
        state = State(None)
        await state.open()
        catalogue = Catalogue(state, SETTINGS)
        self._uploads = Uploads(state, catalogue, SETTINGS)
        return DatasetMethods(SETTINGS, catalogue, self._uploads)

    def __call__(self, data: bytes) -> None:
        try:
            self._loop.run_until_complete(self._sent(data))
        finally:
            assert not any(upload.busy for upload in self._uploads._uploads.values())

    async def _sent(self, data: bytes) -> None:
        call = Call(None, Host(SETTINGS, Activity()), "UploadDataset")  # type: ignore[arg-type]  # nobody is there to be told
        response = await self._methods.upload_dataset(call, _parts(data))
        assert len(response.dataset.id) == 64


async def _parts(data: bytes) -> AsyncIterator[wire.UploadDatasetRequest]:
    while len(data) > 2:
        (length,) = struct.unpack_from("<H", data)
        yield plain_chunk(data[2 : 2 + length]) or codec.parse(wire.UploadDatasetRequest, data[2 : 2 + length])
        data = data[2 + length :]


def framed(messages: list[bytes]) -> bytes:
    return b"".join(struct.pack("<H", len(message)) + message for message in messages)


TARGETS: dict[str, tuple[str, Callable[[], Callable[[bytes], None]]]] = {
    "graph": ("RegisterGraph", lambda: graph),
    "arrays": ("Gradient", lambda: arrays),
    "scan": ("Gradient", lambda: looked_at),
    "chunk": ("UploadDataset", lambda: chunk),
    "upload": ("UploadDataset", Uploading),
}


def main() -> None:
    """Runs a target."""
    method, make = TARGETS[sys.argv[1]]
    target = make()
    corpus = Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    messages = [request for seed in seeds("0" * 64, "kept") if seed.method == method for request in seed.requests]
    good = [message.SerializeToString() for message in messages]
    for number, data in enumerate([framed(good)] if sys.argv[1] == "upload" else good):
        (corpus / f"seed{number}").write_bytes(data)

    def one(data: bytes) -> None:
        try:
            target(data)
        except SumgradError:
            return

    def change(data: bytes, most: int, seed: int) -> bytes:
        """Half of the changes are those of the descriptors: fields instead of bytes."""
        dice = Random(seed)
        if sys.argv[1] == "upload" or dice.random() < 0.5:
            return atheris.Mutate(data, most)
        try:
            changed = mutated(type(messages[0]).FromString(data), dice, INNER)
        except (DecodeError, ValueError):  # the bytes are no message
            return atheris.Mutate(data, most)
        return changed[:most]

    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[3:]], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
