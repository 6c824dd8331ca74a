"""Where in the user's program a node was made."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import CodeType, FrameType

import numpy as np
import numpy.typing as npt

Place = tuple[str, int]
"""File name and line, counted from 1."""

_OURS = ("sumgrad", "sumgrad_engine")
_modules: dict[str, bool] = {}
_places: dict[tuple[CodeType, int], Place] = {}


def caller() -> Place | None:
    """The innermost line of the call stack that is not in this library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        ours = _modules.get(module)
        if ours is None:
            ours = _modules[module] = module.partition(".")[0] in _OURS
        if not ours:
            return _place(frame)
        frame = frame.f_back
    return None


def _place(frame: FrameType) -> Place:
    # A line that makes a million nodes should make one tuple: places are shared by code object and instruction.
    key = (frame.f_code, frame.f_lasti)
    place = _places.get(key)
    if place is None:
        if len(_places) > 100_000:
            _places.clear()
        place = _places[key] = (frame.f_code.co_filename, frame.f_lineno)
    return place


def describe(place: Place | None) -> str | None:
    """A place as "train.py:12"."""
    return f"{place[0]}:{place[1]}" if place else None


@dataclass(frozen=True, eq=False)
class Sources:
    """The lines of all nodes of a graph: `file` is 0 where unknown, else 1 + the index into `files`; `line` counts from 1."""

    files: tuple[str, ...]
    file: npt.NDArray[np.uint32]
    line: npt.NDArray[np.uint32]

    def place(self, node: int) -> Place | None:
        """File and line of a node."""
        if node >= len(self.file) or not 0 < self.file[node] <= len(self.files):
            return None
        return self.files[self.file[node] - 1], int(self.line[node])

    def describe(self, node: int) -> str | None:
        """The place of a node as "train.py:12"."""
        return describe(self.place(node))


def gather(places: list[Place | None]) -> Sources | None:
    """The sources of a graph from the place of each node; None if no place is known."""
    files: dict[str, int] = {}
    file = np.zeros(len(places), np.uint32)
    line = np.zeros(len(places), np.uint32)
    for node, place in enumerate(places):
        if place is not None:
            file[node] = files.setdefault(place[0], len(files) + 1)
            line[node] = place[1]
    return Sources(tuple(files), file, line) if files else None
