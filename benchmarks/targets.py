"""What was set out to be reached, and whether it is."""

from __future__ import annotations

from dataclasses import dataclass

from .duel import Outcome
from .ours import OURS

LIMITS = ("loops in C", "scikit-learn")
"""No peers: they are made for one model."""


@dataclass(frozen=True)
class Target:
    """Ours is to be `factor` times as fast as the best of some libraries; all that take part, if none is named."""

    factor: float
    libraries: tuple[str, ...] = ()

    @property
    def rivals(self) -> str:
        """The libraries in words."""
        return " and ".join(self.libraries) or "everybody"

    def best(self, outcome: Outcome, count: int) -> tuple[str, float] | None:
        """The fastest contender that the target speaks of, and its time over ours."""
        ratios = {name: ratio for name in outcome.nanoseconds if self._concerns(name) and (ratio := outcome.ratio(name, count)) is not None}
        return min(ratios.items(), key=lambda item: item[1]) if ratios else None

    def _concerns(self, name: str) -> bool:
        family = name.partition(",")[0]
        return family in self.libraries if self.libraries else not name.startswith((OURS, *LIMITS))


TARGETS: dict[str, Target] = {
    "a": Target(8.0, ("JAX",)),
    "b": Target(4.0, ("JAX",)),
    "c": Target(3.0),
    "d": Target(3.0),
    "e": Target(3.0),
    "f": Target(1.0, ("JAX", "PyTorch")),
    "g": Target(3.0),
}
"""By the letter of the workload."""

EVERYWHERE = (Target(100.0, ("CasADi",)), Target(10_000.0, ("micrograd",)))
"""Whatever the workload."""


def verdicts(outcome: Outcome) -> list[list[str]]:
    """A row for each target and number of samples: workload, samples, rivals, the best of them, ratio, target, verdict."""
    rows = []
    for target in (TARGETS[outcome.work.key], *EVERYWHERE):
        for count in outcome.counts:
            found = target.best(outcome, count)
            if found is not None:
                name, ratio = found
                verdict = "met" if ratio >= target.factor else "not met"
                title = f"({outcome.work.key}) {outcome.work.name} {outcome.precision}"
                rows.append([title, f"{count:,}", target.rivals, name, f"{ratio:,.2f}", f"{target.factor:,.0f}", verdict])
    return rows
