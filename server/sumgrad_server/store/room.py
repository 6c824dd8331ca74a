"""A full disk, or too many open files: errors that say what is full and what to do, whoever met it."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterator

from ..faults import DamagedError, NoRoomError

_FULL = {
    errno.ENOSPC: "the disk is full: free some of it, or delete datasets",
    errno.EDQUOT: "the disk quota is used up: raise it, or delete datasets",
    errno.EFBIG: "the largest size of a file is reached: raise the limit on file sizes (ulimit -f)",
    errno.EMFILE: "the server has too many open files: raise its limit (ulimit -n), or come back when it does less",
    errno.ENFILE: "the machine has too many open files: raise its limit (fs.file-max), or come back when it does less",
}
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_ROOM = frozenset({"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE", "SQLITE_CANTOPEN"})
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})


@contextlib.contextmanager
def room_for(what: str) -> Iterator[None]:
    """Turns what the system and SQLite say of lacking room into NoRoomError, and of a damaged database into DamagedError.

    The error's detail `full` is "disk" where deleting something helps.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        full = "disk" if error.errno in _DISK else None
        raise NoRoomError(f"there is no room for {what}: {_FULL[error.errno]}", full=full) from error
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(tuple(_NO_ROOM)):
            said = f"there is no room for {what}: the disk is full or fails ({error}): free some of that which holds the state directory"
            raise NoRoomError(said, full="disk") from error
        if name.startswith(tuple(_DAMAGED)):
            raise DamagedError(f"the database of the state directory is damaged ({error}): restore it from a backup") from error
        raise
