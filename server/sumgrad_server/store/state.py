"""The state of a server, opened and closed: a database and the files of columns, in a state directory or without one."""

from __future__ import annotations

from pathlib import Path

from ..faults import DamagedError, NoRoomError
from ..threads import in_thread
from .database import IN_MEMORY, Database, StateError
from .directory import COLUMNS, DATABASE, UPLOADS, Directory
from .files import Files, NamedFiles, UnnamedFiles
from .room import room_for


class State:
    """`database` and `files`, once it is open."""

    database: Database
    files: Files

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path is not None else None
        self._directory: Directory | None = None

    @property
    def durable(self) -> bool:
        """Whether it outlives the server."""
        return self._path is not None

    async def open(self) -> None:
        """Takes the directory, checks the database and deletes what a server that died left unfinished. Raises StateError."""
        if self._path is not None:
            self._directory = await in_thread(Directory, self._path)
        try:
            with room_for("the state of the server"):
                await self._open()
        except BaseException as error:
            await self.close()
            if isinstance(error, OSError | NoRoomError | DamagedError):
                raise StateError(f"the state directory {self._path} can't be used: {error}") from error
            raise

    async def _open(self) -> None:
        directory = self._directory
        self.database = Database(IN_MEMORY if directory is None else directory.path / DATABASE)
        await self.database.open()
        if directory is None:
            self.files = UnnamedFiles()
            return
        await in_thread(directory.make_folders)
        self.files = NamedFiles(directory.path / COLUMNS, directory.path / UPLOADS)
        await self._clean()

    async def _clean(self) -> None:
        folders, columns = await self.database.run(
            "looking at the state",
            lambda sql: (
                {row[0] for row in sql.execute("SELECT folder FROM uploads")},
                {row[0] for row in sql.execute("SELECT sha256 FROM columns")},
            ),
        )
        await in_thread(self.files.clean, folders, columns)

    async def close(self) -> None:
        """Closes the database, and lets other servers have the directory."""
        if hasattr(self, "database"):
            await self.database.close()
        if self._directory is not None:
            self._directory.close()
