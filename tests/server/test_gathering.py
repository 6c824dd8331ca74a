"""Small contributions that are computed together: who waits for whom, and who hears of what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import numpy as np
import pytest
from sumgrad_engine.errors import InputError
from sumgrad_engine.layout import Layout
from sumgrad_server.faults import StaleStepError
from sumgrad_server.graphs import StoredGraph
from sumgrad_server.planning import GradientCall, Sum
from sumgrad_server.runs.gathering import Gathering, Sums

GRAPH = cast(StoredGraph, object())


class Doubling:
    """An executor whose sums say what they were asked for: twice the parameter "w". A negative one is refused."""

    def __init__(self) -> None:
        self.together: list[int] = []

    async def gradient(self, graph: StoredGraph, call: GradientCall) -> Sum:
        value = float(call.parameters["w"])
        if value < 0.0:
            raise InputError("w is negative", field="w")
        return Sum(Layout((), ()), np.array([2.0 * value]), 1, "compiled")

    async def gradients(self, graph: StoredGraph, calls: Sequence[GradientCall]) -> list[Sum]:
        self.together.append(len(calls))
        return [await self.gradient(graph, call) for call in calls]


def asked(value: float) -> GradientCall:
    return GradientCall({"w": np.array(value)}, {})


def gathering(executor: Doubling, members: set[int]) -> Gathering:
    return Gathering(cast(Any, executor), lambda here: members <= here, to_the_end)


async def to_the_end(work: Coroutine[Any, Any, Sums]) -> Sums:
    return await work


def test_the_last_one_has_all_of_them_computed_at_once() -> None:
    """One trip for three members; each gets its own sum."""
    executor = Doubling()

    async def work() -> list[float]:
        group = gathering(executor, {0, 1, 2})
        sums = await asyncio.gather(*(group.sum(number, GRAPH, asked(10.0 + number)) for number in (2, 0, 1)))
        return [float(found.vector[0]) for found in sums]

    assert asyncio.run(work()) == [24.0, 20.0, 22.0]
    assert executor.together == [3]


def test_what_is_wrong_with_one_is_told_to_that_one() -> None:
    """The others have their sums."""
    executor = Doubling()

    async def work() -> list[Any]:
        group = gathering(executor, {0, 1})
        return await asyncio.gather(
            *(group.sum(number, GRAPH, asked(value)) for number, value in ((0, -1.0), (1, 4.0))), return_exceptions=True
        )

    wrong, right = asyncio.run(work())
    assert isinstance(wrong, InputError)
    assert right.vector[0] == 8.0


def test_one_who_contributes_in_another_way_is_waited_for_too() -> None:
    """Until `look` finds that all are there."""
    executor, there = Doubling(), set[int]()

    async def work() -> Sum:
        group = Gathering(cast(Any, executor), lambda here: here | there == {0, 1}, to_the_end)
        waiting = asyncio.ensure_future(group.sum(0, GRAPH, asked(1.0)))
        await asyncio.sleep(0)
        assert not executor.together
        there.add(1)
        await group.look()
        return await waiting

    assert asyncio.run(work()).vector[0] == 2.0


def test_an_attempt_that_comes_to_nothing_lets_all_go() -> None:
    """Who waits hears that its contribution is void, and may contribute again."""

    async def work() -> None:
        group = gathering(Doubling(), {0, 1})
        waiting = asyncio.ensure_future(group.sum(0, GRAPH, asked(1.0)))
        await asyncio.sleep(0)
        group.give_up()
        with pytest.raises(StaleStepError):
            await waiting

    asyncio.run(work())


def test_when_the_one_that_computes_for_all_leaves_the_others_try_again() -> None:
    """Its stream is cancelled in the middle of the trip."""
    reached = asyncio.Event()

    class Slow(Doubling):
        async def gradients(self, graph: StoredGraph, calls: Sequence[GradientCall]) -> list[Sum]:
            reached.set()
            await asyncio.Event().wait()
            raise AssertionError

    async def work() -> None:
        group = gathering(Slow(), {0, 1})
        first = asyncio.ensure_future(group.sum(0, GRAPH, asked(1.0)))
        await asyncio.sleep(0)
        last = asyncio.ensure_future(group.sum(1, GRAPH, asked(1.0)))
        await reached.wait()
        last.cancel()
        with pytest.raises(StaleStepError):
            await first

    asyncio.run(work())


def test_a_fault_is_told_to_those_who_wait_and_to_nobody_else() -> None:
    """One that only looks whether all are there has nothing to do with it."""

    class Broken(Doubling):
        async def gradients(self, graph: StoredGraph, calls: Sequence[GradientCall]) -> list[Sum]:
            raise OSError("no memory to share")

    async def work() -> None:
        there = set[int]()
        group = Gathering(cast(Any, Broken()), lambda here: here | there == {0, 1}, to_the_end)
        waiting = asyncio.ensure_future(group.sum(0, GRAPH, asked(1.0)))
        await asyncio.sleep(0)
        there.add(1)
        await group.look()
        with pytest.raises(OSError, match="no memory"):
            await waiting

    asyncio.run(work())


def test_a_contribution_that_is_given_up_takes_no_newer_one_along() -> None:
    """A member contributes again while its first contribution is still being let go."""

    async def work() -> None:
        group = gathering(Doubling(), {0, 1})
        older = asyncio.ensure_future(group.sum(0, GRAPH, asked(1.0)))
        await asyncio.sleep(0)
        newer = asyncio.ensure_future(group.sum(0, GRAPH, asked(2.0)))
        await asyncio.sleep(0)
        older.cancel()
        with pytest.raises(asyncio.CancelledError):
            await older
        await group.sum(1, GRAPH, asked(3.0))
        assert (await newer).vector[0] == 4.0

    asyncio.run(work())
