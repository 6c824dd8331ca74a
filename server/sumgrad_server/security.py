"""Encryption and authentication of the settings, for whatever listens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from .auth import Authenticator, NoTokens
from .settings import Settings
from .tokens import Tokens

if TYPE_CHECKING:
    from .tls import Certificates


@dataclass(frozen=True)
class Security:
    """What the settings say about both."""

    certificates: Certificates | None
    authenticator: Authenticator

    @classmethod
    def of(cls, settings: Settings) -> Security:
        """Reads the files of the settings. Raises CertificateError or TokenFileError, which are ValueErrors."""
        return cls(_certificates(settings), NoTokens() if settings.tokens is None else Tokens(settings.tokens))

    def add_port(self, server: grpc.aio.Server, address: str) -> int:
        """Lets a gRPC server listen; the port. Raises RuntimeError."""
        if self.certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self.certificates.credentials())

    def context(self) -> ssl.SSLContext | None:
        """What asyncio's servers need for TLS, if there is TLS."""
        return None if self.certificates is None else self.certificates.context()


def _certificates(settings: Settings) -> Certificates | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    from .tls import Certificates, Files  # which brings cryptography

    return Certificates(Files(settings.tls_cert, settings.tls_key, settings.tls_client_ca))
