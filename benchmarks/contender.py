"""What takes part: something that computes value and gradient of a workload's sum, as often as it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sumgrad.bench import Workload
from sumgrad_engine.options import Precision

Arrays = Mapping[str, NDArray[Any]]
Answer = tuple[float, Arrays]
"""Value, and a gradient for each parameter by name."""


@dataclass(frozen=True)
class Contender:
    """`run` is what is timed, with all data where and how this library likes it best; `read` makes NumPy's arrays of what it gives."""

    name: str
    samples: int
    """The samples that one run sums: fewer than asked for where a library's time a sample is long, and does not depend on their number."""
    run: Callable[[], Any]
    read: Callable[[Any], Answer]

    @property
    def family(self) -> str:
        """The library: the name up to the first comma."""
        return self.name.partition(",")[0]


class Missing(Exception):  # noqa: N818 - nothing is wrong
    """Why a contender does not take part."""


@dataclass(frozen=True)
class Task:
    """A workload at a number of samples in a precision, with its data."""

    work: Workload
    samples: int
    precision: Precision
    params: Arrays
    data: Arrays
    compile: bool = True
    """Whether contenders that compile for long take part."""

    @classmethod
    def of(cls, work: Workload, samples: int, precision: Precision, *, compile: bool = True) -> Task:  # noqa: A002
        """The task with random data."""
        dtype = np.float32 if precision == "f32" else np.float64
        params = {name: np.asarray(array, dtype) for name, array in work.params.items()}
        return cls(work, samples, precision, params, work.data(samples, precision), compile)

    def first(self, samples: int) -> Task:
        """The same with the first samples alone."""
        count = min(samples, self.samples)
        data = {name: array[:count] for name, array in self.data.items()}
        return Task(self.work, count, self.precision, self.params, data, self.compile)

    @property
    def tolerance(self) -> float:
        """How far a gradient may be off, relative to its largest entry."""
        return 1e-9 if self.precision == "f64" else 1e-3


Entries = Iterator[Contender | Missing]
