"""The vocabulary of the protocol: what the logic asks of the network, and what carries it out.

All logic of the client is written once, as generators that know no network: they yield a `Call` or a `Pause`, and get back a reply or have an
error thrown in. `connection.Service` carries the steps out with blocking calls, `aio.AsyncService` with awaited ones, and tests by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from sumgrad_proto.v1 import service_pb2 as wire

from .errors import DeadlineExceededError

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Method(Generic[Request, Reply]):
    """An RPC: its path, the messages that it takes and gives, and whether it streams its replies, or is sent a stream of requests."""

    path: str
    request: type[Request]
    reply: type[Reply]
    streams: bool = False
    sends: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


_SERVICE = "/sumgrad.v1.GradientService/"
REGISTER_GRAPH = Method(_SERVICE + "RegisterGraph", wire.RegisterGraphRequest, wire.RegisterGraphResponse)
GET_GRAPH = Method(_SERVICE + "GetGraph", wire.GetGraphRequest, wire.GetGraphResponse)
GRADIENT = Method(_SERVICE + "Gradient", wire.GradientRequest, wire.GradientResponse)
GRADIENT_STREAM = Method(_SERVICE + "GradientStream", wire.GradientRequest, wire.GradientStreamResponse, streams=True, sends=True)
EVALUATE = Method(_SERVICE + "Evaluate", wire.EvaluateRequest, wire.EvaluateResponse, streams=True)
BACKWARD = Method(_SERVICE + "Backward", wire.BackwardRequest, wire.BackwardResponse)
UPLOAD_DATASET = Method(_SERVICE + "UploadDataset", wire.UploadDatasetRequest, wire.UploadDatasetResponse, sends=True)
DESCRIBE_UPLOAD = Method(_SERVICE + "DescribeUpload", wire.DescribeUploadRequest, wire.DescribeUploadResponse)
LIST_DATASETS = Method(_SERVICE + "ListDatasets", wire.ListDatasetsRequest, wire.ListDatasetsResponse)
DESCRIBE_DATASET = Method(_SERVICE + "DescribeDataset", wire.DescribeDatasetRequest, wire.DescribeDatasetResponse)
DELETE_DATASET = Method(_SERVICE + "DeleteDataset", wire.DeleteDatasetRequest, wire.DeleteDatasetResponse)
GET_STATUS = Method(_SERVICE + "GetStatus", wire.GetStatusRequest, wire.GetStatusResponse)
CREATE_RUN = Method(_SERVICE + "CreateRun", wire.CreateRunRequest, wire.CreateRunResponse)
JOIN_RUN = Method(_SERVICE + "JoinRun", wire.JoinRunRequest, wire.JoinRunResponse)
STEP = Method(_SERVICE + "Step", wire.StepRequest, wire.StepResponse, streams=True, sends=True)
GET_RUN = Method(_SERVICE + "GetRun", wire.GetRunRequest, wire.GetRunResponse)
LIST_RUNS = Method(_SERVICE + "ListRuns", wire.ListRunsRequest, wire.ListRunsResponse)
WATCH_RUN = Method(_SERVICE + "WatchRun", wire.WatchRunRequest, wire.RunProgress, streams=True)
STOP_RUN = Method(_SERVICE + "StopRun", wire.StopRunRequest, wire.StopRunResponse)
HEALTH = Method("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse)

METHODS: tuple[Method[Any, Any], ...] = (
    REGISTER_GRAPH,
    GET_GRAPH,
    GRADIENT,
    GRADIENT_STREAM,
    EVALUATE,
    BACKWARD,
    UPLOAD_DATASET,
    DESCRIBE_UPLOAD,
    LIST_DATASETS,
    DESCRIBE_DATASET,
    DELETE_DATASET,
    GET_STATUS,
    CREATE_RUN,
    JOIN_RUN,
    STEP,
    GET_RUN,
    LIST_RUNS,
    WATCH_RUN,
    STOP_RUN,
    HEALTH,
)


@dataclass(frozen=True)
class Call:
    """Send `request`, and come back with the reply: a message, or the list of all of them if the method streams.

    A method that is sent a stream takes serialised requests, one after another, from another thread.
    """

    method: Method[Any, Any]
    request: Message | Iterator[bytes]
    timeout: float | None  # seconds; None waits for ever


@dataclass(frozen=True)
class Pause:
    """Come back after this many seconds."""

    seconds: float


Steps: TypeAlias = Generator[Call | Pause, Any, Answer]


def unary(method: Method[Request, Reply], request: Request, timeout: float | None) -> Steps[Reply]:
    """The reply to one call."""
    return cast(Reply, (yield Call(method, request, timeout)))


def stream(method: Method[Request, Reply], request: Request, timeout: float | None) -> Steps[list[Reply]]:
    """All replies to one call of a method that streams them."""
    return cast("list[Reply]", (yield Call(method, request, timeout)))


LONGEST = 1e8
"""Seconds, about three years: gRPC's own arithmetic overflows beyond 1e9 and takes that for the past."""


class Deadline:
    """The end of a call with all its attempts, on a clock that the owner chooses."""

    def __init__(self, clock: Callable[[], float], seconds: float | None) -> None:
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise ValueError(f"timeout must be a positive number of seconds, or None to wait for ever, not {seconds!r}")
        self._clock = clock
        self._seconds = seconds
        self._end = None if seconds is None else clock() + seconds

    def remaining(self) -> float | None:
        """Seconds that are left, None if there is no deadline. Raises DeadlineExceededError if none are left."""
        if self._end is None:
            return None
        left = self._end - self._clock()
        if left <= 0.0:
            raise self.exceeded()
        return min(left, LONGEST)

    def exceeded(self, **details: Any) -> DeadlineExceededError:
        """The error of a call that took too long."""
        return DeadlineExceededError(f"the call and its retries took longer than timeout={self._seconds} s: give it more time", **details)

    def allows(self, pause: float) -> bool:
        """Whether anything is left after a pause of so many seconds."""
        return self._end is None or self._clock() + pause < self._end
