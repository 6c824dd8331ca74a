"""Tokens: the file, who they let in, and what a server does about them while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server import tokens
from sumgrad_server.auth import Principal, Scope
from sumgrad_server.faults import PermissionDeniedError, UnauthenticatedError
from sumgrad_server.tokens import TokenFile, TokenFileError, Tokens

Make = Callable[..., str]
OBJECTIVE = sg.Objective(sg.square(sg.param("w", 1.0) * sg.input("x")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def make(path: Path) -> Make:
    """Makes a token in the file."""

    def made(name: str, *scopes: Scope, **options: Any) -> str:
        token, entry = tokens.create(name, options.pop("namespace", "default"), scopes or ("read", "compute"), **options)
        TokenFile(path).add(entry)
        return token

    return made


def bearer(token: str | bytes) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "test"), ("authorization", f"Bearer {token}" if isinstance(token, str) else token)]


def test_a_token_stands_for_its_principal(path: Path, make: Make) -> None:
    """What was said when it was made comes out again, whatever case the word Bearer has."""
    ours, theirs = make("ours", "read", namespace="lab", max_queue=3, max_dataset_bytes=10), make("theirs", "admin")
    known = Tokens(path)
    assert known.principal(bearer(ours)) == Principal("ours", "lab", frozenset({"read"}), 3, 10)
    assert known.principal([("authorization", f"bearer {theirs}")]) == Principal("theirs", "default", frozenset({"admin"}))
    assert known.principal(bearer(f"Bearer {ours}".encode())).name == "ours"


def test_tokens_are_long_and_the_file_has_none(path: Path, make: Make) -> None:
    """256 bits after a prefix that can be searched for; the file has hashes only, and its owner alone may read it."""
    made = [make(f"number-{number}") for number in range(3)]
    assert len(set(made)) == 3
    assert all(token.startswith("sgt_") and len(token) == 4 + 43 for token in made)
    text = path.read_text()
    assert not any(token in text or token.removeprefix("sgt_") in text for token in made)
    assert all(tokens.hash_of(token) in text for token in made)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        bearer("sgt_unknown"),
        bearer(""),
        [("authorization", "Basic dXNlcjp0b2tlbg==")],
        [("authorization", "Bearer " + "x" * 100_000)],
        bearer(b"\xff\xfe"),
        [*bearer("TOKEN"), *bearer("TOKEN")],
        bearer("LATE"),
    ],
)
def test_all_others_get_the_same_answer(path: Path, make: Make, wrong: list[tuple[str, str | bytes]]) -> None:
    """No token, an unknown one, one that has expired, and headers of other forms can't be told apart by what is answered."""
    names = {"TOKEN": make("known"), "LATE": make("late", seconds=-1.0)}

    def filled(value: str | bytes) -> str | bytes:
        return value if isinstance(value, bytes) else f"Bearer {names[value[7:]]}" if value[7:] in names else value

    with pytest.raises(UnauthenticatedError) as refused:
        Tokens(path).principal([(key, filled(value)) for key, value in wrong])
    assert str(refused.value) == tokens.REFUSED


def test_all_entries_are_compared(path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first, the last and no token cost the same comparisons, each of which takes constant time."""
    made = [make(f"number-{number}") for number in range(5)]
    known, compared = Tokens(path), []

    def counting(one: str, other: str) -> bool:
        compared.append(one)
        return hmac_compare(one, other)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counting)
    for token in (made[0], made[-1]):
        known.principal(bearer(token))
    with pytest.raises(UnauthenticatedError):
        known.principal(bearer("sgt_none"))
    assert len(compared) == 15


def test_changes_are_seen_at_once(path: Path, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A new token is let in and a revoked one is not; a file that can't be read leaves what was, and a line in the log for each change."""
    first = make("first")
    known = Tokens(path)
    second = make("second")
    assert known.principal(bearer(second)).name == "second"
    TokenFile(path).remove("second")
    with pytest.raises(UnauthenticatedError):
        known.principal(bearer(second))
    path.write_text("{")
    for _ in range(3):
        assert known.principal(bearer(first)).name == "first"
    assert [record.levelname for record in caplog.records if "stay in force" in record.message] == ["ERROR"]


def test_scopes(path: Path, make: Make) -> None:
    """A scope that is missing is named; an administrator may do all."""
    known = [Tokens(path).principal(bearer(token)) for token in (make("reader", "read"), make("root", "admin"))]
    known[0].require("read")
    with pytest.raises(PermissionDeniedError, match=r"scope 'compute'.*'reader' has \['read'\]"):
        known[0].require("compute")
    for scope in ("read", "compute", "admin"):
        known[1].require(scope)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o700 | 0o010])
def test_a_file_for_others_is_refused(path: Path, make: Make, mode: int) -> None:
    """Whoever else may read or write it is too many."""
    make("one")
    path.chmod(mode)
    with pytest.raises(TokenFileError, match="chmod 600"):
        Tokens(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a group and become somebody else")
@pytest.mark.parametrize(("mode", "refused"), [(0o440, False), (0o640, False), (0o444, True), (0o460, True)])
def test_roots_file_may_be_read_by_its_group(path: Path, make: Make, monkeypatch: pytest.MonkeyPatch, mode: int, refused: bool) -> None:
    """A server that is not root's may go by a file of root's that its group can read, which is how Kubernetes mounts a Secret."""
    make("one")
    path.parent.chmod(0o755)
    os.chown(path, 0, 999)
    path.chmod(mode)
    monkeypatch.chdir(path.parent)  # those above it are root's alone
    with somebody(999), pytest.raises(TokenFileError, match="chmod 600") if refused else contextlib.nullcontext():
        assert len(TokenFile(path.name).read()) == 1


@contextlib.contextmanager
def somebody(number: int) -> Iterator[None]:
    """Makes this process that user and group, for as long as the block runs."""
    os.setegid(number)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def changed(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["tokens"][0].update(fields)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content.update(version=2), "version is 2"),
        (lambda content: content.pop("tokens"), "tokens"),
        (lambda content: content["tokens"].append(content["tokens"][0]), "twice"),
        (changed(sha256="zz"), "sha256 of 'one'"),
        (changed(scopes=["fly"]), "must be some of read, compute, admin, not fly"),
        (changed(scopes=[]), "not none"),
        (changed(namespace="../up"), "namespace"),
        (changed(max_queue=True), "max_queue of 'one'"),
        (changed(max_dataset_bytes=0), "max_dataset_bytes of 'one'"),
        (changed(expires="soon"), "is no file of tokens"),
        (changed(surprise=1), "surprise"),
    ],
)
def test_a_file_that_is_wrong_is_refused(path: Path, make: Make, spoil: Callable[[Any], None], said: str) -> None:
    """What is wrong is said, with the name of the file."""
    make("one")
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(TokenFileError, match=f"(?s){path.name}.*{said}" if said != "surprise" else "surprise"):
        Tokens(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"version": 1, "tokens": 3}', b"[" * 100_000])
def test_bytes_that_are_no_file_of_tokens(path: Path, content: bytes) -> None:
    """Whatever the bytes are, it is an error that names the file."""
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(TokenFileError, match=r"tokens\.json"):
        Tokens(path)


def test_no_file_is_an_error_with_the_cure(path: Path) -> None:
    """A server that is to use tokens does not start without the file."""
    with pytest.raises(TokenFileError, match="sumgrad tokens create"):
        Tokens(path)


def test_writers_wait_for_each_other(path: Path) -> None:
    """Tokens that are made at the same time are all there afterwards."""
    entries = [tokens.create(f"number-{number}")[1] for number in range(8)]
    threads = [threading.Thread(target=TokenFile(path).add, args=[entry]) for entry in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in TokenFile(path).read()} == {entry.name for entry in entries}


def test_names_are_taken_once(path: Path, make: Make) -> None:
    """A name stands for one token; revoking what is not there says what is."""
    make("one")
    with pytest.raises(TokenFileError, match="revoke it"):
        make("one")
    with pytest.raises(TokenFileError, match=r"no token of 'two'; there are: one"):
        TokenFile(path).remove("two")


def test_there_is_a_most(path: Path, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """Every call is compared with all, so there are not too many."""
    monkeypatch.setattr(tokens, "MAX_TOKENS", 2)
    make("one"), make("two")
    with pytest.raises(TokenFileError, match="2 tokens, which is the most"):
        make("three")


def test_expiry_is_looked_at_each_time(path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that was good is refused when its time has come."""
    token = make("short", seconds=100.0)
    known, now = Tokens(path), time.time()
    assert known.principal(bearer(token)).name == "short"
    monkeypatch.setattr(time, "time", lambda: now + 101.0)
    with pytest.raises(UnauthenticatedError):
        known.principal(bearer(token))


class Caller:
    """Calls of a server with a token, or none."""

    def __init__(self, server: Any, token: str | None) -> None:
        self.channel: grpc.Channel = server.client.channel
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    def __call__(self, method: str, request: Any, response: Any) -> Any:
        call = self.channel.unary_unary(f"/sumgrad.v1.GradientService/{method}", type(request).SerializeToString, response.FromString)
        return call(request, metadata=self.metadata, timeout=60.0)

    def get(self) -> Any:
        """What a reader may ask: NOT_FOUND is a fine answer."""
        return self("GetGraph", wire.GetGraphRequest(graph_id="none"), wire.GetGraphResponse)

    def register(self, support: ModuleType) -> Any:
        """What needs the scope to compute."""
        request = wire.RegisterGraphRequest(graph=support.graph_bytes(OBJECTIVE.graph))
        return self("RegisterGraph", request, wire.RegisterGraphResponse)

    def services(self) -> list[str]:
        """The services that reflection lists."""
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(self.channel)
        (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=self.metadata, timeout=60.0)
        return [service.name for service in answer.list_services_response.service]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def guarded(support: ModuleType, folder: Path) -> Iterator[Any]:
    """A server that knows the tokens of `folder`."""
    token, entry = tokens.create("reader", scopes=("read",))
    TokenFile(folder / "tokens.json").add(entry)
    (folder / "reader").write_text(token)
    token, entry = tokens.create("worker")
    TokenFile(folder / "tokens.json").add(entry)
    (folder / "worker").write_text(token)
    with support.running("--workers", "1", "--tokens", str(folder / "tokens.json")) as made:
        yield made


def test_calls_need_a_token(support: ModuleType, guarded: Any, folder: Path) -> None:
    """Without one, and with an unknown one, every call is UNAUTHENTICATED; with one it is answered."""
    for token in (None, "sgt_wrong"):
        for call in (Caller(guarded, token).get, lambda token=token: Caller(guarded, token).register(support)):
            code, details, said = support.refused(call)
            assert (code, details["reason"], said) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", tokens.REFUSED)
    worker = Caller(guarded, (folder / "worker").read_text())
    graph_id = worker.register(support).graph_id
    params, data = support.named(OBJECTIVE.params), support.named({"x": np.arange(3.0)})
    request = wire.GradientRequest(graph_id=graph_id, parameters=params, inputs=data)
    assert worker("Gradient", request, wire.GradientResponse).value == 5.0


def test_a_scope_that_is_missing_is_named(support: ModuleType, guarded: Any, folder: Path) -> None:
    """A reader may look and not compute."""
    reader = Caller(guarded, (folder / "reader").read_text())
    assert support.refused(reader.get)[0] is grpc.StatusCode.NOT_FOUND
    code, details, said = support.refused(lambda: reader.register(support))
    assert (code, details["reason"]) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
    assert "'compute'" in said


def test_a_large_message_without_a_token_is_not_read(support: ModuleType, guarded: Any) -> None:
    """The server's memory does not grow by what strangers send: they are turned away at the first headers."""
    peak = peak_bytes(guarded.pid)
    code, _, _ = support.refused(lambda: guarded.client.raw("Gradient", b"\0" * (256 << 20)))
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert peak_bytes(guarded.pid) - peak < 64 << 20


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_health_is_open_and_reflection_is_not(support: ModuleType, guarded: Any, folder: Path) -> None:
    """Load balancers have no token; who looks around needs one that may read."""
    stub: Any = health_pb2_grpc.HealthStub(guarded.client.channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=60.0).status == health_pb2.HealthCheckResponse.SERVING
    assert support.refused(Caller(guarded, None).services)[0] is grpc.StatusCode.UNAUTHENTICATED
    assert "sumgrad.v1.GradientService" in Caller(guarded, (folder / "reader").read_text()).services()


def test_a_running_server_follows_the_file(support: ModuleType, guarded: Any, folder: Path) -> None:
    """A token that is made is good at once, and refused at once when it is revoked."""
    token, entry = tokens.create("guest", scopes=("read",))
    guest = Caller(guarded, token)
    assert support.refused(guest.get)[0] is grpc.StatusCode.UNAUTHENTICATED
    TokenFile(folder / "tokens.json").add(entry)
    assert support.refused(guest.get)[0] is grpc.StatusCode.NOT_FOUND
    TokenFile(folder / "tokens.json").remove("guest")
    assert support.refused(guest.get)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_entries_say_all_that_is_kept(path: Path, make: Make) -> None:
    """What was written is what is read."""
    make("one", "admin", namespace="lab", seconds=50.0, max_queue=2, max_dataset_bytes=3)
    (entry,) = TokenFile(path).read()
    assert dataclasses.asdict(entry) | {"sha256": "", "created": 0.0, "expires": 0.0} == {
        "name": "one",
        "sha256": "",
        "namespace": "lab",
        "scopes": ("admin",),
        "created": 0.0,
        "expires": 0.0,
        "max_queue": 2,
        "max_dataset_bytes": 3,
    }
    assert entry.expires == pytest.approx(entry.created + 50.0)


def test_half_written_files_are_not_left_behind(path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full leaves the file that was, and nothing beside it."""
    make("one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with contextlib.suppress(OSError):
        make("two")
    assert os.listdir(path.parent) == [path.name]
    assert [entry.name for entry in TokenFile(path).read()] == ["one"]
