"""GradientStream on a real server: answers in order, errors among them, a window, and the end of streams."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import sumgrad_engine as sg
from google.rpc import error_details_pb2, status_pb2
from sumgrad_proto.v1 import service_pb2 as wire

PATH = "/sumgrad.v1.GradientService/GradientStream"
OBJECTIVE = sg.Objective((sg.input("x") - sg.param("w", 0.5)) ** 2)


@pytest.fixture(scope="module")
def server(support: Any) -> Iterator[Any]:
    """A server with two workers and a small window."""
    with support.running("--workers", "2", "--max-stream-window", "4") as running:
        yield running


def requests(support: Any, server: Any, count: int) -> list[wire.GradientRequest]:
    """Requests whose samples differ: the k-th has the samples k and k + 1."""
    graph_id = server.client.register(OBJECTIVE.graph)
    parameters = support.named({"w": np.array(0.5)})
    return [
        wire.GradientRequest(
            request_id=f"r{number}", graph_id=graph_id, parameters=parameters, inputs=support.named({"x": np.arange(2.0) + number})
        )
        for number in range(count)
    ]


def stream(server: Any, messages: Any, **options: Any) -> Any:
    """The call, which gives answers."""
    method = server.client.channel.stream_stream(
        PATH,
        request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        response_deserializer=wire.GradientStreamResponse.FromString,
    )
    return method(iter(messages), **options)


def test_answers_come_in_the_order_of_the_requests(support: Any, server: Any) -> None:
    """Many more requests than the window holds are all answered, each with its own sum, in their order."""
    asked = requests(support, server, 200)
    answers = list(stream(server, asked))
    assert [answer.gradient.request_id for answer in answers] == [request.request_id for request in asked]
    expected = [OBJECTIVE.value_and_grad({"w": 0.5}, {"x": np.arange(2.0) + number}).value for number in range(200)]
    assert [answer.gradient.value for answer in answers] == expected


def test_an_error_is_an_answer(support: Any, server: Any) -> None:
    """A request that is refused has its status and details in its place, and the others their sums."""
    asked = requests(support, server, 5)
    asked[1].graph_id = "0" * 64
    del asked[3].inputs[:]
    answers = list(stream(server, asked))
    assert [answer.WhichOneof("answer") for answer in answers] == ["gradient", "error", "gradient", "error", "gradient"]
    codes = [answer.error.code for answer in answers if answer.HasField("error")]
    assert codes == [grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    details = status_pb2.Status.FromString(answers[1].error.details)
    info = error_details_pb2.ErrorInfo()
    assert details.details[0].Unpack(info)
    assert (info.reason, info.metadata["request_id"], answers[1].error.request_id) == ("UNKNOWN_GRAPH", "r1", "r1")


def test_bytes_that_are_no_request_are_answered_in_their_place(support: Any, server: Any) -> None:
    """What can't be read, and a request id that is too long, are errors among the answers; the stream goes on."""
    asked: list[Any] = requests(support, server, 4)
    asked[1] = b"\xff\xff"
    asked[2].request_id = "x" * 1000
    answers = list(stream(server, asked))
    assert [answer.WhichOneof("answer") for answer in answers] == ["gradient", "error", "error", "gradient"]
    assert {answer.error.code for answer in answers[1:3]} == {grpc.StatusCode.INVALID_ARGUMENT.value[0]}


def test_the_server_reads_no_further_than_its_window(support: Any, server: Any) -> None:
    """While nobody takes the answers, no more requests are computed than fit the window and gRPC's own buffers."""
    graph_id = server.client.register(support.slow_objective().graph)
    data = support.slow_samples(400)
    request = wire.GradientRequest(graph_id=graph_id, parameters=support.named(support.slow_objective().params), inputs=support.named(data))
    taken = []

    def endless() -> Iterator[wire.GradientRequest]:
        for number in range(1000):
            taken.append(number)
            yield request

    call = stream(server, endless())
    assert next(call).gradient.sample_count == len(data["x"])
    assert len(taken) < 500
    call.cancel()
    assert server.client.gradient(graph_id, support.slow_objective().params, support.slow_samples(1)).count == 412


def test_a_deadline_ends_the_stream(support: Any, server: Any) -> None:
    """A stream whose time is over ends, and its work with it."""
    graph_id = server.client.register(support.slow_objective().graph)
    data = support.slow_samples(8000)
    request = wire.GradientRequest(graph_id=graph_id, parameters=support.named(support.slow_objective().params), inputs=support.named(data))
    with pytest.raises(grpc.RpcError) as refused:
        list(stream(server, [request] * 3, timeout=0.5))
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.client.gradient(graph_id, support.slow_objective().params, support.slow_samples(1)).count == 412


def test_draining_ends_open_streams(support: Any) -> None:
    """On SIGTERM what was asked is answered, and streams that wait for more end with UNAVAILABLE; the server goes at once."""
    with support.running("--workers", "1", "--grace", "60") as server:
        graph_id = server.client.register(OBJECTIVE.graph)
        request = wire.GradientRequest(
            graph_id=graph_id, parameters=support.named({"w": np.array(0.5)}), inputs=support.named({"x": np.ones(3)})
        )

        async def run() -> grpc.StatusCode:
            async with grpc.aio.insecure_channel(server.address) as channel:
                call = channel.stream_stream(PATH, request_serializer=wire.GradientRequest.SerializeToString)()
                await call.write(request)
                await call.read()
                server.process.send_signal(signal.SIGTERM)
                with pytest.raises(grpc.aio.AioRpcError):
                    await call.read()
                return await call.code()

        assert asyncio.run(run()) is grpc.StatusCode.UNAVAILABLE
        assert server.process.wait(support.PATIENCE) == 0
