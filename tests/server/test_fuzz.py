"""Thousands of mutated messages against a real server: each gets an answer from the status table, soon, and the server goes on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from google.protobuf.message import Message
from sumgrad_engine.trace import trace, trace_nodes
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.status import TABLE

ROUNDS = 3000

ALLOWED = {row.code for row in TABLE} - {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
BIG = [0, 1, 2, 127, 128, 255, 2**31 - 1, 2**31, 2**32 - 1]


def seeds(support: Any, graph_id: str, objective: sg.Objective) -> list[tuple[str, Message]]:
    """Good requests of every unary method."""
    a, b = sg.Value(2.0), sg.Value(-3.0)
    expression, _ = trace_nodes((a * b + sg.tanh(b)) ** 2)
    x = sg.input("x", shape=(2, 3))
    arrays = trace({"loss": sg.sum(sg.softmax(sg.transpose(x) @ x)), "metric:m": sg.sum(sg.take(x, [1, 0], axis=0)[0:1])})
    data = {"x": np.ones((4, 2)), "y": np.ones(4)}
    return [
        ("RegisterGraph", wire.RegisterGraphRequest(request_id="r", graph=support.graph_bytes(objective.graph))),
        ("RegisterGraph", wire.RegisterGraphRequest(graph=support.graph_bytes(arrays), sources=support.sources_message(arrays))),
        ("GetGraph", wire.GetGraphRequest(request_id="r", graph_id=graph_id)),
        (
            "Gradient",
            wire.GradientRequest(
                graph_id=graph_id, parameters=support.named(objective.params), inputs=support.named(data), wrt=["w"], debug=True
            ),
        ),
        ("Backward", wire.BackwardRequest(graph=support.graph_bytes(expression), sources=support.sources_message(expression))),
    ]


def mutated(data: bytes, dice: random.Random) -> bytes:
    """The bytes with a few flipped, set to telling values, removed, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8])):
        place = dice.randrange(len(changed) + 1)
        match dice.randrange(6):
            case 0 if place < len(changed):
                changed[place] ^= 1 << dice.randrange(8)
            case 1 if place < len(changed):
                changed[place] = dice.choice([0, 1, 127, 128, 255])
            case 2:
                del changed[place : place + dice.randrange(1, 9)]
            case 3:
                changed[place:place] = changed[place : place + dice.randrange(1, 9)]
            case 4:
                changed[place:place] = dice.choice(BIG).to_bytes(4, "little")
            case _:
                del changed[place:]
    return bytes(changed)


def mutated_request(method: str, request: Message, dice: random.Random) -> bytes:
    """A request with bytes changed: anywhere, or inside its graph only, so that half of them reach the checks of graphs."""
    if method in ("RegisterGraph", "Backward") and dice.random() < 0.7:
        inner = type(request)()
        inner.CopyFrom(request)
        inner.graph = mutated(inner.graph, dice)  # type: ignore[attr-defined]
        return inner.SerializeToString()
    return mutated(request.SerializeToString(), dice)


@pytest.fixture(scope="module")
def objective() -> sg.Objective:
    x, y = sg.input("x", shape=(2,)), sg.input("y")
    w, b = sg.param("w", np.array([0.5, -1.0])), sg.param("b", 0.25)
    return sg.Objective(sg.softplus(-y * (x @ w + b)), penalty=sg.sum(w * w), metrics={"right": (x @ w + b) * y > 0.0})


def test_mutated_messages_are_answered_from_the_table(support: Any, objective: sg.Objective) -> None:
    """No mutation gets an INTERNAL, a hang or a dead worker; afterwards the server computes as before."""
    dice = random.Random(20)
    counts: Counter[grpc.StatusCode] = Counter()
    with support.running("--workers", "2") as server:
        graph_id, workers = server.client.register(objective.graph), server.workers()
        messages = seeds(support, graph_id, objective)
        for _ in range(ROUNDS):
            method, request = dice.choice(messages)
            data = mutated_request(method, request, dice)
            counts[answer(server, support, method, data)] += 1
        inputs = {"x": np.ones((1000, 2)), "y": np.ones(1000)}
        here = objective.value_and_grad(objective.params, inputs)
        support.assert_same_bits(server.client.gradient(graph_id, objective.params, inputs), here)
        assert server.workers() == workers, server.said()
    assert counts[grpc.StatusCode.INVALID_ARGUMENT] > ROUNDS // 3
    assert counts[grpc.StatusCode.OK] > 0
    assert counts[grpc.StatusCode.DEADLINE_EXCEEDED] == 0


def answer(server: Any, support: Any, method: str, data: bytes) -> grpc.StatusCode:
    """The status of the answer, which must be in the table, with details that name a reason."""
    error = server.client.raw_error(method, data)
    if error is None:
        return grpc.StatusCode.OK
    assert error.code() in ALLOWED, (method, data, error.details(), server.said()[-3000:])
    assert support.details_of(error)["reason"]
    code: grpc.StatusCode = error.code()
    return code
