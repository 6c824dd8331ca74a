"""The server's own errors, beside those of the engine; status.py says what becomes of each on the wire.

SumgradError
├── LimitError
│   └── BusyError             a limit that others use up just now: coming back helps
├── UnknownGraphError         no such graph here (any more)
├── UnknownDatasetError       no such dataset, or upload, in the caller's namespace
├── NameTakenError            the name of a dataset or a run stands for another one
├── UnknownRunError           no such run in the caller's namespace
├── StaleStepError            a contribution to another step, or attempt, than the current one
├── SupersededError           another process has taken the seat of this member
├── LeftBehindError           the seat is given up: the lease ran out, or the step waited too long
├── DamagedError              bytes that are not what their checksum says
├── NoRoomError               the disk is full, or there are too many open files
├── UnauthenticatedError      no token, or an unknown one
├── PermissionDeniedError     a token that does not allow this
├── DrainingError             the server is going down
├── WorkersLostError          the work killed every worker that tried it
├── WrongVersionError         a worker of the cluster has another version of sumgrad
└── MalformedMessageError     bytes that are no message of this service
"""

from __future__ import annotations

import errno
import os

from sumgrad_engine.errors import LimitError, SumgradError

FILES_ERRORS = frozenset({errno.EMFILE, errno.ENFILE})
"""Too many open files: of this process, or of the whole machine."""
ROOM_ERRORS = FILES_ERRORS | {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM}


class BusyError(LimitError):
    """A limit that other requests use up just now: coming back helps."""


class UnknownGraphError(SumgradError):
    """No graph of this id here (any more): register it again."""

    def __init__(self, graph_id: str) -> None:
        shown = graph_id[:80]
        super().__init__(f"no graph {shown!r} is registered here (any more): register it and send the request again", graph_id=shown)

    def __reduce__(self) -> tuple[type[UnknownGraphError], tuple[str]]:
        return UnknownGraphError, (self.details["graph_id"],)


class DrainingError(SumgradError):
    """The server is going down and takes no new work."""

    def __init__(self, message: str = "the server is going down and takes no new work: ask another one, or come back") -> None:
        super().__init__(message)


class WorkersLostError(SumgradError):
    """A part of the work killed every worker that tried it."""


class WrongVersionError(SumgradError):
    """A worker of the cluster has another version of sumgrad."""


class MalformedMessageError(SumgradError, ValueError):
    """Bytes that are no message of this service."""


class UnknownDatasetError(SumgradError):
    """No such dataset, or upload, in the caller's namespace."""


class NameTakenError(SumgradError):
    """The name of a dataset or a run stands for another one."""


class UnknownRunError(SumgradError):
    """No such run in the caller's namespace."""


class StaleStepError(SumgradError):
    """A contribution to another step, or attempt, than the current one."""


class SupersededError(SumgradError):
    """Another process has taken the seat of this member."""


class LeftBehindError(SumgradError):
    """The seat is given up: the lease ran out, or the step waited too long."""


class BrokenRunError(SumgradError):
    """A run that can't go on after a fault of ours: until the server has read its journal again."""


class DamagedError(SumgradError):
    """Bytes that are not what their checksum says: on the way here, or on the disk."""


class NoRoomError(SumgradError):
    """The machine has no room: the disk is full, or there are too many open files."""


class UnauthenticatedError(SumgradError):
    """No token, or one that is not known."""


class PermissionDeniedError(SumgradError):
    """A token that does not allow this."""


def out_of_memory(allowed: int) -> LimitError:
    """The error of a computation that a worker had no memory for."""
    message = f"the computation needs more memory than a worker has (max_worker_bytes is {allowed}): cut the graph or its arrays"
    return LimitError(message, limit="max_worker_bytes", allowed=allowed)


def no_room(error: OSError) -> NoRoomError:
    """What a client is told of an error of the system that says that something is full."""
    if error.errno in FILES_ERRORS:
        return NoRoomError(
            f"the server has too many open files ({os.strerror(error.errno or 0)}): raise its limit (ulimit -n), or come back later"
        )
    place = f" at {error.filename}" if error.filename else ""
    return NoRoomError(f"the server's machine is full: {os.strerror(error.errno or 0)}{place}")
