"""The tables of the workloads: times and ratios, how near the machine's peak, and the targets."""

from __future__ import annotations

from collections.abc import Sequence

from .duel import Outcome
from .machine import bandwidth, peak
from .ours import OURS
from .report import Report, figure
from .targets import verdicts


def times(report: Report, outcome: Outcome) -> None:
    """Nanoseconds a sample for everybody, and everybody's time over ours."""
    work = outcome.work
    report.heading(f"({work.key}) {work.name}, {outcome.precision}: {work.parameters:,} parameters, {work.flops:,.0f} operations a sample")
    head = ["nanoseconds a sample"]
    for count in outcome.counts:
        head += [f"{count:,}", "ratio"]
    report.table(head, [[name, *_cells(outcome, name)] for name in outcome.nanoseconds])
    report.notes(outcome.notes)


def _cells(outcome: Outcome, name: str) -> list[str]:
    cells = []
    for count in outcome.counts:
        ratio = outcome.ratio(name, count)
        cells += ["", ""] if ratio is None else [figure(outcome.nanoseconds[name][count]), f"{ratio:,.2f}"]
    return cells


def efficiency(report: Report, outcomes: Sequence[Outcome]) -> None:
    """Our best time a sample against what one core can compute, and against what it can read."""
    report.heading("Against the machine's limits")
    rows = []
    for outcome in outcomes:
        best, work = min(outcome.nanoseconds[OURS].values()), outcome.work
        computing, reading = _least(work.flops, peak(outcome.precision)), _least(_bytes(outcome), bandwidth())
        share = "" if computing is None else f"{100 * computing / best:.0f}%"
        rows.append([_title(outcome), figure(best), figure(work.flops / best), _cell(computing), share, _cell(reading)])
    report.table(["", "ns a sample", "GFLOP/s", "ns at peak", "of the peak", "ns to read it from memory"], rows)
    report.notes(_limits())


def _least(amount: float, rate: float | None) -> float | None:
    """Nanoseconds for an amount at a rate a second."""
    return None if rate is None else amount / rate * 1e9


def _bytes(outcome: Outcome) -> float:
    """Bytes of data of one sample."""
    return sum(array.nbytes for array in outcome.work.data(1, outcome.precision).values())


def _limits() -> list[str]:
    """What was measured of the machine."""
    rates = [(precision, peak(precision)) for precision in ("f64", "f32")]
    peaks = [f"{precision} {rate / 1e9:,.1f} GFLOP/s" for precision, rate in rates if rate is not None]
    speed = bandwidth()
    if not peaks or speed is None:
        return ["without a C compiler the machine's limits are not known"]
    return [
        f"one core at most: {', '.join(peaks)} (fused multiply-adds on registers); {speed / 1e9:.1f} GB/s from memory (one pass over 256 MiB)"
    ]


def _cell(value: float | None) -> str:
    return "" if value is None else figure(value)


def _title(outcome: Outcome) -> str:
    return f"({outcome.work.key}) {outcome.work.name} {outcome.precision}"


def targets(report: Report, outcomes: Sequence[Outcome]) -> None:
    """Each target at each number of samples."""
    report.heading("Targets")
    head = ["", "samples", "against", "the best of them", "ratio", "target", "verdict"]
    report.table(head, [row for outcome in outcomes for row in verdicts(outcome)])
