"""Kernels by graph: compiled once, kept in memory and on disk."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from . import Job
from .artifact import build
from .cache import DiskCache
from .kernel import Kernel
from .lanes import PRECISIONS
from .machine import Machine, host
from .version import VERSION

Derive = Callable[[], Job]
"""() -> what to compile: not called where the code is known already."""


class Compiler:
    """Compiles graphs; keeps at most `most` kernels in memory, the least recently used dropped first, and all of them in a directory, if there is one."""

    def __init__(self, directory: Path | None = None, most: int = 128, machine: Machine | None = None) -> None:
        self.machine = machine or host()
        self._most = most
        self._disk = DiskCache(directory)
        self._kernels: OrderedDict[str, Kernel] = OrderedDict()
        self._lock = threading.Lock()
        self.max_seconds: float | None = None
        """How long one compilation may take; no limit if None."""
        self.compiled = 0
        """Graphs that were compiled, not found in a cache."""

    def kernel(self, name: str, precision: str, derive: Derive) -> Kernel:
        """The kernel of this name: what is compiled, apart from precision and machine. Raises LimitError if compiling takes too long."""
        key = self._key(name, precision)
        with self._lock:
            if key not in self._kernels:
                self._kernels[key] = self._load(key, precision, derive)
                while len(self._kernels) > self._most:
                    self._kernels.popitem(last=False)
            self._kernels.move_to_end(key)
            return self._kernels[key]

    def clear(self) -> None:
        """Forgets the kernels in memory."""
        with self._lock:
            self._kernels.clear()

    def _key(self, name: str, precision: str) -> str:
        parts = (name, precision, self.machine.cpu, self.machine.features, VERSION)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _load(self, key: str, precision: str, derive: Derive) -> Kernel:
        artifact = self._disk.get(key)
        if artifact is None:
            artifact = build(derive(), PRECISIONS[precision], self.machine, self.max_seconds)
            self.compiled += 1
            self._disk.put(key, artifact)
        return Kernel(artifact)
