"""Datasets as the executor sees them: columns of numbers in open files, which workers map read-only."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sumgrad_engine.types import Shape


class ColumnFile:
    """An open file with a column's bytes. `id` is unique within the process; the descriptor is closed when the last one forgets this object.

    Deleting the file does no harm to whoever has it open or mapped.
    """

    _ids = itertools.count(1)

    def __init__(self, fd: int, nbytes: int) -> None:
        """Takes the descriptor over."""
        self.id = next(self._ids)
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
