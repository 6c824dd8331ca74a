"""What workers give up. They compute what strangers send: should that ever get the better of one, little should be in its reach."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Mapping
from pathlib import Path

from . import landlock
from .settings import GIB, Settings

NEEDED = frozenset({"HOME", "LANG", "LANGUAGE", "PATH", "SUMGRAD_CACHE", "TMPDIR", "TZ", "XDG_CACHE_HOME"})
NEEDED_PREFIXES = ("COVERAGE_", "DYLD_", "LC_", "LD_", "MALLOC_", "MKL_", "OMP_", "OPENBLAS_", "PYTHON")
"""What tells Python, the loader and the libraries how to work."""
MOST_DESCRIPTORS = 1 << 16
"""Each column of a dataset that is mapped takes one."""


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the front's environment workers see: what they need, by name. Tokens, keys and whatever else is there for others stays behind."""
    return {name: value for name, value in environ.items() if name in NEEDED or name.startswith(NEEDED_PREFIXES)}


def harden(settings: Settings) -> None:
    """Gives up what a worker doesn't need, for good: as much of it as the system lets it. Before it starts threads, which share it then.

    No core dumps, which would hold clients' data; no file larger than shared memory may be; no programs with other rights; and on Linux with
    Landlock no changes to files but compiled code, no programs at all, no connections, and no signals to other processes.
    Reading files stays possible: Python loads modules as it goes. The number of processes is not limited: the kernel counts all of a user's.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, max(GIB, settings.max_shared_bytes))
    _limit(resource.RLIMIT_NOFILE, MOST_DESCRIPTORS)
    from sumgrad_engine.native.cache import (
        DiskCache,
    )  # with the compiler, for which the front, which asks for the environment only, has no use

    if landlock.no_new_privileges():
        code = DiskCache(code_directory(settings)).directory  # made, if it was not there
        with contextlib.suppress(OSError):  # a container's rules may forbid it
            landlock.restrict([] if code is None else [code])


def code_directory(settings: Settings) -> Path | None:
    """Where workers keep compiled code."""
    from sumgrad_engine.native.cache import default_directory

    if settings.cache_dir is None:
        return default_directory()
    return Path(settings.cache_dir) if settings.cache_dir else None


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard == resource.RLIM_INFINITY or hard > most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
