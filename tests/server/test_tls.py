"""TLS: what is shown to whom, what is refused at the start, and certificates that change under a running server."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from cryptography import x509
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server import certs
from sumgrad_server.tls import CertificateError, Certificates, Files, Identity


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Certificates of an authority, a server and the client "alice"."""
    certs.make(tmp_path / "certs", ["server.example"], ["alice"])
    certs.make(tmp_path / "certs", [], ["bob"])
    return tmp_path / "certs"


def files(folder: Path, *, mutual: bool = False) -> Files:
    return Files(str(folder / "server.pem"), str(folder / "server.key"), str(folder / "ca.pem") if mutual else None)


def flags(folder: Path, *, mutual: bool = False) -> list[str]:
    given = ["--tls-cert", str(folder / "server.pem"), "--tls-key", str(folder / "server.key"), "--workers", "1"]
    return [*given, "--tls-client-ca", str(folder / "ca.pem")] if mutual else given


def replace(folder: Path, name: str, pair: certs.Pair) -> None:
    """Puts another pair in the place of one, each file in one go."""
    for file, data in pair.files(name).items():
        (folder / f"{file}.new").write_bytes(data)
        os.replace(folder / f"{file}.new", folder / file)


def channel(address: str, folder: Path, client: str | None = None) -> grpc.Channel:
    """A new connection, as gRPC's documentation makes one; with a client's certificate if it has one."""
    pair = [(folder / f"client-{client}.{ending}").read_bytes() for ending in ("key", "pem")] if client else [None, None]
    credentials = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes(), *pair)
    # Connections of one process to one address are one, unless they are told not to be.
    return grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)])


def ask(line: grpc.Channel) -> Any:
    """A call without consequences: which graph has no name? It answers NOT_FOUND."""
    call = line.unary_unary(
        "/sumgrad.v1.GradientService/GetGraph", wire.GetGraphRequest.SerializeToString, wire.GetGraphResponse.FromString
    )
    try:
        return call(wire.GetGraphRequest(graph_id="none"), timeout=20.0)
    except grpc.RpcError as error:
        return error.code()


def serial(address: str, folder: Path) -> int:
    """The serial number of the certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=20.0) as raw, context.wrap_socket(raw, server_hostname="localhost") as line:
        shown = line.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def serial_of(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / "server.pem").read_bytes()).serial_number


def test_certificates_change_under_a_running_server(support: ModuleType, folder: Path) -> None:
    """New files are shown to new connections, bad ones are a line in the log, and a connection that stands goes on through all of it."""
    authority = certs.Pair.read(folder, "ca")
    with support.running(*flags(folder)) as server, contextlib.closing(channel(server.address, folder)) as standing:
        assert ask(standing) is grpc.StatusCode.NOT_FOUND
        first = serial_of(folder)
        assert serial(server.address, folder) == first
        replace(folder, "server", certs.server(authority, []))
        second = serial_of(folder)
        assert second != first
        assert serial(server.address, folder) == second
        (folder / "server.pem").write_text("nonsense")
        assert serial(server.address, folder) == second
        assert "tls_cert" in server.said()
        assert "the old one stays" in server.said()
        replace(folder, "server", certs.server(authority, []))
        assert serial(server.address, folder) == serial_of(folder) != second
        assert ask(standing) is grpc.StatusCode.NOT_FOUND
        with contextlib.closing(channel(server.address, folder)) as fresh:
            assert ask(fresh) is grpc.StatusCode.NOT_FOUND


def test_mutual_tls(support: ModuleType, folder: Path, tmp_path: Path) -> None:
    """Where clients need a certificate, one of the right authority gets in; none, and another authority's, do not."""
    certs.make(tmp_path / "others", [], ["mallory"])
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    for ending in ("pem", "key"):
        (stranger / f"client-mallory.{ending}").write_bytes((tmp_path / "others" / f"client-mallory.{ending}").read_bytes())
    with support.running(*flags(folder, mutual=True)) as server:
        with contextlib.closing(channel(server.address, folder, "alice")) as known:
            assert ask(known) is grpc.StatusCode.NOT_FOUND
        for line in (channel(server.address, folder), channel(server.address, stranger, "mallory")):
            with contextlib.closing(line):
                assert ask(line) is grpc.StatusCode.UNAVAILABLE


def test_authorities_of_clients_change_too(support: ModuleType, folder: Path, tmp_path: Path) -> None:
    """Clients of a new authority get in once the file has it."""
    certs.make(tmp_path / "others", [], ["carol"])
    with support.running(*flags(folder, mutual=True)) as server:
        both = (folder / "ca.pem").read_bytes() + (tmp_path / "others" / "ca.pem").read_bytes()
        (folder / "ca.pem").write_bytes(both)
        for ending in ("pem", "key"):
            (folder / f"client-carol.{ending}").write_bytes((tmp_path / "others" / f"client-carol.{ending}").read_bytes())
        for name in ("carol", "alice"):
            with contextlib.closing(channel(server.address, folder, name)) as line:
                assert ask(line) is grpc.StatusCode.NOT_FOUND


def test_plain_text_is_not_understood(support: ModuleType, folder: Path) -> None:
    """A server with TLS answers no client without."""
    with support.running(*flags(folder)) as server, contextlib.closing(grpc.insecure_channel(server.address)) as plain:
        assert ask(plain) is grpc.StatusCode.UNAVAILABLE


def expired(folder: Path) -> str:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=60)
    replace(folder, "server", certs._issued("late", past, certs.Pair.read(folder, "ca"), []))
    return "server.pem expired at"


def absent(folder: Path) -> str:
    (folder / "server.key").unlink()
    return f"tls_key: can't read {folder}/server.key: No such file"


def not_pem(folder: Path) -> str:
    (folder / "server.pem").write_bytes(b"\0" * 100)
    return "server.pem does not hold a PEM certificate"


def other_key(folder: Path) -> str:
    (folder / "server.key").write_bytes((folder / "ca.key").read_bytes())
    return "is not the key of the certificate in"


def no_key(folder: Path) -> str:
    (folder / "server.key").write_bytes((folder / "server.pem").read_bytes())
    return "server.key does not hold a PEM private key"


def no_authority(folder: Path) -> str:
    (folder / "ca.pem").write_text("")
    return "tls_client_ca: "


@pytest.mark.parametrize("spoil", [expired, absent, not_pem, other_key, no_key, no_authority], ids=lambda spoil: spoil.__name__)
def test_bad_files_are_named(folder: Path, spoil: Any) -> None:
    """Each thing that can be wrong with a file is said with the setting and the file."""
    said = spoil(folder)
    with pytest.raises(CertificateError, match=re.escape(said)):
        Identity.read(files(folder, mutual=True))


def test_a_server_does_not_start_on_bad_files(folder: Path) -> None:
    """It ends with 1 and one line, before workers are started."""
    said = other_key(folder)
    command = [sys.executable, "-m", "sumgrad_server", "--address", "127.0.0.1:0", *flags(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def handshakes(context: ssl.SSLContext) -> Iterator[str]:
    """An address where connections are shaken hands with and closed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    raw, _ = listening.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), raw, context.wrap_socket(raw, server_side=True) as line:
                    line.recv(1)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_other_servers_get_new_certificates_too(folder: Path) -> None:
    """The context for HTTP shows new connections the newest good certificate."""
    certificates = Certificates(files(folder))
    with handshakes(certificates.context()) as address:
        first = serial_of(folder)
        assert serial(address, folder) == first
        replace(folder, "server", certs.server(certs.Pair.read(folder, "ca"), []))
        assert serial(address, folder) == serial_of(folder) != first
        (folder / "server.key").unlink()
        assert serial(address, folder) == serial_of(folder)
