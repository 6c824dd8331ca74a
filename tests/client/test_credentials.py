"""What a connection is made with: certificates and tokens from arguments, files and the environment, and what is said of those that are no good."""

from __future__ import annotations

from pathlib import Path

import pytest
import sumgrad as sg
from sumgrad.channel import _explained
from sumgrad.credentials import Credentials, credentials

VARIABLES = ("SUMGRAD_TLS_CA", "SUMGRAD_TLS_CERT", "SUMGRAD_TLS_KEY", "SUMGRAD_TOKEN", "SUMGRAD_TOKEN_FILE")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_said_is_nothing_used() -> None:
    """Without arguments and environment there is no encryption and no token."""
    assert credentials(None, None) == Credentials(None, None)
    assert credentials(None, None).metadata == ()


def test_the_environment_speaks_where_arguments_do_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Variables give authority, certificate and token; arguments come first; False and an empty token turn them off."""
    (tmp_path / "token").write_text("sgt_file\n")
    monkeypatch.setenv("SUMGRAD_TLS_CA", "/ca.pem")
    monkeypatch.setenv("SUMGRAD_TOKEN_FILE", str(tmp_path / "token"))
    assert credentials(None, None) == Credentials(sg.TLS(ca="/ca.pem"), "sgt_file")
    monkeypatch.setenv("SUMGRAD_TOKEN", "sgt_variable")
    assert credentials(None, None).metadata == (("authorization", "Bearer sgt_variable"),)
    assert credentials("/other.pem", "sgt_argument") == Credentials(sg.TLS(ca="/other.pem"), "sgt_argument")
    assert credentials(False, "") == Credentials(None, None)
    assert credentials(True, None).tls == sg.TLS()


def test_tokens_are_not_shown() -> None:
    """No representation has the token."""
    assert "secret" not in repr(credentials(None, "sgt_secret"))


@pytest.mark.parametrize("token", ["sgt_\nx", "sgt_é"])
def test_tokens_that_are_none(token: str) -> None:
    """What can't be sent is refused here, without being repeated."""
    with pytest.raises(ValueError, match="is it whole") as refused:
        credentials(None, token)
    assert token not in str(refused.value)


def test_a_token_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the file and the variable."""
    monkeypatch.setenv("SUMGRAD_TOKEN_FILE", "/nonexistent/token")
    with pytest.raises(ValueError, match=r"/nonexistent/token.*SUMGRAD_TOKEN_FILE"):
        sg.connect("localhost:1")


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (sg.TLS(ca="/nonexistent/ca.pem"), r"ca = /nonexistent/ca\.pem can't be read"),
        (sg.TLS(ca=__file__), "ca = .*test_credentials.py can't be used"),
        (sg.TLS(cert="/c.pem"), "both cert and key"),
        (sg.TLS(cert="/nonexistent/c.pem", key="/k.pem"), r"cert = /nonexistent/c\.pem can't be read"),
    ],
)
def test_files_that_are_no_good(tls: sg.TLS, said: str) -> None:
    """A missing file, one that is no PEM, and a certificate without a key are named before anything is sent."""
    with pytest.raises(ValueError, match=said):
        sg.connect("grad.example:50051", tls=tls)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("... CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate", "ca=..."),
        ("... Hostname Verification Check failed.", "server_name"),
        ("... error:100000f7:WRONG_VERSION_NUMBER", "does not speak TLS"),
        ("... Socket closed", "pass tls"),
    ],
)
def test_handshakes_are_explained(said: str, advice: str) -> None:
    """What gRPC says of a failed handshake is kept, with what to look at before it."""
    assert advice in _explained(said)
    assert said in _explained(said)
    assert _explained("connection refused") == "connection refused"
