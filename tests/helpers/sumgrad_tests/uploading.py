"""Uploads of datasets as the protocol has them, part by part, with nothing in between."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

PATIENCE = 60.0
UPLOAD = "/sumgrad.v1.GradientService/UploadDataset"
Part = wire.UploadDatasetRequest

_DTYPES = {
    "f8": graph_pb2.DTYPE_F64,
    "f4": graph_pb2.DTYPE_F32,
    "i8": graph_pb2.DTYPE_I64,
    "i4": graph_pb2.DTYPE_I32,
    "b1": graph_pb2.DTYPE_BOOL,
}


def start(arrays: Mapping[str, Any], upload_id: str = "upload", name: str = "data", *, replace: bool = False) -> Part:
    """The first part."""
    columns = [wire.Column(name=column, dtype=_DTYPES[array.dtype.str[1:]], shape=array.shape[1:]) for column, array in arrays.items()]
    return Part(start=wire.UploadStart(request_id="upload", upload_id=upload_id, name=name, columns=columns, replace=replace))


def chunks(arrays: Mapping[str, Any], nbytes: int = 1 << 20, received: Sequence[int] | None = None) -> Iterator[Part]:
    """The columns' bytes in pieces; behind those that were received already."""
    for number, array in enumerate(arrays.values()):
        data = array.tobytes()
        for offset in range(received[number] if received else 0, len(data), nbytes):
            yield chunk(number, offset, data[offset : offset + nbytes])


def chunk(column: int, offset: int, data: bytes) -> Part:
    """Bytes of a column."""
    return Part(chunk=wire.UploadChunk(column=column, offset=offset, data=data))


def finish(arrays: Mapping[str, Any], samples: int | None = None) -> Part:
    """The last part."""
    count = len(next(iter(arrays.values()))) if samples is None else samples
    return Part(
        finish=wire.UploadFinish(sample_count=count, sha256=[hashlib.sha256(array.tobytes()).digest() for array in arrays.values()])
    )


def parts(
    arrays: Mapping[str, Any], upload_id: str = "upload", name: str = "data", *, replace: bool = False, nbytes: int = 1 << 20
) -> list[Part]:
    """A whole upload."""
    return [start(arrays, upload_id, name, replace=replace), *chunks(arrays, nbytes), finish(arrays)]


def send(channel: Any, messages: Iterable[Part]) -> wire.UploadDatasetResponse:
    """Sends an upload, and gives the answer."""
    answer: wire.UploadDatasetResponse = _call(channel)(iter(messages), timeout=PATIENCE)
    return answer


class Open:
    """An upload whose parts are sent one by one."""

    def __init__(self, channel: Any, *messages: Part) -> None:
        self._parts: queue.SimpleQueue[Part | None] = queue.SimpleQueue()
        for message in messages:
            self.send(message)
        self.call = _call(channel).future(iter(self._parts.get, None), timeout=PATIENCE)

    def send(self, message: Part) -> None:
        """Sends a part."""
        self._parts.put(message)

    def end(self) -> None:
        """Sends no more."""
        self._parts.put(None)

    def break_off(self) -> None:
        """As a client that dies."""
        self.call.cancel()
        self.end()


def _call(channel: Any) -> Any:
    return channel.stream_unary(UPLOAD, Part.SerializeToString, wire.UploadDatasetResponse.FromString)


def dataset_id(arrays: Mapping[str, Any]) -> str:
    """The id that service.proto describes."""
    names = {"f8": "f64", "f4": "f32", "i8": "i64", "i4": "i32", "b1": "bool"}
    text = f"{len(next(iter(arrays.values())))}\n"
    for name, array in sorted(arrays.items(), key=lambda item: item[0].encode()):
        shape = ",".join(str(extent) for extent in array.shape[1:])
        text += "\t".join([name, names[array.dtype.str[1:]], shape, hashlib.sha256(array.tobytes()).hexdigest()]) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def some_arrays(samples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Columns of every type."""
    dice = np.random.default_rng(seed)
    return {
        "x": dice.normal(size=(samples, 2)),
        "y": dice.normal(size=samples).astype(np.float32),
        "k": dice.integers(0, 3, samples),
        "j": dice.integers(0, 3, (samples, 2, 1)).astype(np.int32),
        "on": dice.integers(0, 2, samples).astype(bool),
    }
