"""Small contributions to one attempt of a step, computed together when the last of them is there: one trip to a worker instead of one for each member."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

from sumgrad_engine.errors import SumgradError

from ..executor import Executor
from ..faults import StaleStepError
from ..graphs import StoredGraph
from ..planning import GradientCall, Sum

Waiting: TypeAlias = tuple[StoredGraph, GradientCall, "asyncio.Future[Sum]"]
Sums: TypeAlias = Sequence[Sum | BaseException]
During: TypeAlias = Callable[[Coroutine[Any, Any, Sums]], Awaitable[Sums]]


class Gathering:
    """Those of one attempt.

    `complete` says whether nobody else is waited for, given the numbers of those that are here; `during` does some work for as long as the attempt
    goes on.
    """

    def __init__(self, executor: Executor, complete: Callable[[AbstractSet[int]], bool], during: During) -> None:
        self._executor, self._complete, self._during = executor, complete, during
        self._waiting: dict[int, Waiting] = {}

    async def sum(self, number: int, graph: StoredGraph, call: GradientCall) -> Sum:
        """A member's sum. Raises StaleStepError if the attempt has come to nothing, and what the executor raises."""
        done: asyncio.Future[Sum] = asyncio.get_running_loop().create_future()
        waiting = self._waiting[number] = graph, call, done
        try:
            await self.look()
            return await done
        finally:
            if self._waiting.get(number) is waiting:
                del self._waiting[number]

    async def look(self) -> None:
        """Computes what is here, if that is all. What goes wrong is told to those whose contributions they are."""
        if not self._waiting or not self._complete(self._waiting.keys()):
            return
        waiting, self._waiting = self._waiting, {}
        graph, calls = next(iter(waiting.values()))[0], [call for _, call, _ in waiting.values()]
        try:
            found = await self._during(self._computed(graph, calls))
        except asyncio.CancelledError:  # whoever has computed for all is gone: the others try again
            _give_up(waiting.values())
            raise
        except Exception as error:  # noqa: BLE001 - each of them raises it where it waits
            found = [error] * len(waiting)
        for (_, _, done), result in zip(waiting.values(), found, strict=True):
            _settle(done, result)

    async def _computed(self, graph: StoredGraph, calls: Sequence[GradientCall]) -> Sums:
        try:
            return await self._executor.gradients(graph, calls)
        except SumgradError:  # whose it is, each finds out by itself
            return await asyncio.gather(*(self._executor.gradient(graph, call) for call in calls), return_exceptions=True)

    def give_up(self) -> None:
        """The attempt has come to nothing."""
        _give_up(self._waiting.values())


def _give_up(waiting: Iterable[Waiting]) -> None:
    for _, _, done in waiting:
        _settle(done, StaleStepError("a member was lost, and the step has begun anew"))


def _settle(done: asyncio.Future[Sum], result: Sum | BaseException) -> None:
    if done.done():
        return
    if isinstance(result, BaseException):
        done.set_exception(result)
        done.exception()  # it may be that nobody asks
    else:
        done.set_result(result)
