"""`sumgrad certs` and the other half of `sumgrad tokens`: the commands, and what they leave on the disk."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store
from sumgrad_server import certs
from sumgrad_server.tools import main

Done = subprocess.CompletedProcess[str]


def sumgrad(*arguments: str, **environment: str) -> Done:
    """Runs the command `sumgrad`."""
    command = [sys.executable, "-c", "from sumgrad.command import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment})


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> set[str]:
    """The names and addresses that a certificate is for."""
    alternative = read(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(alternative.get_values_for_type(x509.DNSName)) | {str(one) for one in alternative.get_values_for_type(x509.IPAddress)}


def test_the_command_makes_what_a_server_needs(tmp_path: Path) -> None:
    """`sumgrad certs DIR` makes six files, keys for their owner alone, and says what to type next."""
    folder = tmp_path / "new folder"
    done = sumgrad("certs", str(folder), "--host", "grad.example", "--host", "192.0.2.7", "--client", "alice", "--days", "3")
    assert done.returncode == 0, done.stderr
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {
        f"{name}.{ending}": mode for name in ("ca", "server", "client-alice") for ending, mode in (("pem", 0o644), ("key", 0o600))
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert names(folder / "server.pem") == {"localhost", "127.0.0.1", "::1", "grad.example", "192.0.2.7"}
    assert f"--tls-cert '{folder}/server.pem'" in done.stdout
    assert "--tls-client-ca" in done.stdout
    assert "sumgrad tokens create" in done.stdout


def test_certificates_hold_for_what_they_are_for(tmp_path: Path) -> None:
    """By the rules of X.509: the server's for its hosts, the client's for clients, neither for the other's part; on P-256."""
    certs.make(tmp_path, [], ["alice"])
    policy = PolicyBuilder().store(Store([read(tmp_path / "ca.pem")]))
    server, client = read(tmp_path / "server.pem"), read(tmp_path / "client-alice.pem")
    for host in (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.IPAddress(ipaddress.ip_address("::1"))):
        policy.build_server_verifier(host).verify(server, [])
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("elsewhere.example")).verify(server, [])
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("localhost")).verify(client, [])
    for name in ("ca", "server", "client-alice"):
        key = load_pem_private_key((tmp_path / f"{name}.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert key.public_key() == read(tmp_path / f"{name}.pem").public_key()


def test_nodes_are_servers_and_clients(tmp_path: Path) -> None:
    """A certificate of a Dask cluster's node lets OpenSSL, which Dask asks, take it for either part; no server's certificate is made with it."""
    certs.make(tmp_path, [], [], nodes=["worker"])
    assert {path.name for path in tmp_path.iterdir()} == {"ca.pem", "ca.key", "node-worker.pem", "node-worker.key"}
    contexts = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        contexts.append(ssl.SSLContext(protocol))
        contexts[-1].check_hostname = False  # as Dask does
        contexts[-1].verify_mode = ssl.CERT_REQUIRED
        contexts[-1].load_verify_locations(tmp_path / "ca.pem")
        contexts[-1].load_cert_chain(tmp_path / "node-worker.pem", tmp_path / "node-worker.key")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [contexts[0].wrap_bio(incoming, outgoing, server_side=True), contexts[1].wrap_bio(outgoing, incoming)]
    for end in [ends[1], ends[0], ends[1], ends[0]]:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert all(end.getpeercert() for end in ends)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there stays to the byte, and nothing new is made beside it."""
    assert main(["certs", str(tmp_path), "--client", "alice"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments in ([], ["--client", "alice"], ["--client", "bob", "--host", "other.example"], ["--client", "bob", "--client", "alice"]):
        assert main(["certs", str(tmp_path), *arguments]) == 1
        assert "nothing is overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_clients_can_come_later(tmp_path: Path) -> None:
    """Another client's certificate is issued by the authority that is there."""
    certs.make(tmp_path, [], [])
    server = (tmp_path / "server.pem").read_bytes()
    made = certs.make(tmp_path, [], ["late"])
    assert [path.name for path in made] == ["client-late.pem", "client-late.key"]
    assert (tmp_path / "server.pem").read_bytes() == server
    read(tmp_path / "client-late.pem").verify_directly_issued_by(read(tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "a b"], "'a b' is no host"),
        (["--host", "host:50051"], "without a port"),
        (["--host", "gräd.example"], "is no host"),
        (["--client", "../up"], "client '../up'"),
    ],
)
def test_names_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    """A wrong name is said, and nothing is left behind."""
    assert main(["certs", str(tmp_path / "made"), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert [*tmp_path.rglob("*.*")] == []


def test_another_s_authority_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of these names that are no such pair are an error, not a guess."""
    (tmp_path / "ca.pem").write_text("nonsense")
    assert main(["certs", str(tmp_path)]) == 1
    assert "ca.key" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]


def test_tokens_from_the_command_line(tmp_path: Path) -> None:
    """`sumgrad tokens` creates, lists and revokes; the token alone is on stdout, and is seen there only."""
    file = str(tmp_path / "tokens.json")
    made = sumgrad("tokens", "create", "alice", "--file", file, "--namespace", "lab", "--scopes", "read, compute", "--expires", "30")
    token = made.stdout.strip()
    assert token.startswith("sgt_")
    assert "shown this once" in made.stderr
    assert sumgrad("tokens", "create", "bob", "--max-queue", "5", SUMGRAD_SERVER_TOKENS=file).returncode == 0
    listed = sumgrad("tokens", "list", "--file", file).stdout
    lines = [line.split() for line in listed.splitlines()]
    assert [line[:3] for line in lines] == [
        ["NAME", "NAMESPACE", "SCOPES"],
        ["alice", "lab", "read,compute"],
        ["bob", "default", "read,compute"],
    ]
    assert lines[2][-1] == "max_queue=5"
    assert token not in listed + Path(file).read_text()
    assert sumgrad("tokens", "revoke", "alice", "--file", file).stdout == "revoked alice\n"
    assert "alice" not in sumgrad("tokens", "list", "--file", file).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "a", "--scopes", "read,fly"], 1, "must be some of read, compute, admin"),
        (["create", "../a"], 1, "name '../a'"),
        (["create", "a", "--expires", "0"], 2, "at least 1"),
        (["revoke", "nobody"], 1, "sumgrad tokens create"),
        (["list"], 1, "No such file"),
    ],
)
def test_mistakes_with_tokens_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    """Each mistake ends with one line that says what would be right."""
    try:
        ended = main(["tokens", *arguments, "--file", str(tmp_path / "tokens.json")])
    except SystemExit as left:
        ended = int(left.code or 0)
    assert ended == code
    assert said in capsys.readouterr().err


def test_without_the_package_the_cure_is_named(tmp_path: Path) -> None:
    """Where `cryptography` is not installed, certificates can't be made, and the error says what to install."""
    (tmp_path / "cryptography.py").write_text("raise ModuleNotFoundError(\"No module named 'cryptography'\", name='cryptography')\n")
    done = sumgrad("certs", str(tmp_path / "certs"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert 'pip install "sumgrad[server]"' in done.stderr
