"""The graphs that were registered: a bounded store by id, the least recently used dropped first; with a state directory, on the disk too."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .faults import DamagedError, UnknownGraphError
from .jobs import SharedGraph
from .settings import Settings
from .store.state import State
from .tasks import Signature
from .threads import in_thread, to_its_end, unblocking

PART_BYTES = 1 << 28


def graph_id(graph: bytes) -> str:
    """The name of a graph: SHA-256 of its bytes, in lowercase hexadecimal."""
    return hashlib.sha256(graph).hexdigest()


@dataclass(frozen=True, eq=False)
class StoredGraph:
    """A graph that was checked: where its bytes lie, and what it takes and gives."""

    shared: SharedGraph
    signature: Signature

    @property
    def id(self) -> str:
        """Its name."""
        return self.shared.ref.id

    @property
    def nbytes(self) -> int:
        """Size of the graph and its source map."""
        return self.shared.ref.graph_bytes + self.shared.ref.source_bytes


class HeldGraph(NamedTuple):
    """A graph that the server has; it is not in memory before somebody asks for it."""

    id: str
    nbytes: int
    graph: StoredGraph | None


class GraphStore:
    """At most `max_graphs` graphs of together `max_bytes` bytes; the last one put is kept whatever its size. Some may be on the disk alone."""

    def __init__(self, max_graphs: int, max_bytes: int) -> None:
        self._max_graphs, self._max_bytes = max_graphs, max_bytes
        self._graphs: OrderedDict[str, tuple[int, StoredGraph | None]] = OrderedDict()  # size, and the graph if it is in memory
        self.nbytes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._graphs

    def find(self, name: str) -> StoredGraph | None:
        """The graph of this id, if it is in memory."""
        found = self._graphs.get(name)
        if found is None:
            return None
        self._graphs.move_to_end(name)
        return found[1]

    def held(self) -> list[HeldGraph]:
        """All of them, the last used first."""
        return [HeldGraph(name, nbytes, graph) for name, (nbytes, graph) in reversed(self._graphs.items())]

    def put(self, graph: StoredGraph) -> list[str]:
        """Keeps a graph, unless it is here already. Gives the ids of those that had to go."""
        if self.find(graph.id) is not None:
            return []
        return self._put(graph.id, graph.nbytes, graph)

    def expect(self, name: str, nbytes: int) -> list[str]:
        """Takes note of a graph that is on the disk. Gives the ids of those that had to go."""
        return self._put(name, nbytes, None)

    def drop(self, name: str) -> None:
        """Forgets a graph."""
        self.nbytes -= self._graphs.pop(name, (0, None))[0]

    def _put(self, name: str, nbytes: int, graph: StoredGraph | None) -> list[str]:
        self.drop(name)
        self._graphs[name] = (nbytes, graph)
        self.nbytes += nbytes
        dropped = []
        while len(self._graphs) > max(1, self._max_graphs) or (self.nbytes > self._max_bytes and len(self._graphs) > 1):
            oldest = next(iter(self._graphs))
            self.drop(oldest)
            dropped.append(oldest)
        return dropped


class Graphs:
    """The graphs of a server. What was put survives the server, if it has a state directory."""

    def __init__(self, state: State, settings: Settings) -> None:
        self._state = state
        self._store = GraphStore(settings.max_graphs, settings.max_graph_bytes)
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Takes note of what is in the state, which is open."""
        known = await self._state.database.run("reading the graphs", lambda sql: sql.execute(_SIZES).fetchall())
        for name, nbytes in known:
            await self._delete(self._store.expect(name, nbytes))

    def find(self, name: str) -> StoredGraph | None:
        """The graph of this id, if it is in memory."""
        return self._store.find(name)

    def held(self) -> list[HeldGraph]:
        """All of them, the last used first."""
        return self._store.held()

    async def get(self, name: str, describe: Callable[[SharedGraph], Awaitable[Signature]]) -> StoredGraph:
        """The graph of this id; one that comes from the disk is described. Raises UnknownGraphError, DamagedError."""
        found = self._store.find(name)
        if found is not None:
            return found
        shared = await self._read(name)
        graph = StoredGraph(shared, await describe(shared))
        if name in self._store:
            self._store.put(graph)
        return self._store.find(name) or graph

    async def put(self, graph: StoredGraph) -> None:
        """Keeps a graph, unless it is here already. Raises NoRoomError."""
        await to_its_end(self._put(graph))

    async def _put(self, graph: StoredGraph) -> None:
        async with self._changing:
            if self._state.durable:
                await self._state.database.run("a graph", lambda sql: _insert(sql, graph))
            await self._delete(self._store.put(graph))

    async def _read(self, name: str) -> SharedGraph:
        data = await self._state.database.run("reading a graph", lambda sql: _read(sql, name)) if name in self._store else None
        if data is None:
            raise UnknownGraphError(name)
        graph, sources, digest = data
        if await unblocking(len(graph), _digest, graph, sources) != digest or await unblocking(len(graph), graph_id, graph) != name:
            async with self._changing:
                self._store.drop(name)
                await self._delete([name])
            raise DamagedError(f"graph {name} was damaged in {self._state.database.path}, and is dropped: register it again", graph_id=name)
        return await in_thread(SharedGraph.of, name, graph, sources)

    async def _delete(self, names: Sequence[str]) -> None:
        if names and self._state.durable:
            rows = [(name,) for name in names]
            await self._state.database.run("deleting graphs", lambda sql: sql.executemany(_DELETE, rows), freeing=True)


# The database. Functions of transactions, which run in its thread.

_SIZES = "SELECT id, graph_bytes + source_bytes FROM graphs ORDER BY number"
_DELETE = "DELETE FROM graphs WHERE id = ?"


def _insert(sql: sqlite3.Connection, graph: StoredGraph) -> None:
    data, sources = graph.shared.ref.split(graph.shared.arena.bytes)
    number = sql.execute("SELECT ifnull(max(number), 0) + 1 FROM graphs").fetchone()[0]
    sql.execute(_DELETE, [graph.id])
    sql.execute("INSERT INTO graphs VALUES (?, ?, ?, ?, ?)", [graph.id, number, len(data), len(sources), _digest(data, sources)])
    sql.executemany("INSERT INTO graph_parts VALUES (?, ?, ?)", [(graph.id, *part) for part in enumerate(_parts(data + sources))])


def _read(sql: sqlite3.Connection, name: str) -> tuple[bytes, bytes, str] | None:
    row = sql.execute("SELECT graph_bytes, sha256 FROM graphs WHERE id = ?", [name]).fetchone()
    if row is None:
        return None
    parts = sql.execute("SELECT data FROM graph_parts WHERE graph = ? ORDER BY part", [name])
    data = b"".join(part[0] for part in parts)
    return data[: row[0]], data[row[0] :], row[1]


def _parts(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PART_BYTES):
        yield data[start : start + PART_BYTES]


def _digest(graph: bytes, sources: bytes) -> str:
    digest = hashlib.sha256(graph)
    digest.update(sources)
    return digest.hexdigest()
