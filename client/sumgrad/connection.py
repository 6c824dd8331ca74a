"""The blocking service: `sg.connect`, `sg.local` and what they return."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc
from numpy.typing import ArrayLike
from sumgrad_engine.objective import Objective
from sumgrad_engine.optim import Optimizer
from sumgrad_engine.options import Evaluator, Precision
from sumgrad_proto.v1 import service_pb2 as wire

from . import calls
from .calls import METHODS, Call, Method, Pause, Steps
from .channel import MAX_MESSAGE_BYTES, channel_options, checked_address, error_of, shown_signature
from .credentials import TLSChoice, credentials
from .errors import ServiceError, UnavailableError
from .launch import ServerProcess
from .protocol import Protocol
from .retry import DEFAULT_RETRY, Retry
from .run import Run
from .stream import GradientStream

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _blocking(
    method: Callable[Concatenate[Protocol, Arguments], Steps[Answer]],
) -> Callable[Concatenate[Service, Arguments], Answer]:
    """A method of the protocol as one of the service that carries its steps out and returns the answer."""

    @functools.wraps(method)
    def call(service: Service, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        return service.carry_out(method(service.protocol, *args, **kwargs))

    return shown_signature(call)


class Service:
    """A connection to a server. Threads may share it. Made by `connect` and `local`; close it, or use it in a `with`."""

    def __init__(
        self, channel: grpc.Channel, protocol: Protocol, process: ServerProcess | None = None, metadata: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self._channel = channel
        self.protocol = protocol
        self._metadata = metadata
        self._stubs = {method.path: _stub(channel, method) for method in METHODS}
        self._closed = False
        self.process = process  # the server, if `local` started it

    value_and_grad = _blocking(Protocol.value_and_grad)
    evaluate = _blocking(Protocol.evaluate)
    backward = _blocking(Protocol.backward)
    get_graph = _blocking(Protocol.get_graph)
    upload = _blocking(Protocol.upload)
    datasets = _blocking(Protocol.datasets)
    dataset = _blocking(Protocol.dataset)
    delete_dataset = _blocking(Protocol.delete_dataset)
    status = _blocking(Protocol.status)
    runs = _blocking(Protocol.runs)
    health = _blocking(Protocol.health)

    def stream(self, window: int = 16) -> GradientStream:
        """A stream of gradients, for a `with`: at most `window` requests are unanswered at a time, and results come in their order.

        `value_and_grad` of the stream returns a future, so that requests can be sent before the results of others are there. The server has a window
        too (`--max-stream-window`, 64).
        """
        return GradientStream(self, window)

    def open_stream(self, requests: Iterator[wire.GradientRequest]) -> Any:
        """The call behind a stream: its answers, one after another."""
        return self._stubs[calls.GRADIENT_STREAM.path](requests, metadata=self._metadata)

    def run(
        self,
        name: str,
        objective: Objective | None,
        optimizer: Optimizer | None,
        *,
        params: Mapping[str, ArrayLike] | None = None,
        members: int = 1,
        min_members: int = 1,
        lease: float = 60.0,
        step_timeout: float = 600.0,
        max_steps: int | None = None,
        evaluator: Evaluator = "auto",
        precision: Precision = "f64",
    ) -> Run:
        """Makes a training run, which many machines may take part in (`Run.join`); or finds the one of this name that was made alike.

        The server has its parameters, begun with `params` (None: the objective's own; whoever is first decides), and steps by the optimiser, whose learning
        rate is a number or an `sg.optim.Schedule`. With `optimizer` None members get the gradient and update the parameters, all in the same way. With
        `objective` None members compute gradients themselves.

        It starts with `members` and goes on with `min_members`, until `max_steps` are made (None or 0: until it is stopped). Who is not heard from for `lease`
        seconds loses its seat, as does who lets a step wait for `step_timeout` seconds. AlreadyExistsError if there is a run of this name that was
        made in another way; ValueError or TypeError for an optimiser that can't be sent.
        """
        self.carry_out(
            self.protocol.create_run(
                name,
                objective,
                optimizer,
                params,
                members=members,
                min_members=min_members,
                lease=lease,
                step_timeout=step_timeout,
                max_steps=max_steps,
                evaluator=evaluator,
                precision=precision,
            )
        )
        return Run(self, name, objective)

    def get_run(self, name: str, objective: Objective | None = None) -> Run:
        """A run that is there, by name or id. With its objective, it can be joined if the server has lost the graph. NotFoundError if there is none."""
        run = Run(self, name, objective)
        run.info()
        return run

    def open_steps(self, requests: Iterator[wire.StepRequest]) -> Any:
        """The call behind a member of a run: what the server says, one after another."""
        return self._stubs[calls.STEP.path](requests, metadata=self._metadata)

    def open_watch(self, request: wire.WatchRunRequest) -> Any:
        """The news of a run, one after another."""
        return self._stubs[calls.WATCH_RUN.path](request, metadata=self._metadata)

    def close(self) -> None:
        """Closes the connection, and stops the server if `local` started it. Closing twice is fine."""
        self._closed = True
        self._channel.close()
        if self.process is not None:
            self.process.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def carry_out(self, steps: Steps[Answer]) -> Answer:
        """Carries out what a method of the protocol asks for, and returns its answer."""
        if self._closed:
            raise UnavailableError("this connection was closed: make another with connect or local", status="UNAVAILABLE")
        reply: Any = None
        error: ServiceError | None = None
        while True:
            try:
                step = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
            reply, error = None, None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            try:
                reply = self._call(step)
            except grpc.RpcError as refused:
                error = error_of(refused)

    def _call(self, call: Call) -> Any:
        stub = self._stubs[call.method.path]
        # Both kinds are started without waiting, so that Ctrl-C in the wait can cancel them, and the workers stop.
        send = stub if call.method.streams else stub.future
        pending = send(call.request, timeout=call.timeout, metadata=self._metadata)
        try:
            return list(pending) if call.method.streams else pending.result()
        except grpc.RpcError:
            raise
        except BaseException:
            pending.cancel()
            raise


def _stub(channel: grpc.Channel, method: Method[Any, Any]) -> Any:
    if method.sends and not method.streams:
        return channel.stream_unary(method.path, response_deserializer=method.reply.FromString)  # the requests are serialised already
    kind = channel.stream_stream if method.sends else channel.unary_stream if method.streams else channel.unary_unary
    return kind(method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.reply.FromString)


def connect(
    address: str,
    *,
    timeout: float | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    retry: Retry = DEFAULT_RETRY,
    insecure: bool = False,
    tls: TLSChoice = None,
    token: str | None = None,
) -> Service:
    """A connection to the server at "host:port" (or "unix:/path").

    Nothing is sent before the first call. `timeout` is in seconds and holds for each call that is given none, retries included; None
    waits for ever. `retry` says how often a call that finds the server unavailable is sent again.

    `tls` encrypts: a TLS, the path of the PEM file of the authorities to trust, or True for public ones; None is what SUMGRAD_TLS_CA, SUMGRAD_TLS_CERT and
    SUMGRAD_TLS_KEY say, False is no encryption. Without it the connection goes to this machine only, unless `insecure=True` says that the network between is
    trusted. `token` says who calls; None takes it from SUMGRAD_TOKEN, or from the file SUMGRAD_TOKEN_FILE. Raises ValueError for what can't be used.
    """
    chosen = credentials(tls, token)
    target = checked_address(address, insecure=insecure or chosen.tls is not None)
    options = [*channel_options(max_message_bytes), *chosen.options]
    channel = (
        grpc.secure_channel(target, chosen.tls.channel_credentials(), options) if chosen.tls else grpc.insecure_channel(target, options)
    )
    return Service(channel, Protocol(timeout=timeout, retry=retry), metadata=chosen.metadata)


def local(
    workers: int = 2,
    *,
    evaluator: Evaluator = "auto",
    state_dir: str | os.PathLike[str] | None = None,
    flags: Sequence[str] = (),
    timeout: float | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Service:
    """Starts a server with so many workers on this machine and connects to it; closing the connection stops it.

    `evaluator` is what it uses where a call does not say; "reference": it compiles nothing. `state_dir` is where it keeps graphs and datasets for the next
    server; without it they go with this one. `flags` are further ones of `sumgrad serve`.

    It needs the extra `server` (pip install "sumgrad[server]"). ServerStartError says why one did not start.
    """
    process = ServerProcess.start(workers=workers, evaluator=evaluator, state_dir=state_dir, flags=flags)
    try:
        service = connect(process.address, timeout=timeout, max_message_bytes=max_message_bytes, tls=False, token="")
    except BaseException:
        process.stop()
        raise
    service.process = process
    return service
