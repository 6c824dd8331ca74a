"""Load with known answers: clients that ask a mix of questions all the time, and a ledger of what they were told.

An answer is right if it has the bits that the engine gives in this process (and its value is what NumPy says); what is refused must be refused by
an error of the server's table. A fault is injected while this runs, and the ledger says afterwards whether anybody was told something wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import numpy as np
import sumgrad_engine as sg
from sumgrad_engine.program import Result
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.status import TABLE

from . import support
from .requests import logistic, samples, upload

ROWS = 60_000
"""Samples of the resident dataset."""
DATASET = "load"
PARAMETERS = [{"w": np.array([0.5, -1.0]) * scale, "b": np.array(0.25 - scale)} for scale in (0.1, 0.7, 1.3)]
ROW_OF = {row.reason: row.code for row in TABLE} | {"LIMIT_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED}
SERVICE = "/sumgrad.v1.GradientService/"


@dataclass(frozen=True)
class Question:
    """Something to ask. `ask` gives an answer or raises grpc.RpcError; `check` raises AssertionError if the answer is wrong."""

    name: str
    ask: Callable[[Any], Any]
    check: Callable[[Any], None]


@dataclass
class Asked:
    """A question that was asked, when, and what came of it: None is a right answer."""

    name: str
    began: float
    ended: float
    error: grpc.RpcError | None


class Ledger:
    """What was asked and answered. Shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked: list[Asked] = []
        self.wrong: list[str] = []

    def enter(self, asked: Asked) -> None:
        with self._lock:
            self.asked.append(asked)

    def complain(self, what: str) -> None:
        """A wrong answer."""
        with self._lock:
            self.wrong.append(what)

    @property
    def answered(self) -> int:
        """Right answers so far."""
        return sum(asked.error is None for asked in list(self.asked))

    @property
    def refused(self) -> list[Asked]:
        """What got an error."""
        return [asked for asked in list(self.asked) if asked.error is not None]

    def wait_for(self, more: int, what: str = "answers") -> None:
        """Until so many more questions were answered from now on: load runs."""
        before = self.answered
        support.wait_until(lambda: bool(self.wrong) or self.answered >= before + more, f"{more} {what}")
        assert not self.wrong, self.wrong

    def reach(self, floor: int) -> None:
        """Until so many questions were answered from the beginning."""
        self.wait_for(max(0, floor - self.answered))

    def summary(self) -> dict[str, int]:
        """How often each question ended how."""
        return dict(Counter(f"{asked.name} {asked.error.code().name if asked.error else 'OK'}" for asked in list(self.asked)))

    def check(self, floor: int, allowed: Sequence[str] = ()) -> None:
        """Every answer is right, every error is one of the table and among these reasons, and load ran. "" stands for no details: no server answered."""
        assert not self.wrong, self.wrong
        for asked in self.refused:
            reason = reason_of(asked.error)
            assert reason in allowed, (asked.name, asked.error)
        assert self.answered >= floor, self.summary()
        print(self.summary())


def reason_of(error: Any) -> str:
    """The reason in an error's details, which must belong to its status; "" without details: gRPC's own, where nobody answers (any more)."""
    trailer = dict(error.trailing_metadata() or ())
    if "grpc-status-details-bin" not in trailer:
        # gRPC says CANCELLED to calls that cross the last moment of a drain.
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
        return ""
    reason: str = support.details_of(error)["reason"]
    assert ROW_OF[reason] is error.code(), error
    return reason


class Client(support.Client):  # type: ignore[name-defined, misc]
    """A connection of its own, with the streaming calls."""

    def __init__(self, address: str) -> None:
        options = [
            *(("grpc.max_send_message_length", 1 << 30), ("grpc.max_receive_message_length", 1 << 30)),
            *(("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)),
            *(("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)),
        ]
        self.channel = grpc.insecure_channel(address, options)

    def upload(self, requests: Sequence[wire.UploadDatasetRequest], timeout: float = support.PATIENCE) -> wire.UploadDatasetResponse:
        """Uploads a dataset."""
        path = SERVICE + "UploadDataset"
        call = self.channel.stream_unary(path, wire.UploadDatasetRequest.SerializeToString, wire.UploadDatasetResponse.FromString)
        answer: wire.UploadDatasetResponse = call(iter(requests), timeout=timeout)
        return answer

    def stream(self, requests: Sequence[wire.GradientRequest], timeout: float = support.PATIENCE) -> list[wire.GradientStreamResponse]:
        """Gradients on one stream."""
        path = SERVICE + "GradientStream"
        call = self.channel.stream_stream(path, wire.GradientRequest.SerializeToString, wire.GradientStreamResponse.FromString)
        return list(call(iter(requests), timeout=timeout))

    def status(self) -> wire.GetStatusResponse:
        """What the server is doing."""
        answer: wire.GetStatusResponse = self.unary("GetStatus", wire.GetStatusRequest(), wire.GetStatusResponse)
        return answer


def numpy_value(params: Mapping[str, Any], data: Mapping[str, Any]) -> float:
    """The value of `logistic`, by NumPy alone."""
    margin = data["y"] * (data["x"] @ params["w"] + params["b"])
    return float(np.logaddexp(0.0, -margin).sum() + 0.01 * (params["w"] ** 2).sum())


@dataclass(frozen=True)
class _Case:
    """Parameters and rows, with the answer."""

    request: wire.GradientRequest
    expected: Result

    def check(self, answer: wire.GradientResponse) -> None:
        support.assert_same_bits(Client.result(answer), self.expected)


def _gradient(name: str, cases: Sequence[_Case]) -> Question:
    turns = itertools.cycle(range(len(cases)))

    def ask(client: Client) -> Any:
        case = cases[next(turns)]
        return case, client.unary("Gradient", case.request, wire.GradientResponse)

    return Question(name, ask, lambda answer: answer[0].check(answer[1]))


def _inline_cases(graph_id: str, objective: sg.Objective, data: Mapping[str, Any]) -> list[_Case]:
    cases = []
    for params in PARAMETERS:
        expected = objective.value_and_grad(params, data)
        assert np.isclose(expected.value, numpy_value(params, data), rtol=1e-12)
        request = wire.GradientRequest(request_id="load", graph_id=graph_id, parameters=support.named(params), inputs=support.named(data))
        cases.append(_Case(request, expected))
    return cases


def _resident_cases(graph_id: str, objective: sg.Objective, data: Mapping[str, Any]) -> list[_Case]:
    indices = np.random.default_rng(9).integers(0, ROWS, 5000)
    by_range, by_list = wire.RowRange(start=1000, stop=41_000), support.array_message(indices)
    chosen = [(None, slice(None)), (wire.Rows(range=by_range), slice(1000, 41_000)), (wire.Rows(indices=by_list), indices)]
    cases = []
    for params, (rows, index) in zip(PARAMETERS, chosen, strict=True):
        expected = objective.value_and_grad(params, {name: array[index] for name, array in data.items()})
        request = wire.GradientRequest(graph_id=graph_id, parameters=support.named(params), dataset=DATASET, rows=rows)
        cases.append(_Case(request, expected))
    return cases


class StreamRefusal(grpc.RpcError):  # type: ignore[misc]
    """An error in a stream, as that of a call of its own."""

    def __init__(self, error: wire.StreamError) -> None:
        super().__init__(error.message)
        self._error = error

    def code(self) -> grpc.StatusCode:
        return next(code for code in grpc.StatusCode if code.value[0] == self._error.code)

    def details(self) -> str:
        return self._error.message

    def trailing_metadata(self) -> list[tuple[str, bytes]]:
        return [("grpc-status-details-bin", self._error.details)]


def _stream(cases: Sequence[_Case]) -> Question:
    def check(answers: Sequence[wire.GradientStreamResponse]) -> None:
        assert len(answers) == len(cases)
        for case, answer in zip(cases, answers, strict=True):
            if answer.WhichOneof("answer") == "gradient":
                case.check(answer.gradient)
        for answer in answers:
            if answer.WhichOneof("answer") == "error":
                raise StreamRefusal(answer.error)

    return Question("stream", lambda client: client.stream([case.request for case in cases]), check)


def _evaluate(client: Client) -> Question:
    x, w = sg.input("x", shape=(2,)), sg.param("w", PARAMETERS[0]["w"])
    outputs, data = {"score": sg.tanh(x @ w)}, samples(3000, seed=8)
    graph_id = client.register(trace(outputs))
    params = {"w": PARAMETERS[0]["w"]}
    expected = np.tanh(data["x"] @ params["w"])

    def check(answers: Sequence[wire.EvaluateResponse]) -> None:
        found = np.concatenate([support.array_of(answer.outputs[0].array) for answer in answers])
        np.testing.assert_allclose(found, expected, rtol=1e-13)

    return Question("evaluate", lambda asking: asking.evaluate(graph_id, params, {"x": data["x"]}), check)


def _register() -> Question:
    numbers = itertools.count()
    x, w = sg.input("x"), sg.param("w", 1.0)

    def ask(client: Client) -> Any:
        graph = support.graph_bytes(trace({"loss": x * w + float(next(numbers))}))
        return graph, client.register(graph)

    def check(answer: tuple[bytes, str]) -> None:
        assert hashlib.sha256(answer[0]).hexdigest() == answer[1]

    return Question("register", ask, check)


def questions(client: Client, *, resident: bool = True, streams: bool = True) -> list[Question]:
    """The mix, after what it needs was registered and uploaded."""
    objective = logistic()
    graph_id = client.register(objective.graph)
    small = _inline_cases(graph_id, objective, samples(40, seed=5))
    large = _inline_cases(graph_id, objective, samples(30_000, seed=6))
    mix = [_gradient("small", small), _gradient("small", small), _gradient("large", large), _evaluate(client), _register()]
    if resident:
        data = samples(ROWS, seed=7)
        client.upload(upload(DATASET, data, 1 << 18))
        mix.append(_gradient("resident", _resident_cases(graph_id, objective, data)))
    if streams:
        mix.append(_stream([*small, large[0], *small]))
    return mix


@contextlib.contextmanager
def running(address: str, mix: Sequence[Question], threads: int = 6, seed: int = 1) -> Iterator[Ledger]:
    """Clients that ask as long as the block runs; then they finish what they asked. Wrong answers are raised at the end."""
    ledger, enough = Ledger(), threading.Event()
    clients = [Client(address) for _ in range(threads)]
    workers = [
        threading.Thread(target=_ask_on, args=[client, mix, ledger, enough, Random(seed + number)], daemon=True)
        for number, client in enumerate(clients)
    ]
    for worker in workers:
        worker.start()
    try:
        yield ledger
    finally:
        enough.set()
        for worker in workers:
            worker.join(support.PATIENCE)
        for client in clients:
            client.close()
    assert not any(worker.is_alive() for worker in workers), "a client waits for ever"
    assert not ledger.wrong, ledger.wrong


def _ask_on(client: Client, mix: Sequence[Question], ledger: Ledger, enough: threading.Event, dice: Random) -> None:
    while not enough.is_set():
        question = dice.choice(mix)
        began, error = time.monotonic(), None
        try:
            question.check(question.ask(client))
        except grpc.RpcError as refused:
            error = refused
            enough.wait(0.02)  # who is refused comes back later, and not at once
        except Exception as wrong:  # noqa: BLE001 - whatever it is, the test is told
            ledger.complain(f"{question.name}: {wrong!r}")
        ledger.enter(Asked(question.name, began, time.monotonic(), error))
