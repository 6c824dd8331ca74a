"""TLS for gRPC and HTTP from PEM files, which are read again when they change.

The files are looked at when a client connects. A new certificate that is good is shown from then on; a bad one is an error in the log, and the old
one stays. Connections that stand are not touched.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

log = logging.getLogger(__name__)

Stamp: TypeAlias = tuple[tuple[int, int, int], ...]
Read = TypeVar("Read")


class CertificateError(ValueError):
    """Files that are no certificate, or not one to show; the message names the setting and the file."""


@dataclass(frozen=True)
class Files:
    """The PEM files of the settings."""

    cert: str
    key: str
    client_ca: str | None = None

    @property
    def stamp(self) -> Stamp:
        """Changes when a file does, also when a link comes to lead elsewhere. Raises OSError."""
        found = (os.stat(path) for path in (self.cert, self.key, self.client_ca) if path)
        return tuple((status.st_mtime_ns, status.st_size, status.st_ino) for status in found)


@dataclass(frozen=True)
class Identity:
    """What the server shows, and whom it believes; all in PEM, checked."""

    cert: bytes
    key: bytes
    client_ca: bytes | None

    @classmethod
    def read(cls, files: Files) -> Identity:
        """Reads and checks the files. Raises CertificateError with the file that is wrong, and why."""
        cert, key = _bytes("tls_cert", files.cert), _bytes("tls_key", files.key)
        chain = _certificates("tls_cert", files.cert, cert)
        _check_dates("tls_cert", files.cert, chain[0])
        private = _parsed("tls_key", files.key, "a PEM private key without a password", lambda: load_pem_private_key(key, None))
        if _public(private.public_key()) != _public(chain[0].public_key()):
            raise CertificateError(f"tls_key: {files.key} is not the key of the certificate in {files.cert}")
        if files.client_ca is None:
            return cls(cert, key, None)
        client_ca = _bytes("tls_client_ca", files.client_ca)
        for authority in _certificates("tls_client_ca", files.client_ca, client_ca):
            _check_dates("tls_client_ca", files.client_ca, authority)
        return cls(cert, key, client_ca)

    def for_grpc(self) -> Any:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.cert)], self.client_ca)


def _bytes(setting: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise CertificateError(f"{setting}: can't read {path}: {error.strerror}") from error


def _parsed(setting: str, path: str, what: str, parse: Callable[[], Read]) -> Read:
    try:
        return parse()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{setting}: {path} does not hold {what}") from error


def _certificates(setting: str, path: str, data: bytes) -> list[x509.Certificate]:
    return _parsed(setting, path, "a PEM certificate", lambda: x509.load_pem_x509_certificates(data))


def _check_dates(setting: str, path: str, certificate: x509.Certificate) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_after_utc < now:
        raise CertificateError(f"{setting}: the certificate in {path} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    if certificate.not_valid_before_utc > now:
        raise CertificateError(
            f"{setting}: the certificate in {path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: is the clock right?"
        )


def _public(key: Any) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return data


class Certificates:
    """The identity as the files have it now. Asked by gRPC's threads and by the event loop."""

    def __init__(self, files: Files) -> None:
        """Raises CertificateError."""
        self._files = files
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._identity = Identity.read(files)

    def credentials(self) -> grpc.ServerCredentials:
        """For gRPC's ports."""
        shown = self._identity

        def newer() -> Any:
            nonlocal shown
            current = self.current()
            if current is shown:
                return None
            shown = current
            return current.for_grpc()

        made: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
            shown.for_grpc(), newer, require_client_authentication=self._files.client_ca is not None
        )
        return made

    def context(self) -> ssl.SSLContext:
        """For asyncio's servers: a context that gives way to one of the newest files in each handshake."""
        identity, context = self._identity, self._context()

        def renew(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
            nonlocal identity, context
            current = self.current()
            if current is not identity:
                with contextlib.suppress(OSError):  # a file that changes at this moment: the next handshake looks again
                    identity, context = current, self._context()
            connection.context = context

        context.sni_callback = renew
        return context

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._files.cert, self._files.key)
        if self._files.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._files.client_ca)
        return context

    def current(self) -> Identity:
        """The identity, read again if a file has changed since the last time and all is well with the new one."""
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._renew()
            return self._identity

    def _renew(self) -> None:
        try:
            self._identity = Identity.read(self._files)
        except CertificateError as error:
            log.error("the new certificate is not used, the old one stays: %s", error)  # noqa: TRY400 - it says all
        else:
            log.info("a new certificate from %s", self._files.cert)

    def _look(self) -> Stamp:
        try:
            return self._files.stamp
        except OSError:  # a file is gone: reading it says which
            return ()
