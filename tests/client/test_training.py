"""The training loop, in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sumgrad as sg

DATA = {"x": np.arange(10.0), "y": 3.0 * np.arange(10.0) + 1.0}


def line(reduction: Any = "mean") -> sg.Objective:
    """The line y = w x + b by least squares, with the absolute error as a metric."""
    x, y = sg.input("x"), sg.input("y")
    error = sg.param("w", 0.0) * x + sg.param("b", 0.0) - y
    return sg.Objective(error * error, metrics={"absolute": sg.abs(error)}, reduction=reduction)


def test_fit_finds_the_line() -> None:
    """Descent on all samples ends at w = 3, b = 1, and the history goes down to it."""
    found = sg.fit(None, line(), DATA, sg.optim.SGD(0.03), epochs=600, progress=False)
    assert found.params["w"] == pytest.approx(3.0, abs=1e-3)
    assert found.params["b"] == pytest.approx(1.0, abs=1e-3)
    assert found.value == found.history[-1].value < found.history[0].value
    assert [epoch.number for epoch in found.history] == list(range(1, 601))


def test_first_epoch_is_one_step_of_the_optimiser() -> None:
    """An epoch without batches is one value_and_grad and one step."""
    objective = line("sum")
    start = {"w": np.array(2.0), "b": np.array(0.5)}
    result = objective.value_and_grad(start, DATA)
    found = sg.fit(None, objective, DATA, sg.optim.SGD(0.001), params=start, progress=False)
    (epoch,) = found.history
    assert epoch.value == result.value
    assert epoch.metrics["absolute"] == result.metrics["absolute"]
    assert found.params["w"] == 2.0 - 0.001 * result.grads["w"]


def test_batches_cover_all_samples_once() -> None:
    """With a rate of 0 the batches' sums are the sum over all samples, whatever their order."""
    whole = line("sum").value_and_grad(line().params, DATA)
    found = sg.fit(None, line("sum"), DATA, sg.optim.SGD(0.0), batch_size=3, progress=False)
    assert found.value == pytest.approx(whole.value, rel=1e-14)
    assert found.history[0].metrics["absolute"] == pytest.approx(whole.metrics["absolute"], rel=1e-14)


def test_means_are_weighted_by_batch_size() -> None:
    """The last, smaller batch counts for its size."""
    whole = line().value_and_grad(line().params, DATA)
    found = sg.fit(None, line(), DATA, sg.optim.SGD(0.0), batch_size=4, progress=False)
    assert found.value == pytest.approx(whole.value, rel=1e-14)


def test_the_seed_decides_the_order() -> None:
    """Two runs with a seed have the same bits; another seed goes another way."""

    def run(seed: int) -> bytes:
        found = sg.fit(None, line(), DATA, sg.optim.Adam(0.1), batch_size=3, epochs=3, seed=seed, progress=False)
        return b"".join(np.asarray(value).tobytes() for value in found.params.values())

    assert run(1) == run(1) != run(2)


def test_callback_ends_the_fit() -> None:
    """A true result of the callback is the last epoch."""
    found = sg.fit(None, line(), DATA, sg.optim.SGD(0.01), epochs=50, callback=lambda epoch: epoch.number == 4, progress=False)
    assert len(found.history) == 4


def test_progress_bar_shows_value_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """The bar is on stderr and says how far the fit is."""
    sg.fit(None, line(), DATA, sg.optim.SGD(0.01), epochs=2)
    said = capsys.readouterr().err
    assert "2/2" in said
    assert "value=" in said
    assert "absolute=" in said


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"x": np.arange(3.0), "y": np.arange(4.0)}, "different numbers"),
        ({"x": np.array(1.0), "y": np.array(2.0)}, r"inputs\.x needs a leading sample axis"),
        ({"x": np.zeros(0), "y": np.zeros(0)}, "at least one sample"),
    ],
    ids=["lengths", "scalar", "empty"],
)
def test_data_must_be_samples(data: Any, match: str) -> None:
    """Arrays without samples, or with different numbers of them, are named."""
    with pytest.raises(sg.InputError, match=match):
        sg.fit(None, line(), data, sg.optim.SGD(0.1), batch_size=2, progress=False)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}])
def test_counts_start_at_one(options: Any) -> None:
    """No epochs and empty batches are refused."""
    with pytest.raises(ValueError, match="count from 1"):
        sg.fit(None, line(), DATA, sg.optim.SGD(0.1), progress=False, **options)
