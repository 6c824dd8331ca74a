"""What was used last, kept: a bounded dictionary."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class Recent(Generic[Key, Kept]):
    """At most so many values by key, the least recently used dropped first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Kept]) -> Kept:
        """The value of this key, made if it is not here."""
        found = self._kept.get(key)
        if found is None:
            found = make()
            self.put(key, found)
        self._kept.move_to_end(key)
        return found

    def find(self, key: Key) -> Kept | None:
        """The value of this key, if it is here."""
        return self._kept.get(key)

    def put(self, key: Key, value: Kept) -> None:
        """Keeps a value."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forgets them all."""
        self._kept.clear()
