"""Training runs for the page: which of them, with which of their members, and the curve of their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..runs.book import Line
from ..runs.census import MemberCensus, census_of
from ..runs.run import Run
from .charts import curve

MOST_RUNS = 12
MOST_MEMBERS = 16
"""Of a run; what is beyond is counted."""
MOST_POINTS = 240
"""Of a curve."""
_FIRST = {"running": 0, "waiting": 1}


def chosen(runs: Sequence[Run]) -> list[Run]:
    """Those that the page shows: what runs before what waits and what is over, and the newest first."""
    return sorted(runs, key=lambda run: (_FIRST.get(run.book.state, 2), -run.book.made.created))[:MOST_RUNS]


def run_row(run: Run, now: float) -> dict[str, Any]:
    """A run, ready for its template, at a time of its clock."""
    seen = census_of(run, now)
    members = sorted(seen.members, key=_seated_first)
    return {
        "seen": seen,
        "over": run.machine.over,
        "members": members[:MOST_MEMBERS],
        "more_members": max(0, len(members) - MOST_MEMBERS),
        "seats": sum(member.doing != "left" for member in members),
        "first_step": seen.lines[0].step if seen.lines else 0,
        "last_step": seen.lines[-1].step if seen.lines else 0,
        "value": float(seen.lines[-1].sums[0]) if seen.lines else None,
        "curve": curve([float(line.sums[0]) for line in points(seen.lines)]),
    }


def _seated_first(member: MemberCensus) -> tuple[bool, int]:
    return member.doing == "left", member.number


def points(lines: Sequence[Line]) -> Sequence[Line]:
    """All of them or, of many, MOST_POINTS at equal distances, the first and the last among them."""
    if len(lines) <= MOST_POINTS:
        return lines
    return [lines[round(position * (len(lines) - 1) / (MOST_POINTS - 1))] for position in range(MOST_POINTS)]
