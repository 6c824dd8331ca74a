"""Who the client is, and how it knows the server: TLS certificates and tokens, from arguments, files or the environment."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import grpc

__all__ = ["TLS", "Credentials", "TLSChoice", "credentials"]

Loaded = TypeVar("Loaded")
PathText: TypeAlias = str | os.PathLike[str]

CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE = "SUMGRAD_TLS_CA", "SUMGRAD_TLS_CERT", "SUMGRAD_TLS_KEY"
TOKEN_VARIABLE, TOKEN_FILE_VARIABLE = "SUMGRAD_TOKEN", "SUMGRAD_TOKEN_FILE"


@dataclass(frozen=True)
class TLS:
    """An encrypted connection. All are PEM files: `ca` has the authorities to trust (None: gRPC's own list of public ones).

    `cert` and `key` are the client's certificate and its key, for servers that ask for one (mutual TLS). `server_name` is the name that the server's
    certificate must have, where that is not the one in the address.
    """

    ca: PathText | None = None
    cert: PathText | None = None
    key: PathText | None = None
    server_name: str | None = None

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes a channel with. Raises ValueError that names the file that is no good."""
        if (self.cert is None) != (self.key is None):
            raise ValueError(f"TLS needs both cert and key, or neither: cert is {self.cert!r}, key is {self.key!r}")
        context = ssl.create_default_context()
        authorities = _checked(self.ca, "ca", context.load_verify_locations)
        chain = _checked(self.cert, "cert", lambda path: context.load_cert_chain(path, self.key))
        key = _checked(self.key, "key", lambda path: None)
        return grpc.ssl_channel_credentials(authorities, key, chain)


def _checked(path: PathText | None, what: str, load: Callable[[PathText], None]) -> bytes | None:
    """The bytes of a file that OpenSSL can use."""
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
        load(path)
    except ssl.SSLError as error:
        raise ValueError(
            f"tls: {what} = {os.fspath(path)} can't be used ({error.reason or error}): it must be a PEM file, the key that of cert"
        ) from None
    except OSError as error:
        raise ValueError(f"tls: {what} = {os.fspath(path)} can't be read: {error.strerror}") from None
    return content


TLSChoice: TypeAlias = TLS | str | os.PathLike[str] | bool | None
"""Settings; the path of the authorities' PEM file; True for public authorities; False for no encryption; None for what the environment says."""


@dataclass(frozen=True)
class Credentials:
    """What a connection is made with. The token is nobody's to see."""

    tls: TLS | None
    token: str | None = field(repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    @property
    def options(self) -> list[tuple[str, str]]:
        """Options of the channel."""
        return [("grpc.ssl_target_name_override", self.tls.server_name)] if self.tls and self.tls.server_name else []


def credentials(tls: TLSChoice, token: str | None) -> Credentials:
    """The credentials for these arguments of `connect`; where they are None, for the environment. Raises ValueError."""
    return Credentials(_tls(tls), _token(token))


def _tls(choice: TLSChoice) -> TLS | None:
    if choice is None:
        found = TLS(*(os.environ.get(name) or None for name in (CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE)))
        return found if found != TLS() else None
    if isinstance(choice, bool):
        return TLS() if choice else None
    return choice if isinstance(choice, TLS) else TLS(ca=choice)


def _token(token: str | None) -> str | None:
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE) or _token_in(os.environ.get(TOKEN_FILE_VARIABLE))
    if token and not (token.isascii() and token.isprintable()):
        raise ValueError("the token has other characters than those that can be printed in ASCII: is it whole?")
    return token or None


def _token_in(path: str | None) -> str | None:
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the token file {path} ({TOKEN_FILE_VARIABLE}) can't be read: {error}") from None
