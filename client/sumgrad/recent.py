"""A small memory of what was made last, so that a training loop encodes its graph once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")


class Recent(Generic[Made]):
    """The last `size` things made, by the identity of what they were made from.

    It holds on to the sources, so that their ids stay theirs. Safe to share between threads; two that ask at once may both make.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, tuple[tuple[Any, ...], Made]] = OrderedDict()

    def get(self, sources: tuple[Any, ...], make: Callable[[], Made], *labels: Hashable) -> Made:
        """What was made from these sources under these labels, or else what `make` makes of them now."""
        key = (labels, tuple(map(id, sources)))
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key][1]
        made = make()
        with self._lock:
            self._made[key] = (sources, made)
            while len(self._made) > self._size:
                self._made.popitem(last=False)
        return made
