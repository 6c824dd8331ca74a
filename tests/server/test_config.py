"""Where settings come from, what beats what, and how mistakes are told; and where a server may listen."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import sumgrad as sg
from sumgrad_server import config
from sumgrad_server.__main__ import configured_by, main, parser
from sumgrad_server.addresses import is_loopback
from sumgrad_server.config import HINTS, NAMES, ConfigError, configured, flag, meanings, variable
from sumgrad_server.settings import Settings


def settings_of(flags: list[str], environ: Mapping[str, str] | None = None) -> Settings:
    return configured_by(parser().parse_args(flags), environ or {}).settings


def other_value(name: str) -> Any:
    """A value of the right type that is not the default."""
    default, hint = getattr(Settings(), name), HINTS[name]
    if get_origin(hint) is Literal:
        return next(one for one in get_args(hint) if one != default)
    if name in ("address", "metrics_address"):
        return "127.0.0.1:7"
    return {bool: not default, int: 1 + default if hint is int else 0, float: 0.5}.get(hint, "some/path")


OTHERS = {name: other_value(name) for name in NAMES}


def text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def flags_of(values: Mapping[str, Any]) -> list[str]:
    return [flag(name) if value is True else f"{flag(name)}={value}" for name, value in values.items()]


def toml_of(values: Mapping[str, Any]) -> str:
    return "".join(f"{name} = {config._toml(value)}\n" for name, value in values.items())


def test_every_setting_comes_from_everywhere(tmp_path: Path) -> None:
    """Each field has a flag, a variable and a key, and all three give the same settings."""
    file = tmp_path / "sumgrad.toml"
    file.write_text(toml_of(OTHERS))
    expected = Settings(**OTHERS)
    assert all(getattr(expected, name) != getattr(Settings(), name) for name in NAMES)
    assert settings_of(flags_of(OTHERS)) == expected
    assert settings_of([], {variable(name): text_of(value) for name, value in OTHERS.items()}) == expected
    assert settings_of(["--config", str(file)]) == expected
    assert settings_of([], {"SUMGRAD_CONFIG": str(file)}) == expected


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    """In that order; and each setting by itself."""
    file = tmp_path / "sumgrad.toml"
    file.write_text("max_queue = 1\nmax_graphs = 1\nmax_nodes = 1\ninsecure = true\n")
    environ = {"SUMGRAD_CONFIG": str(file), "SUMGRAD_MAX_QUEUE": "2", "SUMGRAD_MAX_GRAPHS": "2"}
    found = settings_of(["--max-queue", "3", "--no-insecure"], environ)
    assert (found.max_queue, found.max_graphs, found.max_nodes, found.max_arrays) == (3, 2, 1, Settings().max_arrays)
    assert found.insecure is False


def test_a_file_of_the_flag_beats_that_of_the_environment(tmp_path: Path) -> None:
    """One file is read, not both."""
    for name, line in (("a", "max_queue = 1"), ("b", "max_graphs = 1")):
        (tmp_path / name).write_text(line)
    found = settings_of(["--config", str(tmp_path / "a")], {"SUMGRAD_CONFIG": str(tmp_path / "b")})
    assert (found.max_queue, found.max_graphs) == (1, Settings().max_graphs)


def test_servers_that_a_program_starts_ignore_the_environment() -> None:
    """What is set for another server is none of theirs."""
    assert settings_of(["--ignore-environment"], {"SUMGRAD_MAX_QUEUE": "7", "SUMGRAD_CONFIG": "/nonexistent"}) == Settings()


def test_sg_local_starts_such_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sg.local()` works where the environment is made for a server with TLS, and a wrong one at that."""
    for name, value in (("SUMGRAD_SERVER_TLS_CERT", "/nonexistent"), ("SUMGRAD_CONFIG", "/nonexistent"), ("SUMGRAD_MAX_QUEUE", "many")):
        monkeypatch.setenv(name, value)
    with sg.local(workers=1, timeout=60.0) as service:
        assert service.health() == "SERVING"


def test_what_is_printed_can_be_fed_back(tmp_path: Path) -> None:
    """--print-config prints TOML that gives the same settings, and says of each where it comes from."""
    odd = 'a "quoted" \\ path\twith ünïcode'
    command = [sys.executable, "-m", "sumgrad_server", "--print-config", "--grace", "2.5", "--log-format", "json"]
    environ = {**os.environ, "SUMGRAD_MAX_QUEUE": "7", "SUMGRAD_STATE_DIR": odd}
    printed = subprocess.run(command, env=environ, capture_output=True, check=True, timeout=60).stdout.decode()
    for line in (
        "max_queue = 7  # SUMGRAD_MAX_QUEUE",
        "grace = 2.5  # --grace",
        "insecure = false  # default",
        "# tokens has no value  # default",
    ):
        assert line in printed.splitlines()
    file = tmp_path / "printed.toml"
    file.write_text(printed)
    found = settings_of(["--config", str(file)])
    assert found == dataclasses.replace(Settings(), max_queue=7, state_dir=odd, grace=2.5, log_format="json")
    assert tomllib.loads(configured({}, {}, str(file)).toml()) == tomllib.loads(printed)


def test_secrets_are_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings name files of secrets; neither what is in them nor a client's token is shown."""
    for name in ("key", "tokens"):
        (tmp_path / name).write_text("hunter2")
    monkeypatch.setenv("SUMGRAD_TOKEN", "hunter2")
    flags = ["--tls-cert", "c", "--tls-key", str(tmp_path / "key"), "--tokens", str(tmp_path / "tokens")]
    assert main(["--print-config", *flags]) == 0
    said = capsys.readouterr().out
    assert f'tls_key = "{tmp_path}/key"' in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_qeue = 3", "max_qeue is no setting; max_queue is one, and all are: address, "),
        ("[server]\nmax_queue = 3", "server is no setting"),
        ('max_queue = "3"', "max_queue must be a whole number, at least 1, not '3'"),
        ("max_queue = true", "max_queue must be a whole number, at least 1, not True"),
        ("max_queue = 3.0", "max_queue must be a whole number"),
        ("max_queue = 0", "max_queue must be a whole number, at least 1, not 0"),
        ("max_message_bytes = 3000000000", "at most 2147483647"),
        ("grace = nan", "grace must be a number of seconds, at least 0, not nan"),
        ("insecure = 1", "insecure must be true or false, not 1"),
        ("log_level = 'loud'", "log_level must be one of debug, info, warning, error, not 'loud'"),
        ("address = 5", "address must be a string, not 5"),
        ("max_queue = ", "is no TOML: "),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, line: str, said: str) -> None:
    """The file, the key and what is allowed."""
    file = tmp_path / "sumgrad.toml"
    file.write_text(line)
    with pytest.raises(ConfigError) as refused:
        settings_of(["--config", str(file)])
    assert str(refused.value).startswith(str(file))
    assert said in str(refused.value)


def test_a_file_that_can_t_be_read(tmp_path: Path) -> None:
    """No file, and one that is no text."""
    with pytest.raises(ConfigError, match=r"can't read .*none"):
        settings_of(["--config", str(tmp_path / "none")])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match="is no TOML"):
        settings_of(["--config", str(tmp_path / "binary")])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SUMGRAD_MAX_QUEUE", "many", "SUMGRAD_MAX_QUEUE must be a whole number, at least 1, not 'many'"),
        ("SUMGRAD_MAX_QUEUE", "-1", "at least 1"),
        ("SUMGRAD_INSECURE", "maybe", "SUMGRAD_INSECURE must be true or false"),
        ("SUMGRAD_GRACE", "inf", "SUMGRAD_GRACE must be a number of seconds"),
        ("SUMGRAD_MAX_QEUE", "3", "SUMGRAD_MAX_QEUE is no setting; SUMGRAD_MAX_QUEUE is one"),
        ("SUMGRAD_MAX_SHEEP", "3", "SUMGRAD_MAX_SHEEP is no setting"),
        ("SUMGRAD_WORKER", "3", "SUMGRAD_WORKERS is one"),
        ("SUMGRAD_TOKENS", "file", "SUMGRAD_SERVER_TOKENS is one"),
        ("SUMGRAD_TLS_CLIENT_CA", "file", "SUMGRAD_SERVER_TLS_CLIENT_CA is one"),
    ],
)
def test_mistakes_in_the_environment_are_named(name: str, value: str, said: str) -> None:
    """The variable, and what is allowed."""
    with pytest.raises(ConfigError) as refused:
        settings_of([], {name: value})
    assert said in str(refused.value)


def test_variables_of_others_pass() -> None:
    """A client's, a test's, and those that Kubernetes sets for a service called sumgrad or sumgrad-server."""
    names = [
        "TOKEN",
        "TOKEN_FILE",
        "TLS_CA",
        "TLS_CERT",
        "TLS_KEY",
        "CACHE",
        "HYPOTHESIS",
        "REQUIRE_CONTAINERS",
        "SOAK_REQUESTS",
        "ENGINE_DIR",
    ]
    kubernetes = [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "PORT",
        "PORT_50051_TCP",
        "PORT_50051_TCP_ADDR",
        "PORT_50051_TCP_PORT",
        "PORT_50051_TCP_PROTO",
    ]
    names += [prefix + name for prefix in ("", "SERVER_") for name in kubernetes]
    assert settings_of([], {f"SUMGRAD_{name}": "x" for name in names}) == Settings()


def test_empty_is_no_value() -> None:
    """A variable that compose leaves empty sets nothing; but for the cache, where it means: in memory only."""
    found = settings_of([], {"SUMGRAD_STATE_DIR": "", "SUMGRAD_SERVER_TOKENS": "", "SUMGRAD_CACHE_DIR": ""})
    assert (found.state_dir, found.tokens, found.cache_dir) == (None, None, "")


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1:0", True),
        ("127.8.8.8:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("unix:/tmp/socket", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.1:1", False),
        ("example.com:1", False),
        ("localhost.example.com:1", False),
        (":50051", False),
    ],
)
def test_loopback_is_known(address: str, loopback: bool) -> None:
    """Only addresses that no other machine reaches count as loopback."""
    assert is_loopback(address) is loopback


TLS = ["--tls-cert", "c", "--tls-key", "k"]


@pytest.mark.parametrize("setting", ["--address", "--metrics-address"])
@pytest.mark.parametrize(
    ("more", "lacking"),
    [
        ([], "TLS (--tls-cert and --tls-key) and --tokens"),
        (TLS, "--tokens"),
        (["--tokens", "t"], "TLS (--tls-cert and --tls-key)"),
        ([*TLS, "--tls-client-ca", "a"], "--tokens"),
    ],
)
def test_other_machines_need_tls_and_tokens(setting: str, more: list[str], lacking: str) -> None:
    """An address that they reach is refused, with what is lacking, unless somebody says that the network is safe."""
    with pytest.raises(ConfigError) as refused:
        settings_of([setting, "0.0.0.0:1", *more])
    assert f"{setting} 0.0.0.0:1 can be reached from other machines, which needs {lacking}: give that" in str(refused.value)
    assert settings_of([setting, "0.0.0.0:1", *more, "--insecure"]).insecure
    assert settings_of([setting, "0.0.0.0:1", *TLS, "--tokens", "t"]).tokens == "t"
    assert settings_of([setting, "127.0.0.1:1", *more])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--address", "0.0.0.0:1"], "--insecure"),
        (["--workers", "0"], "--workers must be a whole number, at least 1"),
        (["--max-queue", "0"], "--max-queue must be a whole number, at least 1"),
        (["--max-nodes", "many"], "--max-nodes"),
        (["--address", "127.0.0.1:99999"], "--address"),
        (["--address", "127.0.0.1"], "--address"),
        (["--address", "127.0.0.1:http"], "--address"),
        (["--metrics-address", "127.0.0.1"], "--metrics-address"),
        (["--address", "unix:"], "unix:path"),
        (["--grace", "-1"], "--grace"),
        (["--retry-seconds", "nan"], "--retry-seconds"),
        (["--cancel-seconds", "inf"], "--cancel-seconds"),
        (["--tls-cert", "c"], "--tls-cert and --tls-key go together"),
        (["--tls-key", "k"], "--tls-cert and --tls-key go together"),
        (["--tls-client-ca", "a"], "--tls-client-ca asks"),
        (["--log-format", "xml"], "--log-format"),
    ],
)
def test_wrong_flags_are_explained(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong flag ends with 2 and says what to do: a port beyond 65535 would be another port, a negative time no time."""
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_every_setting_is_explained() -> None:
    """--help says of each what it is for, or its name and default do."""
    silent = {name for name in NAMES if name not in meanings() and not name.startswith("max_")}
    assert silent == set()
    assert all(flag(name) in parser().format_help() for name in NAMES)
