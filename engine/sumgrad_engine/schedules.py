"""Learning rates that change with the step: a linear warm-up, and a decay after it. What they are can be sent, unlike a function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["CosineDecay", "ExponentialDecay", "LinearDecay", "Schedule", "StepDecay"]


def _require(name: str, value: float, least: float) -> None:
    if not value >= least or math.isinf(value):
        raise ValueError(f"{name} must be at least {least} and finite, not {value}")


def _power(factor: float, exponent: int) -> float:
    """factor^exponent, which is infinite where it is larger than any number: a rate that grows without bound is no error here."""
    try:
        return float(factor**exponent)
    except OverflowError:
        return math.inf


@dataclass(frozen=True)
class StepDecay:
    """rate * factor^floor(t / every)."""

    factor: float
    every: int

    def __post_init__(self) -> None:
        _require("factor", self.factor, 0.0)
        _require("every", self.every, 1)

    def __call__(self, rate: float, t: int) -> float:
        """The rate t steps after the warm-up."""
        return rate * _power(self.factor, t // self.every) if rate else 0.0


@dataclass(frozen=True)
class ExponentialDecay:
    """rate * factor^t."""

    factor: float

    def __post_init__(self) -> None:
        _require("factor", self.factor, 0.0)

    def __call__(self, rate: float, t: int) -> float:
        """The rate t steps after the warm-up."""
        return rate * _power(self.factor, t) if rate else 0.0


@dataclass(frozen=True)
class CosineDecay:
    """final + (rate - final) (1 + cos(pi min(t / steps, 1))) / 2: Loshchilov and Hutter, "SGDR" (2017), without restarts."""

    final: float
    steps: int

    def __post_init__(self) -> None:
        _require("final", self.final, 0.0)
        _require("steps", self.steps, 1)

    def __call__(self, rate: float, t: int) -> float:
        """The rate t steps after the warm-up."""
        return self.final + (rate - self.final) * (1.0 + math.cos(math.pi * min(t / self.steps, 1.0))) / 2.0


@dataclass(frozen=True)
class LinearDecay:
    """rate + (final - rate) min(t / steps, 1)."""

    final: float
    steps: int

    def __post_init__(self) -> None:
        _require("final", self.final, 0.0)
        _require("steps", self.steps, 1)

    def __call__(self, rate: float, t: int) -> float:
        """The rate t steps after the warm-up."""
        return rate + (self.final - rate) * min(t / self.steps, 1.0)


Decay: TypeAlias = StepDecay | ExponentialDecay | CosineDecay | LinearDecay


@dataclass(frozen=True)
class Schedule:
    """The learning rate of step s = 0, 1, ...

    Over the first `warmup_steps` it is rate (s + 1) / (warmup_steps + 1); from then on `decay` with t = s - warmup_steps, or `rate` itself.
    """

    rate: float
    warmup_steps: int = 0
    decay: Decay | None = None

    def __post_init__(self) -> None:
        _require("rate", self.rate, 0.0)
        _require("warmup_steps", self.warmup_steps, 0)

    def __call__(self, step: int) -> float:
        """The rate of a step, which counts from 0."""
        if step < self.warmup_steps:
            return self.rate * (step + 1) / (self.warmup_steps + 1)
        return self.rate if self.decay is None else self.decay(self.rate, step - self.warmup_steps)
