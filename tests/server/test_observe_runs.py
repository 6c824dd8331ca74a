"""Training runs, as those see them who watch a server: which the page shows, their curves, and what is counted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sumgrad_engine.layout import Layout
from sumgrad_proto.v1 import service_pb2 as wire
from sumgrad_server.census import Census, Totals
from sumgrad_server.faults import UnknownGraphError
from sumgrad_server.graphs import StoredGraph
from sumgrad_server.observe import page, training
from sumgrad_server.observe.calls import CallCounts
from sumgrad_server.observe.charts import HEIGHT, WIDTH, curve
from sumgrad_server.observe.metrics import Metrics
from sumgrad_server.observe.recent import RecentCalls
from sumgrad_server.observe.view import Stores, View
from sumgrad_server.runs.book import Line
from sumgrad_server.runs.run import Part, Run
from sumgrad_server.runs.runs import Runs
from sumgrad_server.settings import Settings
from sumgrad_server.store.journal import Journal

EVIL = "<script>alert('x')</script>\"'&"
SETTINGS = Settings()
PATIENCE, SETTINGS = 60, Settings()


class Idle:
    """A pool that does nothing."""

    serving = True

    def census(self) -> Census:
        return Census((), 0, 0, Totals())


async def no_graph(name: str) -> StoredGraph:
    """Where there are none."""
    raise UnknownGraphError(name)


def watched(runs: Runs) -> View:
    """A server that has these runs."""
    return View(SETTINGS, Idle(), Stores(list, list, runs, no_graph))


@asynccontextmanager
async def opened(folder: Path | None = None) -> AsyncIterator[Runs]:
    """Runs with their journal in a folder, or nowhere."""
    runs = Runs(Journal(folder), SETTINGS)
    await runs.load()
    try:
        yield runs
    finally:
        await runs.close()


async def made(runs: Runs, name: str, members: int = 1, **specification: Any) -> Run:
    """A run of one number that members update themselves."""
    wanted = wire.RunSpecification(members=members, **specification)
    run, _ = await runs.create("default", name, wanted, Layout((), (("w", ()),)), {"w": np.zeros(())})
    return run


async def seen(run: Run, true: Callable[[], bool]) -> None:
    """Waits until something holds of a run."""
    news = asyncio.Event()
    run.news.add(news)
    async with asyncio.timeout(PATIENCE):
        while not true():
            await news.wait()
            news.clear()
    run.news.discard(news)


async def contribute(run: Run, number: int, value: float, samples: int = 5) -> None:
    """A member's contribution to the step that is due."""
    await seen(run, lambda: run.machine.members != () and not run.machine.busy)
    step, attempt = run.machine.step, run.machine.attempt
    assert run.take(number, step, attempt) == "take"
    run.contributed(number, step, attempt, Part(np.array([value, 1.0]), samples))


async def stepped(run: Run, *values: float) -> None:
    """Steps of a run that the member 0 makes alone."""
    for value in values:
        step = run.book.step
        await contribute(run, 0, value)
        await seen(run, lambda step=step: run.machine.step == step + 1)  # type: ignore[misc]


def with_runs(what: Callable[[Runs], Awaitable[None]], folder: Path | None = None) -> None:
    """Does something with runs, in an event loop of its own."""

    async def do() -> None:
        async with opened(folder) as runs:
            await what(runs)

    asyncio.run(do())


def metrics_of(runs: Runs) -> dict[tuple[str, str], float]:
    """Values by name and the one label's value, as a scraper reads them."""
    families = text_string_to_metric_families(Metrics(CallCounts(), watched(runs)).text().decode())
    return {(sample.name, "".join(sample.labels.values())): sample.value for family in families for sample in family.samples}


def shown(runs: Runs) -> str:
    """The page."""
    view, calls = watched(runs), CallCounts()
    return page.Page(view, calls, RecentCalls(), page.Throughput(view, calls)).whole()


# Curves.


def ends(line: str) -> list[tuple[float, float]]:
    """The points of a line."""
    return [tuple(map(float, point.split(","))) for point in line.replace("M", " ").replace("L", " ").split()]  # type: ignore[misc]


@pytest.mark.parametrize("values", [[1.0, 0.5, 0.25], [-3.0, 2.0], [5.0, 5.0], [1.7e308, -1.7e308, 0.0], [0.0, 5e-324], [1e300, 1e-300]])
def test_a_curve_lies_in_its_picture(values: list[float]) -> None:
    """Values of either sign and any size, equal ones too, lie within the picture from its left to its right; larger ones are never lower."""
    drawn = curve(values)
    assert drawn is not None
    points = ends(drawn.line)
    assert [points[0][0], points[-1][0]] == [0.0, WIDTH]
    assert all(0.0 <= height <= HEIGHT for _, height in points)
    assert (drawn.low, drawn.high) == (min(values), max(values))
    heights = [height for _, (_, height) in sorted(zip(values, points, strict=True))]
    assert heights == sorted(heights, reverse=True)


def test_a_curve_is_broken_where_there_is_no_number() -> None:
    """Infinities and NaN are left out, and the line begins anew behind them."""
    drawn = curve([1.0, 2.0, math.nan, 3.0, math.inf, -math.inf, 4.0, 1.0])
    assert drawn is not None
    assert [piece.count(",") for piece in drawn.line.split("M")[1:]] == [2, 1, 2]
    assert (drawn.low, drawn.high) == (1.0, 4.0)


@pytest.mark.parametrize("values", [[], [1.0], [math.nan, 1.0, math.inf]])
def test_one_value_is_no_curve(values: list[float]) -> None:
    """It takes two finite values."""
    assert curve(values) is None


def test_many_steps_are_shown_by_some() -> None:
    """Of a long ledger so many lines as a curve has points, in their order, with the first and the last; a short one is whole."""
    lines = [Line(step, 0, (), (), 0.0, np.zeros(1)) for step in range(10_000)]
    found = [line.step for line in training.points(lines)]
    assert len(set(found)) == training.MOST_POINTS
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 9_999)
    assert max(np.diff(found)) - min(np.diff(found)) <= 1
    assert training.points(lines[:240]) == lines[:240]


# The page.


def test_a_run_is_shown_with_its_members() -> None:
    """State, steps, value, curve, and each member with what it does; the page knows nothing of the parameters."""

    async def look(runs: Runs) -> None:
        run = await made(runs, "digits", max_steps=40)
        await run.join("ada", SETTINGS)
        await stepped(run, 3.0, 2.0, 1.5)
        await run.join("bea", SETTINGS)
        row = training.run_row(run, run.machine.seats[0].heard + 7.0)
        assert [(member.name, member.doing, member.steps, member.samples) for member in row["members"]] == [
            ("ada", "working", 3, 15),
            ("bea", "joined", 0, 0),
        ]
        assert row["members"][0].silent == pytest.approx(7.0)
        assert (row["seats"], row["value"], row["curve"].high) == (2, 1.5, 3.0)
        said = shown(runs)
        for part in (
            "digits",
            "step 3 of 40",
            "2 of 1 members",
            "15 samples",
            "updated by members",
            "Value from step 0 to step 2, now 1.5",
        ):
            assert part in said, part

    with_runs(look)


def test_members_that_have_left_come_last() -> None:
    """Those with seats come first, however many have come and gone; what is beyond the limit is counted."""

    async def look(runs: Runs) -> None:
        run = await made(runs, "busy", members=100)
        for number in range(training.MOST_MEMBERS + 4):
            await run.join(f"member {number}", SETTINGS)
        run.leave(0)
        row = training.run_row(run, 0.0)
        assert [member.number for member in row["members"]] == list(range(1, training.MOST_MEMBERS + 1))
        assert (row["more_members"], row["seats"]) == (4, training.MOST_MEMBERS + 3)
        assert "And 4 more." in shown(runs)

    with_runs(look)


def test_runs_that_run_come_first() -> None:
    """Before those that wait and those that are over; of too many, the rest is counted."""

    async def look(runs: Runs) -> None:
        for number in range(training.MOST_RUNS):
            await made(runs, f"waiting {number}", members=2)
        over, running = await made(runs, "over"), await made(runs, "running")
        await over.stop()
        await running.join("ada", SETTINGS)
        await seen(running, lambda: running.book.state == "running")
        names = [run.book.made.name for run in training.chosen(runs.listed())]
        assert len(names) == training.MOST_RUNS
        assert names[0] == "running"
        assert "over" not in names
        assert "And 2 more." in shown(runs)

    with_runs(look)


def test_a_run_that_is_over_has_nobody_silent() -> None:
    """Of its members the page says what they have done, and not how long ago they were heard."""

    async def look(runs: Runs) -> None:
        run = await made(runs, "short", max_steps=2)
        await run.join("ada", SETTINGS)
        await stepped(run, 1.0, 1.0)
        await run.stop()
        said = shown(runs)
        assert "finished" in said
        assert "of 1 members" not in said
        assert '<span class="chip refused">joined' not in said

    with_runs(look)


def test_names_of_runs_and_members_are_text() -> None:
    """Markup in the names of runs, and of members, is shown as it is; and so is why a run does not go on."""

    async def look(runs: Runs) -> None:
        run = await made(runs, EVIL)
        await run.join(EVIL, SETTINGS)
        run.trouble = f"no room in {EVIL}"
        said = shown(runs)
        assert "<script>alert" not in said
        assert said.count("&lt;script&gt;alert") == 3
        assert "It can't go on: no room in" in said

    with_runs(look)


def test_values_that_are_no_numbers_are_shown(tmp_path: Path) -> None:
    """A run whose loss has gone astray has a page all the same, before and after a restart."""

    async def train(runs: Runs) -> None:
        run = await made(runs, "astray")
        await run.join("ada", SETTINGS)
        await stepped(run, math.nan, math.inf)
        assert "not two steps with finite values are made" in shown(runs)

    async def look(runs: Runs) -> None:
        assert "not two steps with finite values are made" in shown(runs)

    with_runs(train, tmp_path / "runs")
    with_runs(look, tmp_path / "runs")


# Metrics.


def test_runs_are_counted(tmp_path: Path) -> None:
    """By state, with their seats; steps and samples by who updates, those of forgotten runs too; attempts that began anew; and the journal's records."""

    async def look(runs: Runs) -> None:
        optimizer = wire.Optimizer(sgd=wire.SGD(), learning_rate=wire.Schedule(rate=0.1))
        alone, together = await made(runs, "alone", optimizer=optimizer), await made(runs, "together", members=2)
        await made(runs, "waiting")
        await alone.join("ada", SETTINGS)
        await stepped(alone, 1.0, 1.0)
        await alone.stop()
        await runs.forget(alone)
        for name in ("ada", "bea"):
            await together.join(name, SETTINGS)
        await contribute(together, 0, 1.0)
        together.leave(1)
        await seen(together, lambda: together.book.attempt == 1)
        found = metrics_of(runs)
        expected = {
            ("sumgrad_runs", "running"): 1,
            ("sumgrad_runs", "waiting"): 1,
            ("sumgrad_runs", "stopped"): 0,
            ("sumgrad_run_seats", ""): 1,
            ("sumgrad_run_steps_total", "sgd"): 2,
            ("sumgrad_run_steps_total", "members"): 0,
            ("sumgrad_run_samples_total", "sgd"): 10,
            ("sumgrad_run_repeated_attempts_total", ""): 1,
            ("sumgrad_run_vacated_seats_total", ""): 1,
            ("sumgrad_runs_without_room", ""): 0,
        }
        assert {key: found[key] for key in expected} == expected
        assert found["sumgrad_journal_records_total", ""] >= found["sumgrad_journal_writes_total", ""] > 5
        assert found["sumgrad_journal_seconds_total", ""] > 0.0

    with_runs(look, tmp_path / "runs")


def test_more_runs_are_not_more_metrics() -> None:
    """Names that clients choose are in no metric."""

    async def look(runs: Runs) -> None:
        before = metrics_of(runs).keys()
        for name in ("a", "b", EVIL):
            run = await made(runs, name)
            await run.join(name, SETTINGS)
            await stepped(run, 1.0)
        assert metrics_of(runs).keys() == before

    with_runs(look)
