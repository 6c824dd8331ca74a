"""Parquet files as a source of an upload: read batch by batch, so that files may be larger than memory. Needs the extra "parquet"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sumgrad_engine.errors import InputError, MissingDependencyError

from .resident import DatasetColumn
from .sources import Piece, column_of, cut

try:
    import pyarrow as arrow
    import pyarrow.parquet
except ModuleNotFoundError as error:
    raise MissingDependencyError(
        'Parquet files are read by pyarrow, which is not installed here: pip install "sumgrad[parquet]"'
    ) from error

BATCH_ROWS = 1 << 16


class ParquetFiles:
    """Files of the same columns, one after another. Numbers and booleans are columns of scalars, lists of a fixed size columns of vectors."""

    again = True

    def __init__(self, paths: Sequence[Path], columns: Sequence[str] | None) -> None:
        self._paths = paths
        try:
            schema = arrow.parquet.read_schema(paths[0])
        except arrow.ArrowInvalid as error:
            raise InputError(f"{paths[0]} is no Parquet file: {error}", field="data") from None
        for name in columns or ():
            if name not in schema.names:
                raise InputError(f"{paths[0]} has no column {name!r}; it has {schema.names[:20]}", field=f"columns.{name}")
        self._names = list(columns or schema.names)
        self.columns: Mapping[str, DatasetColumn] = {name: _column(schema.field(name)) for name in self._names}
        rows = sum(arrow.parquet.read_metadata(path).num_rows for path in paths)
        if not rows:
            raise InputError(f"{', '.join(map(str, paths))}: there are no rows; at least one is needed", field="data")
        self.nbytes: int | None = rows * sum(column.nbytes for column in self.columns.values())

    def pieces(self) -> Iterator[Piece]:
        """See Source."""
        for path in self._paths:
            with arrow.parquet.ParquetFile(path) as file:
                row = 0
                for batch in file.iter_batches(BATCH_ROWS, columns=self._names):
                    yield from self._batch_pieces(path, row, batch)
                    row += batch.num_rows

    def _batch_pieces(self, path: Path, row: int, batch: Any) -> Iterator[Piece]:
        for number, (name, column) in enumerate(self.columns.items()):
            if name not in batch.schema.names:
                raise InputError(f"{path} has no column {name!r}, which the first file has", field=f"columns.{name}")
            values = _values(path, name, row, batch.column(batch.schema.get_field_index(name)))
            if values.shape[1:] != column.shape or not np.can_cast(values.dtype, column.dtype, "safe"):
                said = f"{path} has {values.dtype} of shape {values.shape[1:]} in column {name!r}, the first file {column.dtype} of {column.shape}"
                raise InputError(said, field=f"columns.{name}")
            for piece in cut(values, column):
                yield number, piece


def _column(field: Any) -> DatasetColumn:
    kind, shape = field.type, []
    while arrow.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    if not (arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_boolean(kind)):
        said = f"column {field.name!r} holds {field.type}: numbers, booleans and lists of them of a fixed size can be uploaded"
        raise InputError(f"{said}; choose others with columns=[...]", field=f"columns.{field.name}")
    return column_of(np.empty((0, *shape), kind.to_pandas_dtype()), field.name)


def _values(path: Path, name: str, row: int, values: Any, per_row: int = 1) -> NDArray[Any]:
    """A column of a batch, or what is in its lists: so many values a row. Raises InputError that names the first row without a value."""
    if values.null_count:
        first = row + int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // per_row
        raise InputError(f"{path}: column {name!r} has no value in row {first}", field=f"columns.{name}", sample=first)
    if arrow.types.is_fixed_size_list(values.type):
        inner = _values(path, name, row, values.flatten(), per_row * values.type.list_size)
        return inner.reshape(len(values), values.type.list_size, *inner.shape[1:])
    return np.asarray(values.to_numpy(zero_copy_only=False))
