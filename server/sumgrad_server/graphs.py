"""The graphs that were registered: a bounded store by id, the least recently used dropped first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from .faults import UnknownGraphError
from .pool import SharedGraph
from .tasks import Signature


def graph_id(graph: bytes) -> str:
    """The name of a graph: SHA-256 of its bytes, in lowercase hexadecimal."""
    return hashlib.sha256(graph).hexdigest()


@dataclass(frozen=True, eq=False)
class StoredGraph:
    """A graph that was checked: where its bytes lie, and what it takes and gives."""

    shared: SharedGraph
    signature: Signature


class GraphStore:
    """At most `max_graphs` graphs of together `max_bytes` bytes; the last one put is kept whatever its size."""

    def __init__(self, max_graphs: int, max_bytes: int) -> None:
        self._max_graphs, self._max_bytes = max_graphs, max_bytes
        self._graphs: OrderedDict[str, StoredGraph] = OrderedDict()
        self.nbytes = 0

    def find(self, name: str) -> StoredGraph | None:
        """The graph of this id, if it is here."""
        found = self._graphs.get(name)
        if found is not None:
            self._graphs.move_to_end(name)
        return found

    def get(self, name: str) -> StoredGraph:
        """The graph of this id. Raises UnknownGraphError."""
        found = self.find(name)
        if found is None:
            raise UnknownGraphError(name)
        return found

    def stored(self) -> list[StoredGraph]:
        """All of them, the last used first."""
        return list(reversed(self._graphs.values()))

    def put(self, graph: StoredGraph) -> None:
        """Keeps a graph, unless it is here already."""
        if self.find(graph.shared.ref.id) is not None:
            return
        self._graphs[graph.shared.ref.id] = graph
        self.nbytes += graph.shared.arena.nbytes
        while len(self._graphs) > max(1, self._max_graphs) or (self.nbytes > self._max_bytes and len(self._graphs) > 1):
            _, dropped = self._graphs.popitem(last=False)
            self.nbytes -= dropped.shared.arena.nbytes
