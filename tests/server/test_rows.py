"""Sums over rows of resident datasets, by an executor with real workers: ranges, indices with repeats, all types of columns."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import numpy as np
import pytest
import sumgrad_engine as sg
from sumgrad_engine.errors import InputError, NumericalError
from sumgrad_engine.options import Options
from sumgrad_engine.trace import trace
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.codec import decode_rows
from sumgrad_server.executor import ProcessExecutor
from sumgrad_server.graphs import StoredGraph, graph_id
from sumgrad_server.jobs import SharedGraph
from sumgrad_server.planning import Asker, EvaluateCall, GradientCall
from sumgrad_server.pool import Pool
from sumgrad_server.resident import ColumnFile, ResidentColumn, ResidentDataset, Rows
from sumgrad_server.settings import Settings

SAMPLES = 3000
Answer = TypeVar("Answer")


def column(array: Any) -> ResidentColumn:
    """An array in a file of its own."""
    with tempfile.TemporaryFile() as file:
        file.write(array.tobytes())
        file.flush()
        return ResidentColumn(array.dtype, array.shape[1:], ColumnFile(os.dup(file.fileno()), array.nbytes))


def dataset(arrays: dict[str, Any]) -> ResidentDataset:
    """Arrays as a resident dataset."""
    return ResidentDataset("0" * 64, len(next(iter(arrays.values()))), {name: column(array) for name, array in arrays.items()})


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    """Columns of every type, one that no graph asks for, and one with a NaN."""
    dice = np.random.default_rng(0)
    return {
        "x": dice.normal(size=(SAMPLES, 2)),
        "y": dice.normal(size=SAMPLES).astype(np.float32),
        "k": dice.integers(0, 3, SAMPLES).astype(np.int32),
        "on": dice.integers(0, 2, SAMPLES).astype(bool),
        "bad": np.where(np.arange(SAMPLES) == 1234, -1.0, 1.0),
        "unused": dice.normal(size=(SAMPLES, 3)),
    }


@pytest.fixture(scope="module")
def objective() -> sg.Objective:
    """Uses columns of four types, with a metric and a penalty."""
    x, y, k, on = sg.input("x", shape=(2,)), sg.input("y"), sg.input("k", dtype=int), sg.input("on", dtype=bool)
    w = sg.param("w", np.array([[0.5, -0.25], [0.125, 1.0], [0.3, 0.7]]))
    residual = sg.tanh(sg.take(w, k, 0) @ x) - y
    return sg.Objective(sg.where(on, residual**2, sg.abs(residual)), penalty=sg.sum(w * w), metrics={"on": on})


def computed(work: Callable[[ProcessExecutor], Awaitable[Answer]], *, workers: int = 2, **settings: Any) -> Answer:
    """What some work with an executor gives."""

    async def run() -> Answer:
        pool = Pool(Settings(workers=workers, cache_dir="", **settings))
        pool.start()
        try:
            await pool.ready.wait()
            return await work(ProcessExecutor(pool, Settings(workers=workers)))
        finally:
            pool.abort()
            await pool.stopped.wait()

    return asyncio.run(run())


async def stored(executor: ProcessExecutor, graph: Any, support: Any) -> StoredGraph:
    """A graph that the executor has checked."""
    data = support.graph_bytes(graph)
    shared = SharedGraph.of(graph_id(data), data, b"")
    return StoredGraph(shared, await executor.describe(shared, Asker()))


CHOICES = {
    "all": slice(None),
    "some": slice(700, 2900),
    "one": slice(5, 6),
    "repeats": np.array([7, 7, 2999, 0, 7]),
    "shuffled": np.random.default_rng(1).permutation(SAMPLES),
    "more than there are": np.random.default_rng(2).integers(0, SAMPLES, 2 * SAMPLES),
}


def rows_of(data: ResidentDataset, choice: Any) -> Rows:
    """The rows as the executor takes them."""
    if isinstance(choice, slice):
        first, stop, _ = choice.indices(SAMPLES)
        return Rows(data, stop - first, first)
    return Rows(data, len(choice), indices=choice)


@pytest.mark.parametrize("evaluator", ["compiled", "reference"])
def test_rows_give_the_bits_of_the_same_arrays_sent_along(support: Any, arrays: Any, objective: sg.Objective, evaluator: Any) -> None:
    """Each choice of rows gives what the sum over these rows gives in process: value, gradients, metrics and count."""
    data, options = dataset(arrays), Options(evaluator)

    async def work(executor: ProcessExecutor) -> dict[str, Any]:
        graph = await stored(executor, objective.graph, support)
        calls = {name: GradientCall(objective.params, {}, rows_of(data, choice), options=options) for name, choice in CHOICES.items()}
        return {name: (await executor.gradient(graph, call)).result for name, call in calls.items()}

    found = computed(work)
    for name, choice in CHOICES.items():
        chosen = {leaf: arrays[leaf][choice] for leaf in ("x", "y", "k", "on")}
        support.assert_same_bits(found[name], objective.value_and_grad(objective.params, chosen, evaluator=evaluator))


@pytest.mark.parametrize("precision", ["f64", "f32"])
def test_outputs_of_rows(support: Any, arrays: Any, precision: Any) -> None:
    """Outputs for each sample come in the order of the rows that were asked for."""
    data, scores = dataset(arrays), {"score": sg.exp(sg.input("x", shape=(2,))) * sg.input("y")}
    indices = np.array([2, 2999, 2, 0])

    async def work(executor: ProcessExecutor) -> Any:
        graph = await stored(executor, trace(scores), support)
        call = EvaluateCall({}, {}, Rows(data, 4, indices=indices), Options(precision=precision))
        async with executor.evaluate(graph, call) as (columns, _):
            return columns["score"].copy()

    expected = np.exp(arrays["x"]) * arrays["y"][:, None]
    np.testing.assert_allclose(computed(work), expected[indices], rtol=1e-14 if precision == "f64" else 1e-6)


@pytest.mark.parametrize("indices", [False, True])
def test_debugging_names_the_sample_of_the_request(support: Any, arrays: Any, indices: bool) -> None:
    """The first NaN is named by its index among the rows that were asked for, whichever way they were."""
    data, objective = dataset(arrays), sg.Objective(sg.log(sg.input("bad")) * sg.param("w", 1.0))
    rows = Rows(data, 2000, indices=np.arange(1000, 3000)) if indices else Rows(data, 2000, 1000)

    async def work(executor: ProcessExecutor) -> None:
        graph = await stored(executor, objective.graph, support)
        await executor.gradient(graph, GradientCall(objective.params, {}, rows, options=Options(debug=True)))

    with pytest.raises(NumericalError) as found:
        computed(work)
    assert found.value.sample == 234


def test_what_a_dataset_lacks_is_named(support: Any, arrays: Any) -> None:
    """A missing column, and one of another shape, are refused by name."""
    data = dataset(arrays)

    async def work(executor: ProcessExecutor) -> None:
        for name, leaf in {"missing": sg.input("missing"), "x": sg.input("x", shape=(3,)), "k": sg.input("y", dtype=int)}.items():
            objective = sg.Objective(sg.sum(sg.input("y") * 0.0 + leaf * sg.param("w", 1.0)) if name != "k" else leaf * sg.param("w", 1.0))
            graph = await stored(executor, objective.graph, support)
            with pytest.raises(InputError, match=name if name != "k" else "y"):
                await executor.gradient(graph, GradientCall(objective.params, {}, rows_of(data, slice(None))))

    computed(work)


def test_what_a_graph_takes_is_guessed_from_its_shapes(support: Any) -> None:
    """A wide network is known to take thousands of times what a scalar takes, before anything was measured."""
    x, w = sg.input("x", shape=(256,)), sg.param("w", np.zeros((256, 256)))
    wide = sg.Objective(sg.sum(sg.tanh(x @ w)))
    narrow = sg.Objective(sg.input("x") * sg.param("w", 1.0))

    async def work(executor: ProcessExecutor) -> list[int]:
        return [(await stored(executor, objective.graph, support)).signature.operations for objective in (wide, narrow)]

    large, small = computed(work)
    assert 2 * 256 * 256 < large < 4 * 256 * 256
    assert 0 < small < 100


def test_the_same_bytes_as_other_numbers(support: Any) -> None:
    """Two datasets share the file of columns with the same bytes, one of f64 and one of twice as many f32: each has its own sum."""
    numbers = np.random.default_rng(4).normal(size=1024)
    wide = column(numbers)
    narrow = ResidentColumn(np.dtype(np.float32), (), wide.file)
    sets = [ResidentDataset("1" * 64, 1024, {"x": wide}), ResidentDataset("2" * 64, 2048, {"x": narrow})]
    objective = sg.Objective(sg.tanh(sg.input("x")) * sg.param("w", 1.0))

    async def work(executor: ProcessExecutor) -> list[Any]:
        graph = await stored(executor, objective.graph, support)
        calls = [GradientCall(objective.params, {}, Rows(data, 600, 100)) for data in (*sets, *sets)]
        return [(await executor.gradient(graph, call)).result for call in calls]

    arrays = [numbers[100:700], numbers.view(np.float32)[100:700]]
    expected = [objective.value_and_grad(objective.params, {"x": array}) for array in (*arrays, *arrays)]
    for found, wanted in zip(computed(work), expected, strict=True):
        support.assert_same_bits(found, wanted)


def test_more_columns_than_descriptors_fit_a_message(support: Any) -> None:
    """A graph with 700 inputs reads 700 columns, each in a file of its own."""
    arrays = {f"x{number}": np.full(3, float(number)) for number in range(700)}
    total = sg.Value(0.0)
    for name in arrays:
        total = total + sg.input(name)
    objective = sg.Objective(total * sg.param("w", 1.0))
    data = dataset(arrays)

    async def sums(executor: ProcessExecutor) -> float:
        graph = await stored(executor, objective.graph, support)
        return (await executor.gradient(graph, GradientCall(objective.params, {}, Rows(data, 3)))).result.value

    assert computed(sums) == 3 * sum(range(700))


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        (wire.Rows(range=wire.RowRange(start=5, stop=5)), "rows.range"),
        (wire.Rows(range=wire.RowRange(start=7, stop=5)), "rows.range"),
        (wire.Rows(range=wire.RowRange(start=0, stop=2**63)), "rows.range"),
    ],
)
def test_ranges_that_are_none(arrays: Any, rows: wire.Rows, field: str) -> None:
    """A range without samples, or beyond the last one, is refused."""
    with pytest.raises(InputError) as refused:
        decode_rows(rows, dataset(arrays))
    assert refused.value.field == field


@pytest.mark.parametrize("wrong", [[-1], [SAMPLES], [], [[1]], [1.0], [True]])
def test_indices_that_are_none(support: Any, arrays: Any, wrong: Any) -> None:
    """Indices beyond the samples, none at all, and what is no list of integers are refused."""
    array = np.array(wrong, np.int64 if wrong == [] else None)
    with pytest.raises(InputError) as refused:
        decode_rows(wire.Rows(indices=support.array_message(array)), dataset(arrays))
    assert refused.value.field == "rows.indices"


@pytest.mark.parametrize("options", [Options(), Options("reference"), Options(precision="f32")], ids=str)
def test_sums_together_have_the_bits_of_sums_alone(support: Any, arrays: Any, objective: sg.Objective, options: Options) -> None:
    """Rows in a range, by indices, and samples sent along, in one trip: each sum, and its penalty, is what it is by itself."""
    data = dataset(arrays)
    inputs = {name: arrays[name][:77] for name in ("x", "y", "k", "on")}
    chosen = [({}, Rows(data, 40, 100)), ({}, Rows(data, 3, indices=np.array([2, 2, 999]))), (inputs, None)]
    calls = [GradientCall(objective.params, given, rows, options=options, apart=True) for given, rows in chosen]

    async def work(executor: ProcessExecutor) -> Any:
        graph = await stored(executor, objective.graph, support)
        alone = [await executor.gradient(graph, call) for call in calls]
        return alone, await executor.gradients(graph, calls), [executor.is_light(graph, call) for call in calls]

    alone, together, light = computed(work)
    assert all(isinstance(answer, bool) for answer in light)
    for one, other in zip(alone, together, strict=True):
        assert one.vector.tobytes() == other.vector.tobytes()
        assert one.penalty.tobytes() == other.penalty.tobytes()
        assert (one.count, one.evaluator) == (other.count, other.evaluator)
