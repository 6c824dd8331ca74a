"""How something is evaluated: by which evaluator, in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from .errors import InputError

Evaluator: TypeAlias = Literal["auto", "compiled", "reference"]
"""Compiled code, the reference evaluator (NumPy), or the first of them that is at hand."""
Precision: TypeAlias = Literal["f64", "f32"]
"""Floats of 64 bits, or of 32 bits with sums over samples in 64."""


@dataclass(frozen=True)
class Options:
    """What the caller wishes. Raises InputError for names that there are not, and for f32 from the reference evaluator, which has f64 only."""

    evaluator: Evaluator = "auto"
    precision: Precision = "f64"
    debug: bool = False
    """Find the first NaN or infinity: the reference evaluator does, whatever else is said."""

    def __post_init__(self) -> None:
        _check("evaluator", self.evaluator, get_args(Evaluator))
        _check("precision", self.precision, get_args(Precision))
        if self.precision == "f32" and self.evaluator == "reference":
            raise InputError(
                'the reference evaluator computes in f64 only: ask for evaluator="compiled" or precision="f64"', field="precision"
            )


def _check(field: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise InputError(f"{field} must be one of {', '.join(names)}, not {value!r}", field=field)


DEFAULT = Options()
