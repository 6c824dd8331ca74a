"""Mathematics by one set of names, so that a form of a workload can be given to several libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .contender import Missing

Function = Callable[..., Any]


def absent(*_: Any) -> Any:
    """A function that the library does not have. Raises Missing."""
    raise Missing("a function that the workload needs is not in the library")


@dataclass(frozen=True)
class Space:
    """A library's functions. Those of arrays take an axis or None as their second argument; a library of scalars has none of them."""

    exp: Function
    log: Function
    sqrt: Function
    tanh: Function
    erf: Function
    relu: Function
    softplus: Function
    logsumexp: Function
    """Of an array and an axis; for scalars, of a list."""
    lgamma: Function = absent
    sum: Function = absent
    diagonal: Function = absent
    """From (K, D) to (K, D, D)."""
    padded: Function = absent
    """From (K, L) to (K, 1 + L), with zeros in front."""
