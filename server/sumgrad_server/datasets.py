"""The datasets that are kept: names for contents, a namespace each, and the contents' columns in files, equal ones stored once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import resource
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sumgrad_engine.errors import LimitError
from sumgrad_engine.types import Shape

from .faults import DamagedError, NameTakenError, NoRoomError, UnknownDatasetError
from .resident import ResidentColumn, ResidentDataset
from .settings import Settings
from .store.files import Parts
from .store.room import room_for
from .store.state import State
from .threads import in_thread, to_its_end

log = logging.getLogger(__name__)

DTYPES: Mapping[str, np.dtype[Any]] = {
    "f64": np.dtype("<f8"),
    "f32": np.dtype("<f4"),
    "i64": np.dtype("<i8"),
    "i32": np.dtype("<i4"),
    "bool": np.dtype("?"),
}
OPEN_COLUMNS = 1024
"""Columns whose files are kept open for the next request, where a process may have four times as many open files."""
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Column:
    """An array of shape (sample_count, *shape). `sha256` is that of its bytes, in lowercase hexadecimal; empty while they aren't known."""

    name: str
    dtype: str
    shape: Shape
    sha256: str = ""

    @property
    def sample_bytes(self) -> int:
        """Size of one sample."""
        return prod(self.shape) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class Content:
    """What a dataset holds, whatever it is called. Columns are in the order of the bytes of their names."""

    sample_count: int
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, sample_count: int, columns: Iterable[Column]) -> Content:
        """Puts the columns in order."""
        return cls(sample_count, tuple(sorted(columns, key=lambda column: column.name.encode())))

    @property
    def id(self) -> str:
        """The name that it has everywhere: service.proto says how it is made."""
        lines = [f"{self.sample_count}\n", *("\t".join(_fields(column)) + "\n" for column in self.columns)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def nbytes(self) -> int:
        """Size of all columns together."""
        return self.sample_count * sum(column.sample_bytes for column in self.columns)


def _fields(column: Column) -> tuple[str, str, str, str]:
    return column.name, column.dtype, ",".join(map(str, column.shape)), column.sha256


@dataclass(frozen=True)
class Entry:
    """A name in a namespace, and the content that it stands for; the columns themselves are in the database."""

    namespace: str
    name: str
    id: str
    sample_count: int
    column_count: int
    nbytes: int
    created: int
    """In seconds since 1970-01-01 UTC."""


@dataclass
class _Namespace:
    entries: dict[str, Entry] = field(default_factory=dict)
    by_id: dict[str, dict[str, None]] = field(default_factory=dict)  # names of each content
    nbytes: int = 0

    def put(self, entry: Entry) -> None:
        self.drop(entry.name)
        self.entries[entry.name] = entry
        names = self.by_id.setdefault(entry.id, {})
        if not names:
            self.nbytes += entry.nbytes
        names[entry.name] = None

    def drop(self, name: str) -> None:
        entry = self.entries.pop(name, None)
        if entry is None:
            return
        names = self.by_id[entry.id]
        del names[name]
        if not names:
            del self.by_id[entry.id]
            self.nbytes -= entry.nbytes

    def find(self, name_or_id: str) -> Entry | None:
        found = self.entries.get(name_or_id)
        if found is None and name_or_id in self.by_id:
            found = self.entries[next(iter(self.by_id[name_or_id]))]
        return found


class Arrival(NamedTuple):
    """What an upload brought: the folder of its files, and which of them is a column's, by its name."""

    folder: str
    parts: Parts
    numbers: Mapping[str, int]


Gone: TypeAlias = tuple[Sequence[str], Sequence[str]]
"""Ids of contents, and the SHA-256 of columns, that nobody needs any more."""


def _unknown(name: str) -> UnknownDatasetError:
    return UnknownDatasetError(f"there is no dataset {name[:80]!r} here", dataset=name[:80])


def is_id(name: str) -> bool:
    """Whether a name has the form of an id."""
    return _ID.fullmatch(name) is not None


class Catalogue:
    """All datasets. What changes them is done one after the other; looking never waits, except for a file that isn't open."""

    def __init__(self, state: State, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._state, self._settings, self._clock = state, settings, clock
        self._namespaces: dict[str, _Namespace] = {}
        self._changing = asyncio.Lock()
        self._resident: OrderedDict[str, ResidentDataset] = OrderedDict()
        self._opening: dict[tuple[str, str], asyncio.Task[ResidentDataset]] = {}

    async def load(self) -> None:
        """Reads from the state, which is open, what there is."""
        for entry in await self._state.database.run("reading the datasets", _entries):
            self._namespace(entry.namespace).put(entry)

    # Looking.

    def entries(self) -> list[Entry]:
        """Of all namespaces, the newest first."""
        every = [entry for space in self._namespaces.values() for entry in space.entries.values()]
        return sorted(every, key=lambda entry: -entry.created)

    def nbytes(self, namespace: str) -> int:
        """Size of a namespace's datasets together."""
        return self._namespace(namespace).nbytes

    def find(self, namespace: str, name_or_id: str) -> Entry:
        """A dataset of a namespace. Raises UnknownDatasetError."""
        found = self._namespace(namespace).find(name_or_id)
        if found is None:
            raise _unknown(name_or_id)
        return found

    async def describe(self, namespace: str, name_or_id: str) -> tuple[Entry, Content]:
        """A dataset and its columns. Raises UnknownDatasetError."""
        entry = self.find(namespace, name_or_id)
        contents = await self._contents([entry.id])
        if entry.id not in contents:  # it was deleted meanwhile
            return await self.describe(namespace, name_or_id)
        return entry, contents[entry.id]

    async def listed(self, namespace: str) -> list[tuple[Entry, Content]]:
        """The datasets of a namespace, by name, with their columns."""
        space = self._namespace(namespace)
        contents = await self._contents(list(space.by_id))
        found = sorted(space.entries.values(), key=lambda entry: entry.name)
        return [(entry, contents[entry.id]) for entry in found if entry.id in contents]

    async def open(self, namespace: str, name_or_id: str) -> ResidentDataset:
        """A dataset with its files open. Raises UnknownDatasetError, DamagedError, NoRoomError."""
        entry = self.find(namespace, name_or_id)
        found = self._resident.get(entry.id)
        if found is None:
            return await self._opened(entry)
        self._resident.move_to_end(entry.id)
        return found

    def _namespace(self, namespace: str) -> _Namespace:
        return self._namespaces.get(namespace) or self._namespaces.setdefault(namespace, _Namespace())

    async def _contents(self, ids: Sequence[str]) -> dict[str, Content]:
        return await self._state.database.run("reading the datasets", lambda sql: dict(_contents(sql, ids)))

    async def _opened(self, entry: Entry) -> ResidentDataset:
        key = (entry.namespace, entry.id)
        task = self._opening.get(key)
        if task is None:  # whoever comes meanwhile waits for the same
            task = self._opening[key] = asyncio.create_task(self._open(entry))
            task.add_done_callback(lambda done: self._end_opening(key, done))
        try:
            return await asyncio.shield(task)
        except DamagedError:
            self.find(entry.namespace, entry.id)  # it may have been deleted meanwhile
            raise

    def _end_opening(self, key: tuple[str, str], done: asyncio.Task[ResidentDataset]) -> None:
        del self._opening[key]
        if not done.cancelled():
            done.exception()  # perhaps nobody waits any more

    async def _open(self, entry: Entry) -> ResidentDataset:
        contents = await self._contents([entry.id])
        if entry.id not in contents:
            raise _unknown(entry.name)
        opened = await in_thread(self._open_files, entry, contents[entry.id])
        if entry.id in self._namespace(entry.namespace).by_id:
            self._keep(opened)
        return opened

    def _open_files(self, entry: Entry, content: Content) -> ResidentDataset:
        return ResidentDataset(entry.id, entry.sample_count, {column.name: self._open_file(entry, column) for column in content.columns})

    def _open_file(self, entry: Entry, column: Column) -> ResidentColumn:
        nbytes = entry.sample_count * column.sample_bytes
        try:
            with room_for("the open files of a dataset"):
                file = self._state.files.open(column.sha256, nbytes)
        except DamagedError as error:
            said = f"dataset {entry.name[:80]!r}, column {column.name[:80]!r} is damaged: {error}; delete the dataset, or upload it again"
            raise DamagedError(said, dataset=entry.name, column=column.name, **error.details) from None
        return ResidentColumn(DTYPES[column.dtype], column.shape, file)

    def _keep(self, dataset: ResidentDataset) -> None:
        self._resident[dataset.id] = dataset
        count = sum(len(kept.columns) for kept in self._resident.values())
        most = min(OPEN_COLUMNS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        while count > most and len(self._resident) > 1:
            count -= len(self._resident.popitem(last=False)[1].columns)

    # Changing.

    async def add(self, namespace: str, name: str, content: Content, arrival: Arrival, *, replacing: bool) -> tuple[Entry, bool]:
        """Keeps what has arrived under a name, or under its id if that is empty; and whether the namespace had it already.

        When this returns, it survives a crash. Raises NameTakenError, LimitError, NoRoomError; then nothing has changed.
        """
        return await to_its_end(self._add(namespace, name, content, arrival, replacing=replacing))

    async def delete(self, namespace: str, name_or_id: str) -> None:
        """Forgets a name, or all names of an id. Who has the files open keeps them. Raises UnknownDatasetError."""
        await to_its_end(self._delete(namespace, name_or_id))

    async def _add(self, namespace: str, name: str, content: Content, arrival: Arrival, *, replacing: bool) -> tuple[Entry, bool]:
        async with self._changing:
            space = self._namespace(namespace)
            id_ = content.id
            old, known = space.entries.get(name or id_), id_ in space.by_id
            if old is not None and old.id == id_:
                created = old.created
            else:
                self._require_place(space, old, replacing=replacing)
                created = int(self._clock())
            entry = Entry(namespace, name or id_, id_, content.sample_count, len(content.columns), content.nbytes, created)
            await self._store(entry, content, arrival, old)
            space.put(entry)
            return entry, known

    def _require_place(self, space: _Namespace, old: Entry | None, *, replacing: bool) -> None:
        most = self._settings.max_datasets
        if old is not None and not replacing:
            raise NameTakenError(
                f"the name {old.name[:80]!r} stands for another dataset: choose another name, or replace it", dataset=old.name
            )
        if old is None and len(space.entries) >= most:
            said = f"there are {len(space.entries):,} datasets already, and max_datasets is {most:,}: delete some"
            raise LimitError(said, limit="max_datasets", value=len(space.entries) + 1, allowed=most)

    async def _store(self, entry: Entry, content: Content, arrival: Arrival, old: Entry | None) -> None:
        try:
            await in_thread(self._adopt, content, arrival)
            gone = await self._state.database.run("a dataset", lambda sql: _insert(sql, entry, content, arrival.folder, old))
        except BaseException:
            await self._discard_unused({column.sha256 for column in content.columns})
            raise
        await self._forget(*gone)

    def _adopt(self, content: Content, arrival: Arrival) -> None:
        with room_for("a dataset"):
            for column in content.columns:
                self._state.files.adopt(arrival.parts, arrival.numbers[column.name], column.sha256)
            self._state.files.settle()

    async def _delete(self, namespace: str, name_or_id: str) -> None:
        async with self._changing:
            space, entry = self._namespace(namespace), self.find(namespace, name_or_id)
            names = [entry.name] if entry.name == name_or_id else list(space.by_id[entry.id])
            gone = await self._state.database.run("deleting a dataset", lambda sql: _delete(sql, namespace, names, entry.id), freeing=True)
            for name in names:
                space.drop(name)
            await self._forget(*gone)

    async def _forget(self, contents: Sequence[str], columns: Sequence[str]) -> None:
        for id_ in contents:
            self._resident.pop(id_, None)
        await self._discard(columns)

    async def _discard_unused(self, columns: set[str]) -> None:
        with contextlib.suppress(NoRoomError, DamagedError):  # then the next start does it
            await self._discard(await self._state.database.run("deleting a dataset", lambda sql: _unused(sql, columns)))

    async def _discard(self, columns: Sequence[str]) -> None:
        try:
            await in_thread(self._state.files.remove, columns)
        except OSError:
            log.exception("files of columns that nobody needs can't be deleted; the next start tries it again")


# The database. Functions of transactions, which run in its thread.


def _entries(sql: sqlite3.Connection) -> list[Entry]:
    sizes = {id_: (content.sample_count, len(content.columns), content.nbytes) for id_, content in _contents(sql)}
    rows = sql.execute("SELECT namespace, name, content, created FROM datasets").fetchall()
    return [Entry(namespace, name, id_, *sizes[id_], created) for namespace, name, id_, created in rows]


def _contents(sql: sqlite3.Connection, ids: Sequence[str] | None = None) -> Iterator[tuple[str, Content]]:
    if ids is None:
        ids = [row[0] for row in sql.execute("SELECT id FROM contents")]
    for id_ in ids:
        row = sql.execute("SELECT sample_count FROM contents WHERE id = ?", [id_]).fetchone()
        if row is not None:
            yield id_, Content(row[0], tuple(_columns(sql, id_)))


def _columns(sql: sqlite3.Connection, id_: str) -> Iterator[Column]:
    for name, dtype, shape, sha256 in sql.execute(
        "SELECT name, dtype, shape, sha256 FROM columns WHERE content = ? ORDER BY position", [id_]
    ):
        yield Column(name, dtype, tuple(int(extent) for extent in shape.split(",") if extent), sha256)


def _insert(sql: sqlite3.Connection, entry: Entry, content: Content, folder: str, old: Entry | None) -> Gone:
    if not sql.execute("SELECT 1 FROM contents WHERE id = ?", [entry.id]).fetchone():
        sql.execute("INSERT INTO contents VALUES (?, ?)", [entry.id, entry.sample_count])
        rows = [(entry.id, position, *_fields(column)) for position, column in enumerate(content.columns)]
        sql.executemany("INSERT INTO columns VALUES (?, ?, ?, ?, ?, ?)", rows)
    sql.execute("INSERT OR REPLACE INTO datasets VALUES (?, ?, ?, ?)", [entry.namespace, entry.name, entry.id, entry.created])
    sql.execute("DELETE FROM uploads WHERE folder = ?", [folder])
    return _without(sql, old.id) if old is not None else ([], [])


def _delete(sql: sqlite3.Connection, namespace: str, names: Sequence[str], id_: str) -> Gone:
    sql.executemany("DELETE FROM datasets WHERE namespace = ? AND name = ?", [(namespace, name) for name in names])
    return _without(sql, id_)


def _without(sql: sqlite3.Connection, id_: str) -> Gone:
    """Forgets a content that no name stands for."""
    if sql.execute("SELECT 1 FROM datasets WHERE content = ?", [id_]).fetchone():
        return [], []
    columns = {column.sha256 for column in _columns(sql, id_)}
    sql.execute("DELETE FROM contents WHERE id = ?", [id_])
    return [id_], _unused(sql, columns)


def _unused(sql: sqlite3.Connection, columns: Iterable[str]) -> list[str]:
    """Those of some columns that no content has."""
    return [sha256 for sha256 in columns if not sql.execute("SELECT 1 FROM columns WHERE sha256 = ?", [sha256]).fetchone()]
