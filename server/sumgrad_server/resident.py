"""Datasets as the executor sees them: columns of numbers in open files, which workers map read-only; and what a call wants of them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from sumgrad_engine.types import Array, Shape

from .arena import segment_ids
from .faults import UnknownDatasetError


class ColumnFile:
    """An open file with a column's bytes. `id` is unique within the process; the descriptor is closed when the last one forgets this object.

    Deleting the file does no harm to whoever has it open or mapped.
    """

    writable = False

    def __init__(self, fd: int, nbytes: int) -> None:
        """Takes the descriptor over."""
        self.id = next(segment_ids)
        self.fd = fd
        self.nbytes = nbytes
        weakref.finalize(self, os.close, fd)


@dataclass(frozen=True, eq=False)
class ResidentColumn:
    """One array of a dataset: shape (sample_count, *shape), row-major, little-endian, from the file's first byte on."""

    dtype: np.dtype[np.generic]
    shape: Shape
    file: ColumnFile


@dataclass(frozen=True, eq=False)
class ResidentDataset:
    """A dataset that is here, checked and open. `id` is that of the wire."""

    id: str
    sample_count: int
    columns: Mapping[str, ResidentColumn]


@dataclass(frozen=True, eq=False)
class Rows:
    """Samples of a dataset: `count` rows from `first` on; or those of these indices, which were checked."""

    dataset: ResidentDataset
    count: int
    first: int = 0
    indices: Array | None = None


class Datasets(Protocol):
    """Where datasets are found."""

    async def open(self, namespace: str, name_or_id: str) -> ResidentDataset:
        """A dataset of a namespace. Raises UnknownDatasetError, DamagedError."""


class NoDatasets:
    """A server that keeps none."""

    async def open(self, namespace: str, name_or_id: str) -> ResidentDataset:
        """Raises UnknownDatasetError."""
        raise UnknownDatasetError(f"there is no dataset {name_or_id[:80]!r} here")
