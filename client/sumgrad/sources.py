"""Where the arrays of an upload come from: memory, .npz files, Parquet files, batches. None of them is ever held in memory as a whole.

A source tells its columns and gives their bytes, piece by piece; one that is `again` can do so more than once, which resuming an upload needs.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sumgrad_engine.errors import InputError

from .codec import sendable
from .resident import DatasetColumn

__all__ = ["Batch", "Source", "Uploadable", "open_source"]

Array = NDArray[Any]
Batch: TypeAlias = Mapping[str, ArrayLike]
Uploadable: TypeAlias = (
    Batch | str | os.PathLike[str] | Iterable[Batch] | Callable[[], Iterable[Batch]] | Sequence[str | os.PathLike[str]] | Any
)
"""Arrays by name (a dictionary, a DataFrame, what numpy.load gives); the path of an .npz or a Parquet file, of several, or of a folder of them; or
batches of arrays by name: in a list, from an iterator, or from a function that begins them anew."""

PIECE_BYTES = 1 << 23
"""Of a column, at a time."""
MAX_PIECES = 4096
Piece: TypeAlias = tuple[int, Array]
"""The number of a column, and consecutive rows of it: contiguous, in the type that is sent."""


class Source(Protocol):
    """Columns, and their rows in order."""

    columns: Mapping[str, DatasetColumn]
    again: bool
    nbytes: int | None
    """Of all columns together, if that is known before."""

    def pieces(self) -> Iterator[Piece]:
        """All rows of all columns; those of each column in order. Raises InputError."""


def open_source(data: Any, columns: Sequence[str] | None = None) -> Source:
    """The source for what a user hands over; `columns` chooses some (None: all). Raises InputError, FileNotFoundError."""
    if isinstance(data, str | os.PathLike):
        return _of_paths([Path(data)], columns)
    if isinstance(data, Mapping) or hasattr(data, "items"):
        return Arrays(_chosen(dict(data.items()), columns))
    names = getattr(data, "column_names", getattr(data, "columns", None))  # tables that are no mappings: pyarrow's, polars'
    if names is not None and hasattr(data, "__getitem__"):
        return Arrays(_chosen({str(name): np.asarray(data[name]) for name in names}, columns))
    if callable(data):
        return Batches(data, columns, again=True)
    if isinstance(data, Sequence) and data and all(isinstance(item, str | os.PathLike) for item in data):
        return _of_paths([Path(item) for item in data], columns)
    if isinstance(data, Iterable):
        batches: Iterable[Batch] = data
        return Batches(lambda: batches, columns, again=iter(batches) is not batches)
    raise InputError(f"data must be arrays by name, a path or batches, not {type(data).__name__}", field="data")


def _of_paths(paths: Sequence[Path], columns: Sequence[str] | None) -> Source:
    found = list(chain.from_iterable(sorted(path.glob("*.parquet")) if path.is_dir() else [path] for path in paths))
    kinds = {path.suffix for path in found}
    if kinds == {".npz"} and len(found) == 1:
        return Npz(found[0], columns)
    if kinds == {".parquet"}:
        from .parquet import ParquetFiles  # it needs the extra "parquet"

        return ParquetFiles(found, columns)
    raise InputError(f"{', '.join(map(str, paths))}: give one .npz file, or .parquet files, or a folder of these", field="data")


def _chosen(arrays: Mapping[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
    if columns is None:
        return {str(name): array for name, array in arrays.items()}
    for name in columns:
        if name not in arrays:
            raise InputError(f"there is no column {name!r}; there are {[str(known) for known in arrays][:20]}", field=f"columns.{name}")
    return {name: arrays[name] for name in columns}


def column_of(array: Array, name: str) -> DatasetColumn:
    """The column for arrays of this type and shape. Raises InputError."""
    if array.ndim == 0:
        raise InputError(f"column {name!r} is a scalar; it needs a leading sample axis", field=f"columns.{name}")
    return DatasetColumn(sendable(array[:0], f"columns.{name}").dtype.newbyteorder("<"), array.shape[1:])


def cut(array: Array, column: DatasetColumn) -> Iterator[Array]:
    """Consecutive rows of an array, contiguous and in the type that is sent."""
    step = max(1, PIECE_BYTES // max(1, column.nbytes))
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step], column.dtype)


def _counted(counts: Mapping[str, int]) -> int:
    """The number of samples. Raises InputError unless it is the same for all columns, and not 0."""
    if not counts:
        raise InputError("there are no columns to upload", field="columns")
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first]:
            raise InputError(f"column {name!r} has {count:,} samples, but {first!r} has {counts[first]:,}", field=f"columns.{name}")
    if not counts[first]:
        raise InputError("the columns have no samples; at least one is needed", field="columns")
    return counts[first]


class Arrays:
    """Arrays in memory."""

    again = True

    def __init__(self, data: Batch) -> None:
        self._arrays = {name: sendable_or_same(values, name) for name, values in data.items()}
        self.columns: Mapping[str, DatasetColumn] = {name: column_of(array, name) for name, array in self._arrays.items()}
        samples = _counted({name: len(array) for name, array in self._arrays.items()})
        self.nbytes: int | None = samples * sum(column.nbytes for column in self.columns.values())

    def pieces(self) -> Iterator[Piece]:
        """See Source."""
        for number, (array, column) in enumerate(zip(self._arrays.values(), self.columns.values(), strict=True)):
            for piece in cut(array, column):
                yield number, piece


def sendable_or_same(values: ArrayLike, name: str) -> Array:
    """The values as an array; only what NumPy does not hold as numbers is converted now, the rest while it is sent."""
    array = np.asarray(values)
    return sendable(array, f"columns.{name}") if array.dtype.kind not in "fib" else array


class Npz:
    """The arrays of an .npz file, read while they are sent."""

    again = True

    def __init__(self, path: Path, columns: Sequence[str] | None) -> None:
        self._path = path
        with _archive(path) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            self._members = cast("dict[str, str]", _chosen(names, columns))
            heads = {name: _head(archive, member) for name, member in self._members.items()}
        self.columns: Mapping[str, DatasetColumn] = {
            name: column_of(np.empty((0, *shape[1:]) if shape else (), dtype), name) for name, (shape, _, dtype) in heads.items()
        }
        samples = _counted({name: shape[0] for name, (shape, _, _) in heads.items()})
        self.nbytes: int | None = samples * sum(column.nbytes for column in self.columns.values())

    def pieces(self) -> Iterator[Piece]:
        """See Source."""
        with _archive(self._path) as archive:
            for number, (name, member) in enumerate(self._members.items()):
                for rows in _member_rows(archive, member):
                    for piece in cut(rows, self.columns[name]):
                        yield number, piece


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is no .npz file: {error}", field="data") from None


def _head(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it lies column by column, and type of a member."""
    with archive.open(member) as file:
        return _read_head(file)


def _read_head(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise InputError("the file holds Python objects, which are never read: save arrays of numbers", field="data")
    return shape, fortran and len(shape) > 1, dtype


def _member_rows(archive: zipfile.ZipFile, member: str) -> Iterator[Array]:
    with archive.open(member) as file:
        shape, fortran, dtype = _read_head(file)
        if fortran:  # its rows are all over the file
            yield np.frombuffer(file.read(), dtype).reshape(shape, order="F")
            return
        row_bytes = max(1, int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize)
        step = max(1, PIECE_BYTES // row_bytes)
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            yield np.frombuffer(file.read(count * row_bytes), dtype).reshape(count, *shape[1:])


class Batches:
    """Batches of arrays, one after another, whose number nobody knows before."""

    nbytes: int | None = None

    def __init__(self, begin: Callable[[], Iterable[Batch]], columns: Sequence[str] | None, *, again: bool) -> None:
        self._begin, self._wanted, self.again = begin, columns, again
        self._first: Iterator[Batch] | None = iter(begin())
        head = next(self._first, None)
        if head is None:
            raise InputError("there are no batches", field="data")
        arrays = self._arrays(head)
        self._head: Batch | None = head
        self.columns: Mapping[str, DatasetColumn] = {name: column_of(array, name) for name, array in arrays.items()}

    def pieces(self) -> Iterator[Piece]:
        """See Source."""
        for number, batch in enumerate(self._batches()):
            arrays = self._arrays(batch)
            self._check(number, arrays)
            for position, (name, column) in enumerate(self.columns.items()):
                for piece in cut(arrays[name], column):
                    yield position, piece

    def _batches(self) -> Iterator[Batch]:
        if self._first is not None and self._head is not None:
            rest, head = self._first, self._head
            self._first = self._head = None
            return chain([head], rest)
        return iter(self._begin())

    def _arrays(self, batch: Batch) -> dict[str, Array]:
        if not hasattr(batch, "items"):
            raise InputError(f"a batch must be arrays by name, not {type(batch).__name__}", field="data")
        return {name: sendable_or_same(values, name) for name, values in _chosen(dict(batch.items()), self._wanted).items()}

    def _check(self, number: int, arrays: Mapping[str, Array]) -> None:
        if arrays.keys() != self.columns.keys():
            raise InputError(f"batch {number} has the columns {sorted(arrays)}, the first one {sorted(self.columns)}", field="data")
        _counted({name: len(array) for name, array in arrays.items()})
        for name, column in self.columns.items():
            array = arrays[name]
            if array.shape[1:] != column.shape or not np.can_cast(array.dtype, column.dtype, "safe"):
                said = f"batch {number} has {array.dtype} of shape {array.shape[1:]} in column {name!r}, the first one {column.dtype} of {column.shape}"
                raise InputError(said, field=f"columns.{name}")
