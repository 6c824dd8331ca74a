"""The workloads by which speed is measured, and our own part of the measurement (`sumgrad bench`).

`benchmarks/` in the repository measures the same workloads beside other libraries.
"""

from __future__ import annotations

from .models import WORKLOADS, classifier, logistic, mixture, network, options, poisson
from .show import processor, run_bench
from .timing import best_seconds, gradient, precisions
from .workload import Workload

__all__ = [
    "WORKLOADS",
    "Workload",
    "best_seconds",
    "classifier",
    "gradient",
    "logistic",
    "mixture",
    "network",
    "options",
    "poisson",
    "precisions",
    "processor",
    "run_bench",
]
