"""Who may look: the same tokens as for gRPC, as HTTP sends them."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping

from ..auth import Authenticator, Scope

SCOPES: Mapping[str, Scope | None] = {"/healthz": None, "/metrics": "read"}
"""What a path needs; everything else that is not a file of the page needs "admin"."""


def scope_of(path: str) -> Scope | None:
    """The scope that a path needs, or None if anybody may see it."""
    if path.startswith("/static/"):
        return None
    return SCOPES.get(path, "admin")


def require(authenticator: Authenticator, authorization: str, scope: Scope) -> None:
    """Raises UnauthenticatedError or PermissionDeniedError unless the header names a caller with this scope."""
    metadata = [("authorization", _bearer(authorization))] if authorization else []
    authenticator.principal(metadata).require(scope)


def _bearer(authorization: str) -> str:
    """A browser asks for name and password: the token is the password, and the name may be anything."""
    kind, _, rest = authorization.partition(" ")
    if kind.lower() != "basic":
        return authorization
    try:
        _, _, token = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except ValueError:  # no base64, or no UTF-8 in it
        return authorization
    return f"Bearer {token}"


def names_this_machine(host: str) -> bool:
    """Whether a Host header is an address or "localhost".

    A page elsewhere can give its own name this machine's address, and would read what is served to this machine only; but it can't hide the name.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name == "localhost"
    return True
