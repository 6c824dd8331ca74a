"""`sumgrad bench` and its workloads."""

from __future__ import annotations

import numpy as np
import pytest
from sumgrad.bench import WORKLOADS, best_seconds, network, precisions
from sumgrad.command import main


def test_every_workload_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a line for each workload and precision, with the evaluator that ran."""
    assert main(["bench", "--samples", "8", "--rounds", "1"]) == 0
    said = capsys.readouterr().out
    for work in WORKLOADS:
        for precision in precisions(work):
            (line,) = (line for line in said.splitlines() if f"  {work.name} {precision} " in line)
            assert line.split()[-1] in {"compiled", "reference"}


def test_workloads_are_chosen_by_letter(capsys: pytest.CaptureFixture[str]) -> None:
    """Letters choose workloads, and one that names none is refused."""
    assert main(["bench", "d", "--samples", "8", "--rounds", "1"]) == 0
    assert "logistic" in capsys.readouterr().out
    assert main(["bench", "z"]) == 1
    assert "there is no workload z" in capsys.readouterr().err


def test_data_are_drawn_once_for_all() -> None:
    """The same seed draws the same data, in the precision asked for; class numbers stay integers."""
    work = network("a", [3, 4, 4, 1])
    assert work.parameters == 41
    single, double = work.data(5, "f32"), work.data(5)
    assert {array.dtype for array in single.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(single["x"], double["x"].astype(np.float32))
    labels = next(work for work in WORKLOADS if work.key == "f").data(5, "f32")["y"]
    assert labels.dtype.kind == "i"


def test_what_is_too_slow_sits_out() -> None:
    """What is timed runs in turns, as long as its budget lasts."""
    order: list[str] = []
    runs = {"one": lambda: order.append("one"), "two": lambda: order.append("two")}
    best_seconds(runs, rounds=2, budget=0.0)
    before = order.copy()
    assert before == sorted(before)
    best = best_seconds(runs, rounds=2, budget=1e9)
    assert order[len(before) :].count("two") > before.count("two")
    assert min(best.values()) > 0.0
