"""Pausing Python's collector of cycles."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused_collector() -> Iterator[None]:
    """A pass over a graph makes millions of objects, without cycles, that live on: the collector would look at all of them again and again.

    For threads that overlap: the collector runs again, at the latest, when the last of them is done.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
