"""SQLite in a thread of its own: transactions that are on the disk when they are done, and never in the way of the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..faults import NoRoomError
from ..threads import to_its_end
from . import schema
from .reserve import RESERVE, Reserve
from .room import room_for

Answer = TypeVar("Answer")

IN_MEMORY = Path(":memory:")


class StateError(ValueError):
    """The state directory can't be used; the message says why, and what to do."""


class Database:
    """A database file, or one in memory that is gone with the process."""

    def __init__(self, path: Path, steps: Sequence[schema.Step] = schema.STEPS) -> None:
        self.path = path
        self._steps = steps
        self._reserve = Reserve(None if path == IN_MEMORY else path.with_name(RESERVE))
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._connection: sqlite3.Connection

    async def open(self) -> None:
        """Opens, checks and upgrades it. Raises StateError."""
        await self._in_thread(self._open)

    async def run(self, what: str, work: Callable[[sqlite3.Connection], Answer], *, freeing: bool = False) -> Answer:
        """What a transaction gives. A caller who is cancelled waits for its end. Raises NoRoomError, DamagedError, with `what` it is for.

        One that is `freeing` room also succeeds on a full disk.
        """
        return await self._in_thread(partial(self._transaction, what, work, freeing=freeing))

    async def close(self) -> None:
        """Closes it, once what is under way is done."""
        await self._in_thread(self._close)
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[..., Answer], *args: object) -> Answer:
        return await to_its_end(asyncio.get_running_loop().run_in_executor(self._thread, work, *args))

    def _open(self) -> None:
        try:
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            self._prepare(self._connection)
        except schema.NewerError as error:
            raise StateError(f"{self.path} has version {error} of the format, and this server knows none after {len(self._steps)}: "
                             "use the sumgrad that wrote it, or a newer one") from error  # fmt: skip
        except schema.ForeignError as error:
            raise StateError(f"{self.path} is a database, but not one of sumgrad: give another state_dir") from error
        except sqlite3.Error as error:
            raise StateError(self._broken(error)) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        damage = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
        if damage != ["ok"]:
            raise StateError(self._broken("; ".join(damage)))
        for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {setting}")
        schema.upgrade(connection, self._steps)

    def _broken(self, why: object) -> str:
        return f"the database {self.path} can't be used: {why}; restore it from a backup, or move the state directory away to start afresh"

    def _transaction(self, what: str, work: Callable[[sqlite3.Connection], Answer], *, freeing: bool) -> Answer:
        try:
            return self._attempt(what, work)
        except NoRoomError:
            if not freeing:
                raise
            self._reserve.give_up()
            return self._attempt(what, work)
        finally:
            self._reserve.hold()

    def _attempt(self, what: str, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        with room_for(what), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            return work(self._connection)

    def _close(self) -> None:
        self._reserve.close()
        if hasattr(self, "_connection"):
            self._connection.close()
