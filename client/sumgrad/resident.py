"""What the client knows of a server's datasets and of its state; which rows of a dataset are meant."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.errors import InputError
from sumgrad_engine.ir import Graph
from sumgrad_proto.v1 import service_pb2 as wire

from . import codec

__all__ = ["Dataset", "DatasetColumn", "RowChoice", "ServerStatus", "WorkerStatus"]

RowChoice: TypeAlias = slice | range | Sequence[int] | ArrayLike
"""Samples: a slice, or their indices (negative ones count from the end, repeats count as often as they stand there), or a mask of booleans."""


@dataclass(frozen=True)
class DatasetColumn:
    """An array of shape (sample_count, *shape). `sha256` is that of its bytes, in hexadecimal; empty where it is not known."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    sha256: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of one sample."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


@dataclass(frozen=True)
class Dataset:
    """Arrays that stay on a server; made by `Service.upload`. The same content has the same `id`, wherever it is."""

    id: str
    name: str
    sample_count: int
    columns: Mapping[str, DatasetColumn]
    nbytes: int
    created: datetime.datetime

    def __len__(self) -> int:
        return self.sample_count

    def __hash__(self) -> int:
        return hash((self.id, self.name))


@dataclass(frozen=True)
class WorkerStatus:
    """A worker process: "starting", "idle" or "busy", and how many shards of sums it has done."""

    number: int
    process_id: int
    state: str
    finished_shards: int


@dataclass(frozen=True)
class ServerStatus:
    """What a server is doing. Counters are since its start; datasets are those of the caller's namespace."""

    version: str
    uptime: datetime.timedelta
    draining: bool
    workers: tuple[WorkerStatus, ...]
    active_requests: int
    finished_requests: int
    failed_requests: int
    summed_samples: int
    worker_restarts: int
    graphs: int
    datasets: int
    dataset_bytes: int


def read_dataset(message: wire.Dataset) -> Dataset:
    """The dataset that a message describes."""
    columns = {
        column.name: DatasetColumn(codec.numpy_type(column.dtype), tuple(column.shape), column.sha256.hex()) for column in message.columns
    }
    created = datetime.datetime.fromtimestamp(message.created, datetime.UTC)
    return Dataset(message.id, message.name, message.sample_count, MappingProxyType(columns), message.byte_count, created)


def read_status(message: wire.GetStatusResponse) -> ServerStatus:
    """The state that a message describes."""
    workers = [
        WorkerStatus(
            worker.number, worker.process_id, wire.WorkerState.Name(worker.state)[len("WORKER_STATE_") :].lower(), worker.finished_shards
        )
        for worker in message.workers
    ]
    return ServerStatus(
        version=message.version,
        uptime=datetime.timedelta(seconds=message.uptime_seconds),
        draining=message.draining,
        workers=tuple(workers),
        active_requests=message.active_requests,
        finished_requests=message.finished_requests,
        failed_requests=message.failed_requests,
        summed_samples=message.summed_samples,
        worker_restarts=message.worker_restarts,
        graphs=message.graphs,
        datasets=message.datasets,
        dataset_bytes=message.dataset_bytes,
    )


def content_id(sample_count: int, columns: Mapping[str, DatasetColumn]) -> str:
    """The id of a dataset with these columns, whose checksums are known: as service.proto defines it."""
    lines = [f"{sample_count}\n"]
    for name in sorted(columns, key=str.encode):
        column = columns[name]
        shape = ",".join(map(str, column.shape))
        lines.append(f"{name}\t{codec.type_name(column.dtype)}\t{shape}\t{column.sha256}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def chosen_rows(rows: RowChoice, count: int) -> slice | NDArray[np.int64]:
    """Samples as a slice without gaps, or their indices from 0. Raises InputError for what is none, or lies beyond `count` samples."""
    if isinstance(rows, slice):
        rows = range(*rows.indices(count))
    if isinstance(rows, range) and rows.step == 1 and 0 <= rows.start < rows.stop <= count:
        return slice(rows.start, rows.stop)
    found = np.asarray(rows)
    if found.dtype == bool:
        if found.shape != (count,):
            raise InputError(f"rows is a mask of shape {found.shape}; there are {count} samples", field="rows")
        found = np.flatnonzero(found)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise InputError(f"rows must be a slice, a list of integers or a mask, not {found.dtype} of shape {found.shape}", field="rows")
    if not found.size:
        raise InputError("rows chooses no sample; at least one is needed", field="rows")
    wrong = found[(found < -count) | (found >= count)]
    if wrong.size:
        raise InputError(f"rows has {wrong[0]}; there are {count} samples", field="rows")
    return np.where(found < 0, found + count, found).astype(np.int64)


def taken_rows(data: Mapping[str, ArrayLike], rows: RowChoice) -> dict[str, NDArray[Any]]:
    """Some samples of arrays."""
    arrays = {name: np.asarray(values) for name, values in data.items()}
    counts = {len(array) for array in arrays.values() if array.ndim}
    if len(counts) != 1:
        raise InputError(f"rows needs arrays with one number of samples, not {sorted(counts)}", field="rows")
    wanted = chosen_rows(rows, counts.pop())
    return {name: array[wanted] for name, array in arrays.items()}


def write_rows(message: wire.Rows, wanted: slice | NDArray[np.int64]) -> None:
    """Writes a choice of rows into a message."""
    if isinstance(wanted, slice):
        message.range.start, message.range.stop = wanted.start, wanted.stop
    else:
        message.indices.CopyFrom(codec.encode_array(wanted))


def check_columns(graph: Graph, dataset: Dataset) -> None:
    """Raises InputError unless each input of a graph has a column of its name, shape and kind."""
    for leaf in graph.inputs:
        column = dataset.columns.get(leaf.name)
        field = f"dataset.{leaf.name}"
        if column is None:
            raise InputError(
                f"dataset {dataset.name!r} has no column {leaf.name!r} for the input of that name; it has {sorted(dataset.columns)}",
                field=field,
            )
        if column.shape != leaf.shape:
            raise InputError(
                f"column {leaf.name!r} of dataset {dataset.name!r} has samples of shape {column.shape}, but the input {leaf.shape}",
                field=field,
            )
        if not np.can_cast(column.dtype, leaf.dtype.numpy, "same_kind"):
            raise InputError(
                f"column {leaf.name!r} of dataset {dataset.name!r} holds {column.dtype}, but the input needs {leaf.dtype.plural}",
                field=field,
            )


def upload_columns(columns: Mapping[str, DatasetColumn]) -> Iterable[wire.Column]:
    """Columns as an upload announces them."""
    return [wire.Column(name=name, dtype=codec.wire_type(column.dtype), shape=column.shape) for name, column in columns.items()]
