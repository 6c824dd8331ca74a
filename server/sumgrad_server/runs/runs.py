"""All training runs of a server: found by name or id, resumed when it starts, told the time, and kept from filling the disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from sumgrad_engine.errors import InputError, LimitError
from sumgrad_engine.layout import Layout, Vector
from sumgrad_engine.types import Array
from sumgrad_proto.v1 import service_pb2 as wire

from ..faults import BrokenRunError, DamagedError, DrainingError, NameTakenError, NoRoomError, UnknownRunError
from ..settings import Settings
from ..store.frames import Entry
from ..store.journal import Journal, Snapshot
from ..threads import to_its_end
from . import records
from .book import Book, Made
from .run import Run
from .specification import checked
from .totals import RunTotals

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
"""How often leases are looked at."""
ID_BYTES = 12
TURN_BYTES, METRIC_BYTES, MEMBER_BYTES = 4096, 64, 16
"""Of a turn on the wire, at most, beside its numbers: in all, for each metric and for each member."""


class Runs:
    """Empty until they are loaded."""

    def __init__(self, journal: Journal, settings: Settings) -> None:
        self.journal, self._settings = journal, settings
        self.totals = RunTotals()
        self._runs: dict[str, Run] = {}
        self._changing = asyncio.Lock()  # which runs there are
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []

    async def load(self) -> None:
        """Resumes what the journal knows. Raises StateError, DamagedError."""
        recovered = await self.journal.open()
        books: dict[str, tuple[int, Book]] = {}
        for name, snapshot in recovered.snapshots.items():
            books[name] = snapshot.index, Book.restored(snapshot.data, self._settings.max_run_history)
        for entry in recovered.records:
            _, known = books.get(entry.run, (0, None))
            books[entry.run] = entry.index, self._read(entry, known)
        for name, (index, book) in books.items():
            self._runs[name] = Run(book, index, self.journal, self.totals, self._settings.retry_seconds)
        self._tasks = [asyncio.create_task(self._tick()), asyncio.create_task(self._shorten())]

    def _read(self, entry: Entry, book: Book | None) -> Book:
        """The book of a run after a record; the first one is a snapshot. Raises DamagedError."""
        try:
            if book is None:
                return Book.restored(entry.data, self._settings.max_run_history)
            book.apply(records.decode(entry.data))
        except DamagedError:
            raise
        except Exception as error:
            raise DamagedError(
                f"run {entry.run} can't be resumed, because its record {entry.index} can't be carried out: {error!r}"
            ) from error
        return book

    async def drain(self) -> None:
        """Ends all streams; what is on its way to the disk gets there, and no other runs are made."""
        self._draining = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for run in self._runs.values():
            await run.close()

    async def close(self) -> None:
        """Lets go of the journal."""
        await self.drain()
        await self.journal.close()

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
        """A new run, on the disk; or the one of this name, if it was made alike.

        Raises InputError, LimitError, NameTakenError, NoRoomError, DrainingError.
        """
        wanted = checked(specification, self._settings)
        async with self._changing:
            if self._draining:
                raise DrainingError
            known = self._found(namespace, name) if name else None
            if known is not None:
                _require_same(known, wanted)
                return known, True
            vector = starting_vector(layout, parameters, self._settings.max_run_parameters)
            _require_sendable(len(vector), layout, wanted, self._settings)
            number = secrets.token_hex(ID_BYTES)
            made = Made(number, namespace, name or number, wanted, layout, int(time.time()))
            book = Book.new(made, vector, self._settings.max_run_history)
            making_way = self._making_way(namespace, book.nbytes)
            return await to_its_end(self._add(book, making_way)), False

    async def _add(self, book: Book, making_way: Sequence[Run]) -> Run:
        """A new run, on the disk; then those go that make way for it, unless the disk is full: they make way for the next one then."""
        number = book.made.id
        await self.journal.append(number, 0, book.snapshot())
        run = self._runs[number] = Run(book, 0, self.journal, self.totals, self._settings.retry_seconds)
        if self._draining:
            await run.close()
        with contextlib.suppress(NoRoomError, OSError):
            for ended in making_way:
                await self._remove(ended)
        return run

    async def forget(self, run: Run) -> None:
        """Ends a run and what it has come to. Raises NoRoomError; then it goes on."""
        async with self._changing:
            if run.book.made.id in self._runs:
                await to_its_end(self._remove(run))

    async def _remove(self, run: Run) -> None:
        await run.forget()
        self._runs.pop(run.book.made.id, None)

    def _making_way(self, namespace: str, nbytes: int) -> list[Run]:
        """The oldest runs that have ended, as many as have to go for another one of so many bytes. Raises LimitError if all would not be enough."""
        ended = (run for run in self.listed(namespace) if run.machine.over or run.broken)
        oldest = sorted(ended, key=lambda run: run.book.made.created, reverse=True)
        going: list[Run] = []
        while (excess := self._excess(namespace, nbytes, going)) is not None:
            if not oldest:
                raise excess
            going.append(oldest.pop())
        return going

    def _excess(self, namespace: str, nbytes: int, going: Sequence[Run]) -> LimitError | None:
        """What is against one more run of so many bytes, when some have gone."""
        settings, there = self._settings, len(self.listed(namespace)) - len(going)
        held = sum(run.book.nbytes for run in self._runs.values()) - sum(run.book.nbytes for run in going)
        if there >= settings.max_runs:
            said = f"there are {there} runs that go on; max_runs is {settings.max_runs}: stop some of them"
            return LimitError(said, limit="max_runs", value=there + 1, allowed=settings.max_runs)
        most = settings.max_run_bytes
        if held + nbytes > most:
            said = f"this run takes {nbytes:,} bytes beside {held:,} of those that can't make way for it; max_run_bytes is {most:,}: stop and forget some of them"
            return LimitError(said, limit="max_run_bytes", value=held + nbytes, allowed=most)
        return None

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for run in list(self._runs.values()):
                run.tick()

    async def _shorten(self) -> None:
        """Compacts the journal whenever it is full; where that fails, there is no room, and it is tried again in a while."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.journal.full:
                try:
                    await self.journal.compact(self._snapshot)
                except Exception as error:  # whatever it was, the journal must not grow for ever
                    known = isinstance(error, (NoRoomError, BrokenRunError, OSError, MemoryError))
                    log.warning("the journal of runs can't be shortened: %r", error, exc_info=not known)
                    await asyncio.sleep(self._settings.retry_seconds)

    async def _snapshot(self, number: str) -> Snapshot | None:
        run = self._runs.get(number)
        return None if run is None else await run.snapshot()

    def __iter__(self) -> Iterator[Run]:
        return iter(self.listed())


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


def _require_sendable(length: int, layout: Layout, specification: wire.RunSpecification, settings: Settings) -> None:
    """Raises LimitError if a turn of this run would be longer than a message may be: parameters, and the last step with its members."""
    copies = 1 if specification.HasField("optimizer") else 2  # members that update get the gradient too
    named = sum(len(name.encode()) + METRIC_BYTES for name, _ in layout.metrics)
    nbytes = 8 * copies * length + 8 * (layout.width - length) + named + TURN_BYTES + MEMBER_BYTES * settings.max_run_members
    if nbytes > settings.max_message_bytes:
        said = (
            f"with {length:,} numbers to train, what members are told at each step may take {nbytes:,} bytes; "
            f"max_message_bytes is {settings.max_message_bytes:,}"
        )
        raise LimitError(said, limit="max_message_bytes", value=nbytes, allowed=settings.max_message_bytes)


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
