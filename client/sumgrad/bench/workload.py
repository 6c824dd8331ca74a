"""What a workload is: an objective, parameters, data, and how many operations its gradient takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sumgrad_engine.options import Precision

import sumgrad as sg

Arrays = dict[str, NDArray[Any]]

TRANSCENDENTAL = 20
"""Operations that one exp, log, tanh, erf, ... counts as: about what a polynomial with its reduction takes, division included."""


@dataclass(frozen=True)
class Workload:
    """A sum over samples whose value and gradient are timed.

    `key` is its letter in the list of workloads. The objective may depend on the number of samples, as ADBench's does.
    """

    key: str
    name: str
    params: Arrays
    make: Callable[[Arrays, int], sg.Objective]
    """The objective for these parameters and a number of samples."""
    draw: Callable[[np.random.Generator, int], Arrays]
    """Data for a number of samples: arrays with a leading sample axis."""
    arithmetic: float
    """Additions and multiplications of value and gradient for one sample, counted on paper."""
    transcendental: float
    """Calls of exp, log, tanh, ... for one sample."""
    samples: tuple[int, ...]
    """Numbers of samples at which it is timed."""
    precisions: tuple[Precision, ...] = ("f64",)

    @property
    def flops(self) -> float:
        """Floating-point operations a sample."""
        return self.arithmetic + TRANSCENDENTAL * self.transcendental

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(array.size for array in self.params.values())

    def objective(self, samples: int) -> sg.Objective:
        """The workload in sumgrad's form."""
        return self.make(self.params, samples)

    def data(self, samples: int, precision: Precision = "f64", seed: int = 0) -> Arrays:
        """Random data; float arrays in the precision asked for."""
        drawn = self.draw(np.random.default_rng(seed), samples)
        return {name: _in_precision(array, precision) for name, array in drawn.items()}


def _in_precision(array: NDArray[Any], precision: Precision) -> NDArray[Any]:
    return array.astype(np.float32) if precision == "f32" and array.dtype == np.float64 else array
