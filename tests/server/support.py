"""A real server for tests, and a client made of nothing but the generated messages."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import sumgrad_engine as sg
from google.rpc import error_details_pb2, status_pb2
from sumgrad_engine.ir import Graph
from sumgrad_engine.program import Result
from sumgrad_engine.table import to_table
from sumgrad_engine.types import DType
from sumgrad_proto.v1 import graph_pb2
from sumgrad_proto.v1 import service_pb2 as wire

GIB = 1 << 30
PATIENCE = 60.0  # seconds after which a test fails; nothing waits that long when all is well
_DTYPES = {
    "f8": graph_pb2.DTYPE_F64,
    "f4": graph_pb2.DTYPE_F32,
    "i8": graph_pb2.DTYPE_I64,
    "i4": graph_pb2.DTYPE_I32,
    "b1": graph_pb2.DTYPE_BOOL,
}
_LEAVES = {DType.FLOAT: graph_pb2.DTYPE_F64, DType.INT: graph_pb2.DTYPE_I64, DType.BOOL: graph_pb2.DTYPE_BOOL}


def array_message(array: Any) -> graph_pb2.Array:
    """An array on the wire."""
    array = np.asarray(array)
    return graph_pb2.Array(dtype=_DTYPES[array.dtype.str[1:]], shape=array.shape, data=array.tobytes())


def array_of(message: graph_pb2.Array) -> Any:
    """A float64 array from the wire."""
    kinds = {number: name for name, number in _DTYPES.items()}
    return np.frombuffer(message.data, np.dtype("<" + kinds[message.dtype]) if message.dtype != graph_pb2.DTYPE_BOOL else "?").reshape(
        message.shape
    )


def named(arrays: Mapping[str, Any]) -> list[graph_pb2.NamedArray]:
    """Arrays by name on the wire."""
    return [graph_pb2.NamedArray(name=name, array=array_message(array)) for name, array in arrays.items()]


def graph_message(graph: Graph) -> graph_pb2.Graph:
    """A graph on the wire."""
    table = to_table(graph)

    def leaves(entries: Any) -> list[graph_pb2.Leaf]:
        return [graph_pb2.Leaf(name=leaf.name, shape=leaf.shape, dtype=_LEAVES[leaf.dtype]) for leaf in entries]

    return graph_pb2.Graph(
        opcodes=table.opcodes.tolist(),
        operand_counts=table.operand_counts.tolist(),
        operands=table.operands.tolist(),
        attributes=[graph_pb2.Attribute(node=node, name=name, values=values) for node, name, values in table.attributes],
        inputs=leaves(table.inputs),
        parameters=leaves(table.parameters),
        scalars=table.scalars.tolist(),
        constants=[array_message(constant) for constant in table.constants],
        outputs=[graph_pb2.Output(name=name, node=node) for name, node in table.outputs],
    )


def graph_bytes(graph: Graph) -> bytes:
    """A graph's canonical bytes."""
    return graph_message(graph).SerializeToString(deterministic=True)


def sources_message(graph: Graph) -> graph_pb2.SourceMap:
    """Where a graph's nodes were made, on the wire."""
    sources = graph.sources
    assert sources is not None
    return graph_pb2.SourceMap(files=sources.files, file=sources.file.tolist(), line=sources.line.tolist())


def details_of(error: grpc.RpcError) -> dict[str, Any]:
    """What an error's google.rpc details say, flattened: reason, domain, the metadata, `violations`, `retry`."""
    trailer = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailer["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    said: dict[str, Any] = {}
    for part in status.details:
        info, request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if part.Unpack(info):
            said |= {**info.metadata, "reason": info.reason, "domain": info.domain}
        elif part.Unpack(request):
            said["violations"] = [violation.field for violation in request.field_violations]
        elif part.Unpack(retry):
            said["retry"] = retry.retry_delay.ToNanoseconds() / 1e9
    return said


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, dict[str, Any], str]:
    """Status, details and message of a call that must fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), details_of(error), error.details()
    raise AssertionError("the call was not refused")


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Polls until something holds; the test fails if it doesn't come to that."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"waited {PATIENCE} s for: {what}"
        time.sleep(0.002)


def is_alive(pid: int) -> bool:
    """Whether a process runs: a zombie doesn't."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def slow_objective(depth: int = 40) -> sg.Objective:
    """An objective whose sum rounds, and takes a block some milliseconds."""
    x, w = sg.input("x"), sg.param("w", np.linspace(0.1, 0.9, 8))
    value = x * w
    for _ in range(depth):
        value = sg.sin(value) + 0.1 * value
    return sg.Objective(sg.sum(value), penalty=sg.sum(w * w), metrics={"norm": sg.sum(value * value)})


def slow_samples(blocks: int) -> dict[str, Any]:
    """Data for it."""
    return {"x": np.random.default_rng(5).normal(size=512 * blocks - 100)}


def assert_same_bits(found: Result, expected: Result) -> None:
    """Value, gradients, metrics and count are the same to the last bit."""
    assert (found.value, found.count) == (expected.value, expected.count)
    for ours, theirs in ((found.grads, expected.grads), (found.metrics, expected.metrics)):
        assert {name: array.tobytes() for name, array in ours.items()} == {name: array.tobytes() for name, array in theirs.items()}


class Client:
    """Calls of the service, with nothing in between."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_send_message_length", GIB), ("grpc.max_receive_message_length", GIB), ("grpc.enable_retries", 0)]
        self.channel = grpc.insecure_channel(address, options)

    def close(self) -> None:
        self.channel.close()

    def raw(self, method: str, data: bytes) -> Any:
        """Sends these bytes, whatever they are, to a unary method; gives the bytes that come back."""
        return self.channel.unary_unary(f"/sumgrad.v1.GradientService/{method}")(data, timeout=PATIENCE)

    def raw_error(self, method: str, data: bytes) -> grpc.RpcError | None:
        """What these bytes are refused with, if they are."""
        try:
            self.raw(method, data)
        except grpc.RpcError as error:
            return error
        return None

    def unary(self, method: str, request: Any, response: Any, timeout: float = PATIENCE) -> Any:
        """A call."""
        return self.future(method, request, response, timeout).result()

    def future(self, method: str, request: Any, response: Any, timeout: float = PATIENCE) -> Any:
        """A call under way."""
        path = f"/sumgrad.v1.GradientService/{method}"
        call = self.channel.unary_unary(path, type(request).SerializeToString, response.FromString)
        return call.future(request, timeout=timeout)

    def register(self, graph: Graph | bytes, sources: graph_pb2.SourceMap | None = None) -> str:
        """Registers a graph; gives its id."""
        data = graph if isinstance(graph, bytes) else graph_bytes(graph)
        request = wire.RegisterGraphRequest(request_id="register", graph=data, sources=sources)
        name: str = self.unary("RegisterGraph", request, wire.RegisterGraphResponse).graph_id
        return name

    def gradient(self, graph_id: str, params: Mapping[str, Any], inputs: Mapping[str, Any], **options: Any) -> Result:
        """A gradient, as the engine gives it."""
        return self.result(self.gradient_future(graph_id, params, inputs, **options).result())

    def gradient_future(
        self, graph_id: str, params: Mapping[str, Any], inputs: Mapping[str, Any], timeout: float = PATIENCE, **options: Any
    ) -> Any:
        """A gradient under way."""
        request = wire.GradientRequest(request_id="gradient", graph_id=graph_id, parameters=named(params), inputs=named(inputs), **options)
        return self.future("Gradient", request, wire.GradientResponse, timeout)

    @staticmethod
    def result(answer: wire.GradientResponse) -> Result:
        """An answer, as the engine gives it."""
        grads = {entry.name: array_of(entry.array) for entry in answer.gradients}
        metrics = {entry.name: array_of(entry.array) for entry in answer.metrics}
        return Result(answer.value, grads, metrics, answer.sample_count)

    def evaluate(self, graph_id: str, params: Mapping[str, Any], inputs: Mapping[str, Any], **options: Any) -> list[wire.EvaluateResponse]:
        """All messages of an evaluation."""
        request = wire.EvaluateRequest(request_id="evaluate", graph_id=graph_id, parameters=named(params), inputs=named(inputs), **options)
        call = self.channel.unary_stream(
            "/sumgrad.v1.GradientService/Evaluate", wire.EvaluateRequest.SerializeToString, wire.EvaluateResponse.FromString
        )
        return list(call(request, timeout=PATIENCE))


class Server:
    """`python -m sumgrad_server` on a free loopback port. `prefix` is a command that runs it, `environ` what it finds beside our environment."""

    def __init__(
        self, *flags: str, stdin: int = subprocess.DEVNULL, prefix: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        command = [*prefix, sys.executable, "-m", "sumgrad_server", "--address", "127.0.0.1:0", "--announce", *flags]
        environment = {**os.environ, **(environ or {})}
        self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=self.log, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said()
        said = json.loads(line)
        self.address: str = said["address"]
        self.pid: int = said["pid"]
        self.metrics: str | None = said["metrics"]
        self.client = Client(self.address)

    def said(self) -> str:
        """The server's log."""
        return os.pread(self.log.fileno(), 1 << 24, 0).decode()

    def workers(self) -> list[int]:
        """Process ids of the workers, as the kernel has them."""
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        return sorted(int(pid) for path in children for pid in path.read_text().split() if is_alive(int(pid)))

    def worker_seconds(self) -> float:
        """Processor time that the workers have used so far."""
        ticks = 0
        for pid in self.workers():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def wait_for_work(self, seconds: float = 0.1) -> None:
        """Until the workers have computed for so long from now on."""
        start = self.worker_seconds()
        wait_until(lambda: self.worker_seconds() >= start + seconds, "the workers to be at work")

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """Ends it for good."""
        self.client.close()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def running(*flags: str, **options: Any) -> Iterator[Server]:
    """A server for the length of a block."""
    server = Server(*flags, **options)
    try:
        yield server
    finally:
        server.close()
