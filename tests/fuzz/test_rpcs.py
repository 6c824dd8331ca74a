"""A hundred thousand wrong messages, to every method, against a real server: each is answered from the table of errors, and nothing is left behind.

SUMGRAD_FUZZ_SECONDS fuzzes for so long instead, SUMGRAD_FUZZ_SEED from another seed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.status import TABLE
from sumgrad_tests import support
from sumgrad_tests.mutation import mutated, scrambled
from sumgrad_tests.processes import anonymous_bytes, descriptors, open_files
from sumgrad_tests.requests import INNER, STOPPED, TRAINED, Seed, create_run, logistic, samples, seeds, upload

pytestmark = [pytest.mark.fuzz, pytest.mark.slow, pytest.mark.xdist_group("load")]

MESSAGES = 100_000
SECONDS = float(os.environ.get("SUMGRAD_FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("SUMGRAD_FUZZ_SEED", "20"))
AT_A_TIME = 48
MIB = 1 << 20
FLAGS = (
    *("--workers", "2", "--max-graphs", "64", "--max-elements", "65536", "--max-compile-seconds", "5"),
    *("--max-worker-bytes", str(1024 * MIB), "--max-shared-bytes", str(256 * MIB), "--max-datasets", "400"),
    *("--max-uploads", "500", "--upload-expiry-seconds", "1", "--max-runs", "200", "--max-run-history", "100"),
)
SLACK = 64 + 128
"""Descriptors that come and go: of 64 graphs, and of arenas, uploads and connections."""
GROWTH = 192 * MIB
"""What a process may come to hold while it is fuzzed: caches, and the memory that malloc keeps."""

DOCUMENTED = {row.code for row in TABLE} - {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
"""What an answer may be. A fault of ours isn't among them."""
CODES = {code.value[0]: code for code in grpc.StatusCode}


MANY = 4 * MIB
FOUND = {
    # Each field took protobuf a hundred times the memory that it has here, and stopped the front's loop for as long.
    "empty parameters": ("Gradient", b"\x1a\x00" * MANY),
    "empty names to differentiate by": ("Gradient", b"\x2a\x00" * MANY),
    "empty names of files": ("RegisterGraph", b"\x1a\x80\x80\x80\x04" + b"\x0a\x00" * MANY),
    # This kept a worker busy for a minute.
    "empty attributes": ("RegisterGraph", b"\x12\x80\x80\x80\x04" + b"\x22\x00" * MANY),
    "unknown fields": ("Gradient", b"\xc0\x3e\x00" * MANY),
}
"""Messages that found a fault."""


class Fuzzer:
    """Sends messages over a few connections, and counts what comes back."""

    def __init__(self, address: str, good: Sequence[Seed]) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channels = [grpc.aio.insecure_channel(address, options) for _ in range(3)]
        self._blocking = grpc.insecure_channel(address, options)
        self._good = good
        self._weights = [seed.weight for seed in good]
        self.dice = Random(SEED)
        self.sent = 0
        self.counts: Counter[tuple[str, grpc.StatusCode]] = Counter()

    async def run(self, messages: int, seconds: float = 0.0) -> None:
        """Sends so many messages, or for so long."""
        start, end = self.sent, time.monotonic() + seconds
        room = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end if seconds else self.sent < start + messages:
                await room.acquire()
                group.create_task(self._one()).add_done_callback(lambda _: room.release())

    async def close(self) -> None:
        self._blocking.close()
        for channel in self._channels:
            await channel.close()

    async def _one(self) -> None:
        seed = self.dice.choices(self._good, self._weights)[0]
        path = f"/sumgrad.v1.GradientService/{seed.method}"
        channel = self.dice.choice(self._channels)
        timeout = 0.001 if self.dice.random() < 0.005 else support.PATIENCE
        match seed.method:
            case "UploadDataset":
                await self._upload(self._reordered(seed.requests), timeout)
            case "GradientStream":
                await self._stream([self._wrong(request) for request in seed.requests], timeout)
            case "Step":
                await self._steps(seed.requests, timeout)
            case "WatchRun":  # of a run that goes on there is no end
                await self._call(seed.method, collected(channel.unary_stream(path)(self._wrong(seed.requests[0]), timeout=0.5)))
            case "Evaluate":
                await self._call(seed.method, collected(channel.unary_stream(path)(self._wrong(seed.requests[0]), timeout=timeout)))
            case method:
                data = self._wrong(seed.requests[0])
                answer = await self._call(method, channel.unary_unary(path)(data, timeout=timeout))
                if method == "RegisterGraph" and answer is not None and self.dice.random() < 0.01:
                    await self._use(channel, wire.RegisterGraphRequest.FromString(data).graph)

    def _wrong(self, request: Message) -> bytes:
        """A message that is wrong in some way; a few are of another kind, a few are noise. Nothing deletes what good requests name."""
        self.sent += 1
        chance = self.dice.random()
        if chance < 0.02 and not isinstance(request, wire.DeleteDatasetRequest | wire.StopRunRequest):
            return self.dice.choice(self.dice.choice(self._good).requests).SerializeToString()
        if chance < 0.03:
            return self.dice.randbytes(self.dice.randrange(200))
        if chance < 0.15:
            return scrambled(request.SerializeToString(), self.dice)
        return mutated(request, self.dice, INNER)

    def _reordered(self, requests: Sequence[Message]) -> list[bytes]:
        """The messages of an upload: a few of them wrong, left out, doubled or swapped, or none."""
        first = wire.UploadDatasetRequest()
        first.CopyFrom(requests[0])
        if self.dice.random() < 0.8:  # the others meet in one upload
            first.start.upload_id = first.start.name = str(self.sent)
        requests = [first, *requests[1:]]
        data = [request.SerializeToString() for request in requests]
        self.sent += len(data)
        for _ in range(self.dice.choice([0, 1, 1, 2])):
            place, other = self.dice.randrange(len(data)), self.dice.randrange(len(data))
            match self.dice.randrange(6):
                case 0:
                    del data[place]
                case 1:
                    data.insert(place, data[other])
                case 2:
                    data[place], data[other] = data[other], data[place]
                case _ if place < len(requests):
                    data[place] = self._wrong(requests[place])
            if not data:
                break
        return data

    async def _upload(self, data: Sequence[bytes], patience: float) -> None:
        # Blocking gRPC, here and for streams: the other kind says INTERNAL where a server answers before all was sent.
        call = self._blocking.stream_unary("/sumgrad.v1.GradientService/UploadDataset").future(iter(data), timeout=patience)
        if self.dice.random() < 0.05:
            call.cancel()
        answer = await self._call("UploadDataset", sent_whole(call))
        if answer is not None and self.dice.random() < 0.95:
            stored = wire.UploadDatasetResponse.FromString(answer).dataset.id
            await self._call("DeleteDataset", self._delete(stored))

    def _delete(self, dataset: str) -> Any:
        path = "/sumgrad.v1.GradientService/DeleteDataset"
        return self._channels[0].unary_unary(path)(wire.DeleteDatasetRequest(dataset=dataset).SerializeToString(), timeout=support.PATIENCE)

    async def _stream(self, data: Sequence[bytes], patience: float) -> None:
        call = self._blocking.stream_stream("/sumgrad.v1.GradientService/GradientStream")(iter(data), timeout=patience)
        answers = await self._call("GradientStream", asyncio.to_thread(answered, call, give_up=self.dice.random() < 0.05))
        for answer in answers or ():
            said = wire.GradientStreamResponse.FromString(answer)
            if said.WhichOneof("answer") == "error":
                self._count("GradientStream", CODES[said.error.code], said)
        assert answers is None or len(answers) == len(data)

    async def _steps(self, requests: Sequence[Message], patience: float) -> None:
        """One of a few members joins, and sends its contributions without looking whose turn it is; most are for the step that it is."""
        asked = wire.JoinRunRequest(run=TRAINED, member=f"m{self.dice.randrange(4)}").SerializeToString()
        joining = self._channels[0].unary_unary("/sumgrad.v1.GradientService/JoinRun")(asked, timeout=support.PATIENCE)
        joined = wire.JoinRunResponse.FromString(await joining)
        data, step = [], joined.run.step
        for request in requests:
            good = wire.StepRequest()
            good.CopyFrom(request)
            if good.HasField("attach"):
                good.attach.number, good.attach.session = joined.number, joined.session
            elif good.HasField("contribution"):
                good.contribution.step, step = step, step + self.dice.randrange(2)
            data.append(good.SerializeToString() if self.dice.random() < 0.7 else self._wrong(good))
        self.sent += len(data)
        call = self._blocking.stream_stream("/sumgrad.v1.GradientService/Step")(iter(data), timeout=patience)
        answers = await self._call("Step", asyncio.to_thread(answered, call, give_up=self.dice.random() < 0.05))
        for answer in answers or ():
            said = wire.StepResponse.FromString(answer)
            if said.WhichOneof("response") == "error":
                self._count("Step", CODES[said.error.code], said)

    async def _use(self, channel: Any, graph: bytes) -> None:
        """Has a graph that was taken compiled and computed."""
        message = graph_pb2.Graph.FromString(graph)
        leaves = [*message.inputs, *message.parameters]
        if sum(int(np.prod(leaf.shape, dtype=float)) for leaf in leaves) > 100_000:
            return
        name = await self._call("RegisterGraph", channel.unary_unary("/sumgrad.v1.GradientService/RegisterGraph")(register(graph)))
        if name is not None:
            arrays = {"parameters": filled(message.parameters, None), "inputs": filled(message.inputs, 3)}
            graph_id = wire.RegisterGraphResponse.FromString(name).graph_id
            request = wire.GradientRequest(graph_id=graph_id, **arrays).SerializeToString()
            path = "/sumgrad.v1.GradientService/Gradient"
            await self._call("Gradient", channel.unary_unary(path)(request, timeout=support.PATIENCE))

    async def _call(self, method: str, call: Any) -> Any:
        """What a call gives; None if it is refused."""
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            self._count(method, error.code(), error)
            return None
        except asyncio.CancelledError:  # the call was, not this task
            self.counts[method, grpc.StatusCode.CANCELLED] += 1
            return None
        self._count(method, grpc.StatusCode.OK, None)
        return answer

    def _count(self, method: str, code: grpc.StatusCode, said: Any) -> None:
        self.counts[method, code] += 1
        assert code is grpc.StatusCode.OK or code in DOCUMENTED, (method, said)
        if isinstance(said, grpc.aio.AioRpcError) and code not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            assert support.details_of(said)["reason"]


def register(graph: bytes) -> bytes:
    return wire.RegisterGraphRequest(graph=graph).SerializeToString()


def filled(leaves: Iterable[graph_pb2.Leaf], count: int | None) -> list[graph_pb2.NamedArray]:
    """An array of halves, or what is left of them in integers, for each leaf."""
    kinds = {graph_pb2.DTYPE_F64: float, graph_pb2.DTYPE_I64: int, graph_pb2.DTYPE_BOOL: bool}
    return support.named({leaf.name: np.full((*([count] if count else []), *leaf.shape), 0.5).astype(kinds[leaf.dtype]) for leaf in leaves})


async def collected(call: AsyncIterator[bytes]) -> list[bytes]:
    return [answer async for answer in call]


async def sent_whole(call: Any) -> Any:
    """The answer of a call of blocking gRPC, whose errors become those of the other kind."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(done.set))
    await done.wait()
    if call.code() is grpc.StatusCode.OK:
        return call.result()
    raise as_async(call)


def answered(call: Any, *, give_up: bool) -> list[bytes]:
    """All answers of a stream; or it is left in the midst of them."""
    answers: list[bytes] = []
    try:
        for answer in call:
            answers.append(answer)
            if give_up:
                call.cancel()
    except grpc.RpcError as error:
        raise as_async(error) from None
    return answers


def as_async(error: Any) -> grpc.aio.AioRpcError:
    """An error of blocking gRPC as one of the other kind."""
    return grpc.aio.AioRpcError(error.code(), grpc.aio.Metadata(), grpc.aio.Metadata(*error.trailing_metadata()), error.details())


def prepared(server: Any) -> list[Seed]:
    """Registers the graph and uploads the dataset that good requests name."""
    graph_id = server.client.register(logistic().graph)
    path = "/sumgrad.v1.GradientService/UploadDataset"
    send = server.client.channel.stream_unary(path, wire.UploadDatasetRequest.SerializeToString)
    send(iter(upload("kept", samples())), timeout=support.PATIENCE)
    for name in (TRAINED, STOPPED):
        server.client.unary("CreateRun", create_run(graph_id, name), wire.CreateRunResponse)
    server.client.unary("StopRun", wire.StopRunRequest(run=STOPPED), wire.StopRunResponse)
    return seeds(graph_id, "kept")


def listed(server: Any) -> list[tuple[str, bytes]]:
    """Names of all runs and how they were to be."""
    found = server.client.unary("ListRuns", wire.ListRunsRequest(), wire.ListRunsResponse)
    return [(run.name, run.specification.SerializeToString(deterministic=True)) for run in found.runs]


def assert_right_bits(client: Any) -> None:
    """A good request has the bits of this process."""
    objective, data = logistic(), samples(3000)
    found = client.gradient(client.register(objective.graph), objective.params, data)
    support.assert_same_bits(found, objective.value_and_grad(objective.params, data))


async def fuzzed(server: Any, good: Sequence[Seed]) -> Counter[tuple[str, grpc.StatusCode]]:
    """Fuzzes, and compares what the server holds after a tenth of it with what it holds afterwards."""
    fuzzer = Fuzzer(server.address, good)
    await fuzzer.run(MESSAGES // 10)
    files, memory = descriptors(server.pid), anonymous_bytes(server.pid)
    await fuzzer.run(MESSAGES * 9 // 10, SECONDS)
    assert descriptors(server.pid) < files + SLACK, open_files(server.pid)
    assert anonymous_bytes(server.pid) < memory + GROWTH
    for worker in server.workers():
        assert anonymous_bytes(worker) < 1024 * MIB
        assert descriptors(worker) < SLACK, open_files(worker)
    await fuzzer.close()
    assert fuzzer.sent >= MESSAGES
    return fuzzer.counts


def test_wrong_messages_are_answered_from_the_table(tmp_path: Path) -> None:
    """No message makes a fault of ours, kills a process, leaks or takes more than the limits; afterwards the bits are right."""
    with support.running(*FLAGS, "--state-dir", str(tmp_path / "state")) as server:
        good, workers = prepared(server), server.workers()
        try:
            counts = asyncio.run(fuzzed(server, good))
        except BaseExceptionGroup as error:
            raise AssertionError(f"{error.exceptions[0]!r}\n{server.said()[-5000:]}") from error
        assert_right_bits(server.client)
        assert server.workers() == workers, server.said()[-5000:]
        assert server.process.poll() is None
        runs = listed(server)
    with support.running(*FLAGS, "--state-dir", str(tmp_path / "state")) as server:
        assert listed(server) == runs
    print(*sorted(f"{method} {code.name} {count}" for (method, code), count in counts.items()), sep="\n")
    for method in {seed.method for seed in good}:
        assert counts[method, grpc.StatusCode.OK] > 0, method
        assert sum(count for (name, _), count in counts.items() if name == method) > counts[method, grpc.StatusCode.OK] or method in (
            "ListDatasets",
            "ListRuns",
        )


@pytest.mark.parametrize(("method", "data"), FOUND.values(), ids=FOUND.keys())
def test_messages_that_once_broke_something(method: str, data: bytes) -> None:
    """Messages that found a fault are refused from the table, and take the front no more memory than a few times their size."""
    with support.running("--workers", "1") as server:
        memory = anonymous_bytes(server.pid)
        error = server.client.raw_error(method, data)
        assert error is not None
        assert error.code() in DOCUMENTED
        assert support.details_of(error)["reason"]
        assert anonymous_bytes(server.pid) < memory + 8 * len(data) + 32 * MIB
        assert_right_bits(server.client)
