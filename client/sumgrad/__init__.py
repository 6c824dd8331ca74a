"""sumgrad: the gradient of a sum over samples, computed elsewhere, the same to the last bit every time.

    import sumgrad as sg

    X, y = sg.input("x", shape=(2,)), sg.input("y")
    w, b = sg.param("w", [0.0, 0.0]), sg.param("b", 0.0)
    objective = sg.Objective(sg.softplus(-y * (X @ w + b)))
    with sg.local(workers=2) as service:
        result = service.value_and_grad(objective, objective.params, {"x": ..., "y": ...})

Expressions, functions (by NumPy's names), `Objective` and differentiation come from the engine; `connect` and `local` give a service; `nn`,
`optim`, `fit` and `adapters` stand on both. `sumgrad.micrograd` is micrograd's own interface.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import sumgrad_engine
from sumgrad_engine import *  # noqa: F403 - the engine's public names are this package's, by its __all__

from . import adapters, datasets, nn, optim
from .errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    DataLossError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NonFiniteError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ServerStartError,
    ServiceError,
    SupersededError,
    UnauthenticatedError,
    UnavailableError,
)
from .inprocess import here
from .parameters import load_params, save_params
from .resident import Dataset, ServerStatus, WorkerStatus
from .retry import Retry
from .runs import Progress, RunInfo, StepRecord
from .training import Epoch, Fit, fit

if TYPE_CHECKING:
    from . import aio, micrograd
    from .aio import AsyncService
    from .connection import Service, connect, local
    from .credentials import TLS
    from .member import Member, StepResult
    from .run import Run

__all__ = [
    "TLS",
    "AbortedError",
    "AlreadyExistsError",
    "AsyncService",
    "CancelledError",
    "DataLossError",
    "Dataset",
    "DeadlineExceededError",
    "Epoch",
    "Fit",
    "InternalError",
    "InvalidArgumentError",
    "Member",
    "NonFiniteError",
    "NotFoundError",
    "PermissionDeniedError",
    "Progress",
    "ResourceExhaustedError",
    "Retry",
    "Run",
    "RunInfo",
    "ServerStartError",
    "ServerStatus",
    "Service",
    "ServiceError",
    "StepRecord",
    "StepResult",
    "SupersededError",
    "UnauthenticatedError",
    "UnavailableError",
    "WorkerStatus",
    "adapters",
    "aio",
    "connect",
    "datasets",
    "fit",
    "here",
    "load_params",
    "local",
    "micrograd",
    "nn",
    "optim",
    "save_params",
]
__all__ += sumgrad_engine.__all__

# What a program may never ask for is loaded when it does: gRPC, and micrograd's interface. The names and the modules that have them.
_LAZY = {
    "AsyncService": "aio",
    "Member": "member",
    "Run": "run",
    "Service": "connection",
    "StepResult": "member",
    "TLS": "credentials",
    "aio": "",
    "connect": "connection",
    "local": "connection",
    "micrograd": "",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_LAZY[name] or name}", __name__)
    value = getattr(module, name) if _LAZY[name] else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
