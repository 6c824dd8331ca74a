"""What all runs together have done since the server started, those included that are forgotten: a few additions for each step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class RunTotals:
    """Steps and samples are by who updates the parameters: an optimiser's rule, or the members."""

    steps: Counter[str] = field(default_factory=Counter)
    samples: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    """Attempts at a step after its first: members were lost."""
    vacated: int = 0
    """Seats that were given up, by their members or by the time."""

    def stepped(self, update: str, samples: int) -> None:
        """A step is on the disk."""
        self.steps[update] += 1
        self.samples[update] += samples
