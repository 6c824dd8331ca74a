"""A small network that the members of a run train, its data, and what must come of it.

That is worked out from the run's ledger: by sumgrad in this process, and by NumPy alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sumgrad as sg
from sumgrad.batches import rows_of
from sumgrad.runs import StepRecord
from sumgrad_engine.blocks import block_count
from sumgrad_engine.program import GradientProgram

from . import support

Arrays = dict[str, Any]
SAMPLES, FEATURES, HIDDEN = 500, 6, 8
BATCH, SEED = 120, 11
"""Batches that are not equal: the last of an epoch has 20 samples."""
RATE, MOMENTUM, DECAY = 0.05, 0.9, 1e-3


def network() -> sg.Objective:
    """One hidden layer that tells two classes apart: the mean loss, weight decay, and how many samples are on the right side."""
    x, y = sg.input("x", shape=(FEATURES,)), sg.input("y")
    net = sg.nn.MLP(FEATURES, [HIDDEN, 1], activation="tanh", seed=3)
    margin = y * net(x)[0]
    decay = DECAY * sum((sg.sum(sg.square(layer.weight)) for layer in net.layers), sg.Value(0.0))
    return sg.Objective(sg.softplus(-margin), penalty=decay, metrics={"right": margin > 0.0}, reduction="mean")


def data() -> Arrays:
    """Its samples, the same everywhere."""
    dice = np.random.default_rng(7)
    x = dice.normal(size=(SAMPLES, FEATURES))
    return {"x": x, "y": np.where(np.sin(x[:, 0]) + x[:, 1] * x[:, 2] > 0.0, 1.0, -1.0)}


def optimizer() -> sg.optim.SGD:
    """The run's, at its beginning."""
    return sg.optim.SGD(RATE, momentum=MOMENTUM)


def create(service: sg.Service, name: str, steps: int, **options: Any) -> Any:
    """The run of this name, made if it is not there."""
    return service.run(name, network(), optimizer(), **{"members": 3, "max_steps": steps, **options})


def join(run: Any, name: str) -> Any:
    """A member of it."""
    return run.join(name, data=data(), batch_size=BATCH, seed=SEED)


def batch(record: StepRecord) -> list[Any]:
    """The rows of each member of a committed step, in the order of their numbers; in all they are its batch, each of its samples once."""
    size = len(record.samples)

    def rows(rank: int, size: int) -> Any:
        return rows_of(record.step, rank, size, samples=SAMPLES, batch_size=BATCH, seed=SEED)

    parts = [rows(rank, size) for rank in range(size)]
    assert [len(part) for part in parts] == [record.samples[number] for number in sorted(record.samples)], record
    assert np.array_equal(np.concatenate(parts), rows(0, 1)), record
    assert record.sample_count == sum(map(len, parts))
    return parts


def check_epochs(ledger: Iterable[StepRecord]) -> None:
    """Steps follow each other, and those of an epoch take each sample once."""
    records = list(ledger)
    assert [record.step for record in records] == list(range(len(records)))
    steps = -(-SAMPLES // BATCH)
    for first in range(0, len(records) - steps + 1, steps):
        taken = np.concatenate([np.concatenate(batch(record)) for record in records[first : first + steps]])
        assert np.array_equal(np.sort(taken), np.arange(SAMPLES)), first


@dataclass
class Replay:
    """What the steps of a ledger come to."""

    params: Arrays
    values: list[float]


def replayed(ledger: Iterable[StepRecord]) -> Replay:
    """By sumgrad in this process: each member's sum, added in the order of their numbers. The bits are those of the run."""
    objective, samples, rule = network(), data(), optimizer()
    program = GradientProgram(objective.graph)
    replay = Replay(objective.params, [])
    for record in ledger:
        sums = [program.partial(replay.params, taken(samples, rows), 0, block_count(len(rows)), len(rows)) for rows in batch(record)]
        total = sums[0]
        for more in sums[1:]:
            total = total + more
        result = program.finish(total, program.penalty(replay.params), record.sample_count, True)
        replay.values.append(result.value)
        replay.params = {**rule.step(replay.params, result.grads)}
    return replay


def taken(samples: Mapping[str, Any], rows: Any) -> Arrays:
    """These rows of all arrays."""
    return {name: array[rows] for name, array in samples.items()}


def recomputed(ledger: Iterable[StepRecord]) -> Replay:
    """By NumPy alone: the network, its derivatives and the optimiser written out. Nothing of sumgrad but the starting values and the rows."""
    samples = data()
    params: Arrays = {name: np.array(value) for name, value in network().params.items()}
    velocity = {name: np.zeros_like(value) for name, value in params.items()}
    replay = Replay(params, [])
    for record in ledger:
        rows = np.concatenate(batch(record))
        value, grads = _slope(replay.params, samples["x"][rows], samples["y"][rows])
        replay.values.append(value)
        velocity = {name: MOMENTUM * velocity[name] + grads[name] for name in params}
        replay.params = {name: replay.params[name] - RATE * velocity[name] for name in params}
    return replay


def _slope(params: Arrays, x: Any, y: Any) -> tuple[float, Arrays]:
    """Value and gradient of `network` by the chain rule."""
    first, last = params["mlp.0.weight"], params["mlp.1.weight"]
    hidden = np.tanh(x @ first + params["mlp.0.bias"])
    margin = y * (hidden @ last + params["mlp.1.bias"])[:, 0]
    value = np.logaddexp(0.0, -margin).mean() + DECAY * ((first**2).sum() + (last**2).sum())
    out = (-y / (1.0 + np.exp(margin)) / len(y))[:, None]
    inner = (out @ last.T) * (1.0 - hidden**2)
    grads = {
        "mlp.0.weight": x.T @ inner + 2.0 * DECAY * first,
        "mlp.0.bias": inner.sum(axis=0),
        "mlp.1.weight": hidden.T @ out + 2.0 * DECAY * last,
        "mlp.1.bias": out.sum(axis=0),
    }
    return float(value), grads


def bits(params: Mapping[str, Any]) -> dict[str, bytes]:
    """Arrays by name as bytes, to be compared."""
    return {name: np.asarray(array, np.float64).tobytes() for name, array in params.items()}


def check(run: Any, steps: int) -> tuple[StepRecord, ...]:
    """A run that has ended is what its ledger says: every sample counted once, parameters and values to the bit. Gives the ledger."""
    ledger: tuple[StepRecord, ...] = run.ledger()
    assert len(ledger) == steps
    check_epochs(ledger)
    here, alone, params = replayed(ledger), recomputed(ledger), run.params()
    assert bits(params) == bits(here.params)
    assert [record.value for record in ledger] == here.values
    for name, array in params.items():
        assert np.allclose(array, alone.params[name], rtol=1e-12, atol=1e-12 * np.abs(array).max()), name
    assert np.allclose(here.values, alone.values, rtol=1e-12)
    return ledger


def undisturbed(steps: int, members: int = 3) -> Replay:
    """What comes of so many steps that all members have made, whatever else has happened."""
    ledger = []
    for step in range(steps):
        parts = [rows_of(step, rank, members, samples=SAMPLES, batch_size=BATCH, seed=SEED) for rank in range(members)]
        counts = {number: len(part) for number, part in enumerate(parts)}
        ledger.append(StepRecord(step, 0, 0.0, {}, sum(counts.values()), counts, datetime.datetime.now(datetime.UTC)))
    return replayed(ledger)


def account(ledger: Iterable[StepRecord]) -> list[tuple[int, float, dict[int, int]]]:
    """What of a ledger is the same if nothing but time was lost: attempts and times are not."""
    return [(record.step, record.value, dict(record.samples)) for record in ledger]


def wait_for(true: Callable[[], bool], what: str, run: Any) -> None:
    """Until something holds of a run that is not over yet."""
    support.wait_until(true, what)
    assert not run.info().over, f"the run was over before this was seen: {what}"


def advance(run: Any, steps: int) -> None:
    """Until so many more steps are committed, while there are more to come."""
    target = run.info().step + steps
    wait_for(lambda: run.info().step >= target, f"step {target} of run {run.name}", run)
