"""Who calls, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

from .faults import PermissionDeniedError

Scope: TypeAlias = Literal["read", "compute", "admin"]
"""read: look at graphs, datasets and the server's state; compute: have things computed, upload and delete; admin: all of it, and the page."""

SCOPES: frozenset[Scope] = frozenset(get_args(Scope))
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class Principal:
    """A caller. Datasets and runs belong to its namespace. `max_queue` and `max_dataset_bytes` replace the server's settings, where given."""

    name: str
    namespace: str = DEFAULT_NAMESPACE
    scopes: frozenset[Scope] = SCOPES
    max_queue: int | None = None
    max_dataset_bytes: int | None = None

    def require(self, scope: Scope) -> None:
        """Raises PermissionDeniedError unless this caller has the scope, or is an administrator."""
        if not self.scopes & {scope, "admin"}:
            raise PermissionDeniedError(f"this needs a token with scope {scope!r}; that of {self.name!r} has {sorted(self.scopes)}")


EVERYBODY = Principal("")
"""Callers of a server without tokens."""


class Authenticator(Protocol):
    """Tells who sends some metadata. Raises UnauthenticatedError."""

    def principal(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """The caller."""


class NoTokens:
    """Takes everybody in."""

    def principal(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """The caller."""
        return EVERYBODY
