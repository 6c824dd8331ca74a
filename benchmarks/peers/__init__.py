"""How each library is run: a module each, with a function from a task and its forms to the contenders that it can field."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from ..contender import Contender, Entries, Missing, Task
from ..forms import Forms
from ..work import forms
from . import autograd_peer, by_hand, casadi_peer, jax_peer, micrograd_peer, torch_peer

PEERS: dict[str, Callable[[Task, Forms], Entries]] = {
    "NumPy by hand": by_hand.contenders,
    "JAX": jax_peer.contenders,
    "PyTorch": torch_peer.contenders,
    "CasADi": casadi_peer.contenders,
    "autograd": autograd_peer.contenders,
    "micrograd": micrograd_peer.contenders,
}
"""By library."""


def peers(task: Task) -> tuple[list[Contender], list[str]]:
    """Everybody who can do this task, and what is said of those who can't."""
    found: list[Contender] = []
    missing: list[str] = []
    for entry in chain.from_iterable(_entries(library, task) for library in PEERS):
        if isinstance(entry, Contender):
            found.append(entry)
        else:
            missing.append(str(entry))
    return found, missing


def named(name: str, task: Task) -> Contender:
    """The contender of this name. Raises Missing."""
    for entry in _entries(name.partition(",")[0], task):
        if isinstance(entry, Contender) and entry.name == name:
            return entry
        if isinstance(entry, Missing):
            raise entry
    raise Missing(f"{name} does not take part here")


def _entries(library: str, task: Task) -> Entries:
    try:
        yield from PEERS[library](task, forms(task.work))
    except Missing as reason:
        yield reason
