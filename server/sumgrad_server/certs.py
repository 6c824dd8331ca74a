"""Makes certificates for development: an authority, a server's, clients' and those of a cluster's nodes.

Who serves strangers gets certificates from an authority that they trust, and does not need this.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .tokens import NAME

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
DAYS = 365
AUTHORITY_DAYS = 3650
CLOCKS_DIFFER = datetime.timedelta(hours=1)
AUTHORITY, SERVER = "ca", "server"
PRIVATE, PUBLIC = 0o600, 0o644

Extensions: TypeAlias = Sequence[tuple[x509.ExtensionType, bool]]
"""Each with whether it is critical."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, which is for ECDSA on P-256."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def files(self, name: str) -> dict[str, bytes]:
        """Both in PEM, by the names of their files."""
        private = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {f"{name}.pem": self.certificate.public_bytes(Encoding.PEM), f"{name}.key": private}

    @classmethod
    def read(cls, folder: Path, name: str) -> Pair:
        """That of such files. Raises OSError or ValueError."""
        key = load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{folder / name}.key was not made here: it is no elliptic curve's")  # noqa: TRY004 - the file is wrong, not the call
        return cls(x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()), key)


def authority() -> Pair:
    """A new authority."""
    now = datetime.datetime.now(datetime.UTC)
    return _issued("sumgrad development CA", now + datetime.timedelta(days=AUTHORITY_DAYS), None, [(x509.BasicConstraints(True, 0), True)])


def server(issuer: Pair, hosts: Sequence[str], days: int = DAYS) -> Pair:
    """A certificate for a server that clients reach by these names and addresses. Raises ValueError for a host that is none."""
    names = x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys([*LOCAL_HOSTS, *hosts])])
    return _leaf("sumgrad server", days, issuer, [ExtendedKeyUsageOID.SERVER_AUTH], [(names, False)])


def client(issuer: Pair, name: str, days: int = DAYS) -> Pair:
    """A client's certificate."""
    return _leaf(name, days, issuer, [ExtendedKeyUsageOID.CLIENT_AUTH], [])


def node(issuer: Pair, name: str, days: int = DAYS) -> Pair:
    """A certificate for a node of a Dask cluster, which is server and client at once. Dask asks who issued it, and for no name."""
    return _leaf(name, days, issuer, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH], [])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not host or not host.isascii() or ":" in host or " " in host:
            raise ValueError(f"{host!r} is no host: give a name or an address, without a port") from None
        return x509.DNSName(host)


def _leaf(name: str, days: int, issuer: Pair, uses: Sequence[x509.ObjectIdentifier], more: Extensions) -> Pair:
    end = min(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days), issuer.certificate.not_valid_after_utc)
    own = [(x509.BasicConstraints(False, None), True), (x509.ExtendedKeyUsage(uses), False), *more]
    return _issued(name, end, issuer, own)


def _issued(name: str, end: datetime.datetime, issuer: Pair | None, extensions: Extensions) -> Pair:
    """A certificate for a new key, signed by the issuer, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.now(datetime.UTC) - CLOCKS_DIFFER)
        .not_valid_after(end)
        .add_extension(_usage(signs=issuer is None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Pair(builder.sign(signer, hashes.SHA256()), key)


def _usage(*, signs: bool) -> x509.KeyUsage:
    others = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"], False
    )
    return x509.KeyUsage(digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **others)


def make(folder: Path, hosts: Sequence[str], clients: Sequence[str], days: int = DAYS, nodes: Sequence[str] = ()) -> list[Path]:
    """Makes what is not there yet: the authority, the server's certificate, and those of clients and of a cluster's nodes; gives the files.

    Raises FileExistsError if what is asked for is there, ValueError for a name that is none, and OSError.
    """
    for kind, name in [*(("client", name) for name in clients), *(("node", name) for name in nodes)]:
        if not NAME.fullmatch(name):
            raise ValueError(f"{kind} {name!r} must have 1 to 64 letters, digits, dots, dashes and underscores")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    has_authority, has_server = _has(folder, AUTHORITY), _has(folder, SERVER)
    leaves = {f"client-{name}": (client, name) for name in clients} | {f"node-{name}": (node, name) for name in nodes}
    serves = bool(hosts) or not leaves
    wanted = [*leaves, *([SERVER] if serves else [])]
    taken = [name for name in wanted if _has(folder, name)]
    if taken:
        raise FileExistsError(
            f"{folder / taken[0]}.pem or .key is there already, and nothing is overwritten: remove both, or choose another folder"
        )
    issuer = Pair.read(folder, AUTHORITY) if has_authority else authority()
    files = {} if has_authority else issuer.files(AUTHORITY)
    files |= {} if has_server or (nodes and not serves) else server(issuer, hosts, days).files(SERVER)
    for file, (issue, name) in leaves.items():
        files |= issue(issuer, name, days).files(file)
    return _write(folder, files)


def _has(folder: Path, name: str) -> bool:
    return any((folder / f"{name}{ending}").exists() for ending in (".pem", ".key"))


def _write(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """All of them, none of which is there, or none."""
    written: list[Path] = []
    try:
        for name, data in files.items():
            mode = PRIVATE if name.endswith(".key") else PUBLIC
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(folder / name)
            with open(descriptor, "wb") as file:
                file.write(data)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    return written
