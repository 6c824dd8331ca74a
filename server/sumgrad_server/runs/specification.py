"""What a run is to be: the wire's specification, checked, as rules and an optimiser. The defaults of the wire are filled in here."""

from __future__ import annotations

import math
from collections.abc import Callable

from sumgrad_engine.errors import InputError
from sumgrad_engine.optim import (
    SGD,
    Adam,
    AdamW,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    Optimizer,
    Schedule,
    StepDecay,
)
from sumgrad_engine.schedules import Decay
from sumgrad_proto.v1 import service_pb2 as wire

from ..settings import Settings
from .machine import Rules

LEASE_SECONDS, STEP_TIMEOUT_SECONDS = 60.0, 600.0
FIELD = "specification"


def checked(specification: wire.RunSpecification, settings: Settings) -> wire.RunSpecification:
    """A specification that can be followed, with its defaults filled in. Raises InputError, LimitError."""
    found = wire.RunSpecification()
    found.CopyFrom(specification)
    found.DiscardUnknownFields()  # it is kept, and sent back to whoever asks
    found.members = found.members or 1
    found.min_members = found.min_members or 1
    found.lease_seconds = found.lease_seconds or LEASE_SECONDS
    found.step_timeout_seconds = found.step_timeout_seconds or STEP_TIMEOUT_SECONDS
    if found.min_members > found.members:
        said = f"a run that starts with {found.members} members can't need {found.min_members} to go on: lower min_members"
        raise InputError(said, field=f"{FIELD}.min_members")
    if found.members > settings.max_run_members:
        said = f"the run wants {found.members} members; max_run_members is {settings.max_run_members}"
        raise InputError(said, field=f"{FIELD}.members")
    for name in ("lease_seconds", "step_timeout_seconds"):
        if not 0.0 < getattr(found, name) < math.inf:
            raise InputError(f"{name} is {getattr(found, name)}; it is a time above 0", field=f"{FIELD}.{name}")
    optimizer_of(found)
    return found


def rules_of(specification: wire.RunSpecification) -> Rules:
    """What the members agreed on."""
    return Rules(
        specification.members,
        specification.min_members,
        specification.lease_seconds,
        specification.step_timeout_seconds,
        specification.max_steps or None,
    )


def optimizer_of(specification: wire.RunSpecification) -> Optimizer | None:
    """The optimiser, at its beginning; None if members update the parameters themselves. Raises InputError."""
    if not specification.HasField("optimizer"):
        return None
    wanted = specification.optimizer
    rule = wanted.WhichOneof("rule")
    if rule is None:
        raise InputError("the optimiser has no rule: sgd, adam or adamw", field=f"{FIELD}.optimizer.rule")
    try:
        return _RULES[rule](wanted, _schedule(wanted.learning_rate))
    except ValueError as error:
        raise InputError(f"the optimiser can't be used: {error}", field=f"{FIELD}.optimizer") from error


def _sgd(wanted: wire.Optimizer, rate: Schedule) -> Optimizer:
    rule, clip_norm, clip_value = wanted.sgd, *_clips(wanted)
    return SGD(
        rate,
        momentum=rule.momentum,
        nesterov=rule.nesterov,
        weight_decay=rule.weight_decay,
        clip_norm=clip_norm,
        clip_value=clip_value,
    )


def _adam(wanted: wire.Optimizer, rate: Schedule) -> Optimizer:
    rule, clip_norm, clip_value = wanted.adam, *_clips(wanted)
    return Adam(
        rate,
        betas=(rule.beta1, rule.beta2),
        epsilon=rule.epsilon,
        weight_decay=rule.weight_decay,
        clip_norm=clip_norm,
        clip_value=clip_value,
    )


def _adamw(wanted: wire.Optimizer, rate: Schedule) -> Optimizer:
    rule, clip_norm, clip_value = wanted.adamw, *_clips(wanted)
    return AdamW(
        rate,
        betas=(rule.beta1, rule.beta2),
        epsilon=rule.epsilon,
        weight_decay=rule.weight_decay,
        clip_norm=clip_norm,
        clip_value=clip_value,
    )


_RULES: dict[str, Callable[[wire.Optimizer, Schedule], Optimizer]] = {"sgd": _sgd, "adam": _adam, "adamw": _adamw}


def _clips(wanted: wire.Optimizer) -> tuple[float | None, float | None]:
    return wanted.clip_norm or None, wanted.clip_value or None


def _schedule(wanted: wire.Schedule) -> Schedule:
    kind = wanted.WhichOneof("decay")
    decay: Decay | None = None
    if kind == "step":
        decay = StepDecay(wanted.step.factor, wanted.step.every)
    elif kind == "exponential":
        decay = ExponentialDecay(wanted.exponential.factor)
    elif kind == "cosine":
        decay = CosineDecay(wanted.cosine.final, wanted.cosine.steps)
    elif kind == "linear":
        decay = LinearDecay(wanted.linear.final, wanted.linear.steps)
    return Schedule(wanted.rate, wanted.warmup_steps, decay)
