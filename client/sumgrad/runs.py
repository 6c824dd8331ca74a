"""What the client knows of training runs: how they stand, their ledger, and how optimisers are sent."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sumgrad_engine.optim import SGD, Adam, AdamW, Optimizer
from sumgrad_engine.schedules import CosineDecay, ExponentialDecay, LinearDecay, Schedule, StepDecay
from sumgrad_proto.v1 import service_pb2 as wire

from . import codec

__all__ = ["MemberInfo", "Progress", "RunInfo", "StepRecord"]

Params = dict[str, NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class MemberInfo:
    """One that has joined a run. `state` is "joined", "working", "done" (with the current step) or "left"; `silent` is in seconds."""

    number: int
    name: str
    state: str
    steps: int
    sample_count: int
    silent: float


@dataclass(frozen=True)
class StepRecord:
    """A line of a run's ledger: one committed step, counted from 0. `samples` says how many each member contributed, by its number.

    `value` and `metrics` are of the whole step, before its update.
    """

    step: int
    attempt: int
    value: float
    metrics: Mapping[str, NDArray[Any]]
    sample_count: int
    samples: Mapping[int, int]
    committed: datetime.datetime


@dataclass(frozen=True)
class RunInfo:
    """How a run stands. `state` is "waiting" (for members), "running", "finished" or "stopped"; `step` counts those that are committed.

    `graph_id` ("" if it has no objective) and `reduction`, "sum" or "mean", say what it trains.
    """

    id: str
    name: str
    state: str
    step: int
    max_steps: int | None
    members: tuple[MemberInfo, ...]
    sample_count: int
    last: StepRecord | None
    shapes: Shapes
    updates: bool
    graph_id: str
    reduction: str
    lease: float
    created: datetime.datetime

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("finished", "stopped")


@dataclass(frozen=True)
class Progress:
    """What is new of a run: the steps that were committed since the last one."""

    info: RunInfo
    steps: tuple[StepRecord, ...]


def read_run(message: wire.Run) -> RunInfo:
    """The run that a message describes."""
    specification = message.specification
    return RunInfo(
        id=message.id,
        name=message.name,
        state=_word(wire.RunState.Name(message.state), "RUN_STATE_"),
        step=message.step,
        max_steps=specification.max_steps or None,
        members=tuple(map(_read_member, message.members)),
        sample_count=message.sample_count,
        last=read_record(message.last) if message.HasField("last") else None,
        shapes={named.name: tuple(named.array.shape) for named in message.parameters},
        updates=specification.HasField("optimizer"),
        graph_id=specification.graph_id,
        reduction="mean" if specification.reduction == wire.REDUCTION_MEAN else "sum",
        lease=specification.lease_seconds,
        created=datetime.datetime.fromtimestamp(message.created, datetime.UTC),
    )


def _read_member(message: wire.RunMember) -> MemberInfo:
    state = _word(wire.MemberState.Name(message.state), "MEMBER_STATE_")
    return MemberInfo(message.number, message.name, state, message.steps, message.sample_count, message.silent_seconds)


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()


def read_record(message: wire.StepRecord) -> StepRecord:
    """The step that a message describes."""
    return StepRecord(
        step=message.step,
        attempt=message.attempt,
        value=message.value,
        metrics=codec.decode_arrays(message.metrics),
        sample_count=message.sample_count,
        samples=dict(zip(message.members, message.member_samples, strict=True)),
        committed=datetime.datetime.fromtimestamp(message.committed, datetime.UTC),
    )


def split(data: bytes, shapes: Shapes) -> Params:
    """The arrays that a flat vector holds, which may be written to."""
    vector = np.frombuffer(data, "<f8").copy()
    found, start = {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        found[name] = vector[start:stop].reshape(shape)
        start = stop
    return found


def flat(arrays: Mapping[str, Any], shapes: Shapes, what: str) -> bytes:
    """A flat vector of arrays. ValueError names what is missing or has another shape."""
    parts = []
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"{what} lacks {name!r}: the run trains {sorted(shapes)}")
        array = np.asarray(arrays[name], dtype="<f8")
        if array.shape != shape:
            raise ValueError(f"{what} has {name!r} of shape {array.shape}; in the run it has {shape}")
        parts.append(array.tobytes())
    return b"".join(parts)


def encode_optimizer(optimizer: Optimizer) -> wire.Optimizer:
    """An optimiser as it is sent, at its beginning. ValueError, TypeError for one that a server does not have."""
    message = wire.Optimizer(learning_rate=_encode_rate(optimizer.learning_rate))
    message.clip_norm, message.clip_value = optimizer.clip_norm or 0.0, optimizer.clip_value or 0.0
    if optimizer.steps:
        raise ValueError("this optimiser has taken steps already, and a run begins anew: pass a fresh one")
    if type(optimizer) is SGD:
        rule = wire.SGD(momentum=optimizer.momentum, nesterov=optimizer.nesterov, weight_decay=optimizer.weight_decay)
        message.sgd.CopyFrom(rule)
    elif type(optimizer) in (Adam, AdamW):
        adam = cast(Adam, optimizer)
        kind, place = (wire.Adam, message.adam) if type(optimizer) is Adam else (wire.AdamW, message.adamw)
        beta1, beta2 = adam.betas
        place.CopyFrom(kind(beta1=beta1, beta2=beta2, epsilon=adam.epsilon, weight_decay=adam.weight_decay))  # type: ignore[arg-type]
    else:
        raise ValueError(
            f"a server has no {type(optimizer).__name__}: use SGD, Adam or AdamW; or make the run with optimizer=None, and let its members update"
        )
    return message


def _encode_rate(rate: Any) -> wire.Schedule:
    if np.ndim(rate) == 0 and np.asarray(rate).dtype.kind in "fiu":  # a number of NumPy's too
        return wire.Schedule(rate=float(rate))
    if not callable(rate):
        raise TypeError(f"a learning rate is a number or an sg.optim.Schedule, not {rate!r}")
    if not isinstance(rate, Schedule):
        raise TypeError("a function can't be sent as a learning rate: use sg.optim.Schedule, or let members update (optimizer=None)")
    message = wire.Schedule(rate=rate.rate, warmup_steps=rate.warmup_steps)
    match rate.decay:
        case StepDecay(factor, every):
            message.step.CopyFrom(wire.StepDecay(factor=factor, every=every))
        case ExponentialDecay(factor):
            message.exponential.CopyFrom(wire.ExponentialDecay(factor=factor))
        case CosineDecay(final, steps):
            message.cosine.CopyFrom(wire.CosineDecay(final=final, steps=steps))
        case LinearDecay(final, steps):
            message.linear.CopyFrom(wire.LinearDecay(final=final, steps=steps))
    return message


def read_progress(messages: Sequence[wire.RunProgress]) -> Progress:
    """What some messages say together."""
    steps = tuple(read_record(record) for message in messages for record in message.steps)
    return Progress(read_run(messages[-1].run), steps)
