"""All training runs of a server: found by name or id, resumed when it starts, told the time, and kept from filling the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from sumgrad_engine.errors import InputError, LimitError
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.types import Array
from sumgrad_proto.v1 import service_pb2 as wire

from ..faults import DamagedError, NameTakenError, NoRoomError, UnknownRunError
from ..settings import Settings
from ..store.journal import Journal
from . import records
from .book import Book, Made
from .run import Run
from .specification import checked

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
"""How often leases are looked at."""
ID_BYTES = 12


class Runs:
    """Empty until they are loaded."""

    def __init__(self, journal: Journal, settings: Settings) -> None:
        self._journal, self._settings = journal, settings
        self._runs: dict[str, Run] = {}
        self._creating = asyncio.Lock()
        self._ticking: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Resumes what the journal knows. Raises StateError, DamagedError."""
        recovered = await self._journal.open()
        books: dict[str, tuple[int, Book]] = {}
        for name, snapshot in recovered.snapshots.items():
            books[name] = snapshot.index, Book.restored(snapshot.data, self._settings.max_run_history)
        for entry in recovered.records:
            if entry.run not in books:  # the first record of a run is a snapshot
                book = Book.restored(entry.data, self._settings.max_run_history)
            else:
                _, book = books[entry.run]
                book.apply(records.decode(entry.data))
            books[entry.run] = entry.index, book
        for name, (index, book) in books.items():
            self._runs[name] = Run(book, index, self._journal, self._settings.retry_seconds)
        self._ticking = asyncio.create_task(self._tick())

    async def drain(self) -> None:
        """Ends all streams; what is on its way to the disk gets there."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        for run in self._runs.values():
            await run.close()

    async def close(self) -> None:
        """Lets go of the journal."""
        await self.drain()
        await self._journal.close()

    def listed(self, namespace: str | None = None) -> list[Run]:
        """The runs of a namespace, or of all, by name."""
        found = [run for run in self._runs.values() if namespace in (None, run.book.made.namespace)]
        return sorted(found, key=lambda run: run.book.made.name)

    def find(self, namespace: str, name: str) -> Run:
        """A run by name or id. Raises UnknownRunError."""
        found = self._found(namespace, name)
        if found is None:
            raise UnknownRunError(f"there is no run {name[:80]!r} here: make it with CreateRun, or look at the names that ListRuns gives")
        return found

    def _found(self, namespace: str, name: str) -> Run | None:
        run = self._runs.get(name)
        if run is not None and run.book.made.namespace == namespace:
            return run
        return next((run for run in self._runs.values() if (run.book.made.namespace, run.book.made.name) == (namespace, name)), None)

    async def create(
        self, namespace: str, name: str, specification: wire.RunSpecification, layout: Layout, parameters: Mapping[str, Array]
    ) -> tuple[Run, bool]:
        """A new run, on the disk; or the one of this name, if it was made alike. Raises InputError, LimitError, NameTakenError, NoRoomError."""
        wanted = checked(specification, self._settings)
        async with self._creating:
            known = self._found(namespace, name) if name else None
            if known is not None:
                _require_same(known, wanted)
                return known, True
            vector = starting_vector(layout, parameters, self._settings.max_run_parameters)
            await self._make_room(namespace)
            number = secrets.token_hex(ID_BYTES)
            made = Made(number, namespace, name or number, wanted, layout, int(time.time()))
            book = Book.new(made, vector, self._settings.max_run_history)
            await self._journal.append(number, 0, book.snapshot())
            run = self._runs[number] = Run(book, 0, self._journal, self._settings.retry_seconds)
            return run, False

    async def forget(self, run: Run) -> None:
        """Ends a run and what it has come to."""
        number = run.book.made.id
        if self._runs.pop(number, None) is not None:
            await run.close(UnknownRunError(f"run {run.book.made.name!r} was forgotten"))
            await self._compact()

    async def _make_room(self, namespace: str) -> None:
        """Lets the oldest run that has ended go, if there are too many. Raises LimitError if all go on."""
        there, most = self.listed(namespace), self._settings.max_runs
        if len(there) < most:
            return
        over = sorted((run for run in there if run.machine.over), key=lambda run: run.book.made.created)
        if not over:
            said = f"there are {len(there)} runs that go on; max_runs is {most}: stop some of them"
            raise LimitError(said, limit="max_runs", allowed=most)
        await self.forget(over[0])

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for run in list(self._runs.values()):
                run.tick()
            if self._journal.full:
                try:
                    await self._compact()
                except (NoRoomError, DamagedError, OSError) as error:
                    log.warning("the journal of runs can't be shortened: %s", error)

    async def _compact(self) -> None:
        """Writes snapshots of what has changed, while no run is writing, and lets go of the journal before."""
        async with contextlib.AsyncExitStack() as stack:
            for run in list(self._runs.values()):
                await stack.enter_async_context(run.writing)
            await self._journal.compact({number: _snapshot(run) for number, run in self._runs.items()})

    def __iter__(self) -> Iterator[Run]:
        return iter(self.listed())


def _snapshot(run: Run) -> Callable[[], tuple[int, bytes]]:
    return lambda: (run.index, b"".join(run.book.snapshot()))


def _require_same(known: Run, wanted: wire.RunSpecification) -> None:
    have = known.book.made.specification
    if have.SerializeToString(deterministic=True) == wanted.SerializeToString(deterministic=True):
        return
    names = (field.name for field in wire.RunSpecification.DESCRIPTOR.fields)
    different = [name for name in names if getattr(have, name) != getattr(wanted, name)]
    raise NameTakenError(
        f"there is a run {known.book.made.name!r} already, with another {' and '.join(different)}: give this one another name, or stop and forget that one",
        field=f"specification.{different[0] if different else ''}",
    )


def starting_vector(layout: Layout, parameters: Mapping[str, Array], most: int) -> Vector:
    """The parameters of a new run, one after the other. Raises InputError, LimitError."""
    for name, shape in layout.grads:
        if name not in parameters:
            raise InputError(f"parameters.{name[:80]} is missing", field=f"parameters.{name[:80]}")
        if parameters[name].shape != shape or parameters[name].dtype.kind != "f":
            said = f"parameters.{name[:80]} must be floats of shape {shape}, not {parameters[name].dtype} of shape {parameters[name].shape}"
            raise InputError(said, field=f"parameters.{name[:80]}")
    unknown = sorted(parameters.keys() - dict(layout.grads).keys())
    if unknown:
        raise InputError(f"parameters.{unknown[0][:80]} is no parameter of the graph", field=f"parameters.{unknown[0][:80]}")
    vector = np.concatenate([np.ravel(parameters[name]) for name, _ in layout.grads] or [np.empty(0)]).astype(np.float64)
    if not 0 < len(vector) <= most:
        said = f"the run has {len(vector):,} numbers to train; it needs at least one, and max_run_parameters is {most:,}"
        raise LimitError(said, limit="max_run_parameters", value=len(vector), allowed=most)
    return vector
