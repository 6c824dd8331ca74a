"""The state directory: whose it is, what its database may be, and what becomes of a full disk."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sumgrad_server.faults import DamagedError, NoRoomError
from sumgrad_server.store import schema
from sumgrad_server.store.database import IN_MEMORY, Database, StateError
from sumgrad_server.store.room import room_for
from sumgrad_server.store.state import State

Answer = TypeVar("Answer")


def with_state(path: Path | None, work: Callable[[State], Awaitable[Answer]]) -> Answer:
    """What some work with a state gives."""

    async def run() -> Answer:
        state = State(None if path is None else str(path))
        await state.open()
        try:
            return await work(state)
        finally:
            await state.close()

    return asyncio.run(run())


async def nothing(_: State) -> None:
    """Opening and closing is enough."""


def refusal(path: Path) -> str:
    """Why a directory is refused."""
    with pytest.raises(StateError) as refused:
        with_state(path, nothing)
    return str(refused.value)


def test_a_new_directory_is_its_owners_alone(tmp_path: Path) -> None:
    """The directory and what lies in it can be read by the server's user only, also if it was there before."""
    with_state(tmp_path / "new" / "state", nothing)
    (tmp_path / "there").mkdir(mode=0o755)
    with_state(tmp_path / "there", nothing)
    for path in (tmp_path / "new" / "state", tmp_path / "there"):
        assert path.stat().st_mode & 0o777 == 0o700
        assert {entry.name for entry in path.iterdir()} == {"lock", "state.sqlite3", "reserve", "columns", "uploads", "runs"}


def test_one_server_at_a_time(tmp_path: Path) -> None:
    """A second server is told that another one uses the directory; when that has ended, it may have it."""

    async def second(_: State) -> None:
        with pytest.raises(StateError, match="another server uses the state directory"):
            await State(str(tmp_path)).open()

    with_state(tmp_path, second)
    with_state(tmp_path, nothing)


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """A directory with other files in it, or one whose database is missing, is refused, and nothing in it is changed."""
    (tmp_path / "thesis.tex").write_text("42")
    assert "is not empty, and holds no state.sqlite3" in refusal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    state = tmp_path / "state"
    with_state(state, nothing)
    (state / "state.sqlite3").unlink()
    assert "is not empty, and holds no state.sqlite3" in refusal(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Whoever owns the directory could change what is in it."""
    path = tmp_path / "state"
    path.mkdir()
    os.chown(path, 12345, -1)
    assert "belongs to another user" in refusal(path)


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    """A file in its place is named."""
    path = tmp_path / "state"
    path.write_text("")
    assert str(path) in refusal(path)


def damaged(path: Path, change: Callable[[bytearray], None]) -> None:
    """Changes a database's bytes."""
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.__setitem__(slice(0, 16), b"not a database!!"),
        lambda data: data.__setitem__(slice(4096, 12288), b"\xff" * 8192),
        lambda data: data.__delitem__(slice(len(data) // 2, None)),
    ],
)
def test_a_damaged_database_is_refused_by_name(tmp_path: Path, change: Any) -> None:
    """The error names the file and says what to do; the file stays as it is."""
    with_state(tmp_path, nothing)
    database = tmp_path / "state.sqlite3"
    damaged(database, change)
    before = database.read_bytes()
    said = refusal(tmp_path)
    assert str(database) in said
    assert "restore it from a backup" in said
    assert database.read_bytes() == before


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    """Another program's SQLite file is not taken for ours."""
    path = tmp_path / "state.sqlite3"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    assert "not one of sumgrad" in refusal(tmp_path)


def test_a_newer_format_is_refused_by_version(tmp_path: Path) -> None:
    """A server does not touch what a later one wrote."""
    with_state(tmp_path, nothing)
    connection = sqlite3.connect(tmp_path / "state.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "has version 99 of the format" in refusal(tmp_path)


OLD = ("CREATE TABLE notes (text TEXT);", "ALTER TABLE notes ADD COLUMN author TEXT; UPDATE notes SET author = 'nobody';")


def opened(path: Path, steps: tuple[str, ...], *statements: str) -> list[Any]:
    """Rows of the last statement in a database that was opened by a server that knows these steps."""

    async def run() -> list[Any]:
        database = Database(path, steps)
        await database.open()
        try:
            return [await database.run("a test", lambda sql, text=text: sql.execute(text).fetchall()) for text in statements][-1]
        finally:
            await database.close()

    return asyncio.run(run())


def test_an_older_format_is_upgraded_in_place(tmp_path: Path) -> None:
    """Steps that a database has not seen are taken when it is opened, once, and what was in it is still there."""
    path = tmp_path / "state.sqlite3"
    opened(path, OLD[:1], "INSERT INTO notes VALUES ('old')")
    for _ in range(2):
        assert opened(path, OLD, "SELECT * FROM notes") == [("old", "nobody")]
    assert opened(path, OLD, "PRAGMA user_version") == [(2,)]


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    """A step is taken whole or not at all, and the version with it."""
    path = tmp_path / "state.sqlite3"
    opened(path, OLD[:1], "INSERT INTO notes VALUES ('old')")
    with pytest.raises(StateError):
        opened(path, (OLD[0], "DELETE FROM notes; CREATE nonsense;"), "SELECT 1")
    assert opened(path, OLD[:1], "SELECT * FROM notes") == [("old",)]


def test_the_format_has_one_version_a_step() -> None:
    """The newest format is what all steps together make, from an empty file."""
    assert opened(IN_MEMORY, tuple(schema.STEPS), "PRAGMA user_version") == [(len(schema.STEPS),)]


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """What a transaction did before its error is undone, and the database goes on."""

    async def run(state: State) -> None:
        def fails(sql: sqlite3.Connection) -> None:
            sql.execute("INSERT INTO contents VALUES ('a', 1)")
            raise KeyError

        with pytest.raises(KeyError):
            await state.database.run("a test", fails)
        assert await state.database.run("a test", lambda sql: sql.execute("SELECT * FROM contents").fetchall()) == []

    with_state(tmp_path, run)


def test_what_a_dead_server_left_unfinished_is_deleted(tmp_path: Path) -> None:
    """Files that the database knows nothing of are gone after the next start."""
    with_state(tmp_path, nothing)
    (tmp_path / "uploads" / "dead").mkdir()
    (tmp_path / "uploads" / "dead" / "0").write_text("half")
    (tmp_path / "columns" / ("0" * 64)).write_text("nobody's")
    (tmp_path / "columns" / ("0" * 64 + ".new")).write_text("nobody's")
    with_state(tmp_path, nothing)
    assert not list((tmp_path / "uploads").iterdir())
    assert not list((tmp_path / "columns").iterdir())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
    ],
)
def test_lack_of_room_says_what_to_do(number: int, said: str) -> None:
    """Each error of the system that means lack of room names what is full and a remedy."""
    with pytest.raises(NoRoomError, match=f"no room for a test: .*{said}"), room_for("a test"):
        raise OSError(number, os.strerror(number))


def test_other_errors_stay_what_they_are() -> None:
    """An error that room has nothing to do with is not called one of room."""
    with pytest.raises(PermissionError), room_for("a test"):
        raise PermissionError
    with pytest.raises(sqlite3.IntegrityError), room_for("a test"):
        raise sqlite3.IntegrityError


def test_a_full_database_is_lack_of_room(tmp_path: Path) -> None:
    """When SQLite finds no room, the caller gets NoRoomError, and the database goes on with what it has."""

    async def run(state: State) -> None:
        def fill(sql: sqlite3.Connection) -> None:
            sql.execute("INSERT INTO contents VALUES (hex(randomblob(1000000)), 1)")

        await state.database.run("a test", lambda sql: sql.execute("INSERT INTO contents VALUES ('a', 1)"))
        await state.database.run("a test", lambda sql: sql.execute("PRAGMA max_page_count = 40"))
        with pytest.raises(NoRoomError, match="no room for a graph"):
            await state.database.run("a graph", fill)
        assert await state.database.run("a test", lambda sql: sql.execute("SELECT * FROM contents").fetchall()) == [("a", 1)]

    with_state(tmp_path, run)


def test_damage_that_shows_later_is_told(tmp_path: Path) -> None:
    """A database that is damaged under the server gives DamagedError."""

    def corrupt(_: sqlite3.Connection) -> None:
        broken = sqlite3.connect(tmp_path / "other")
        broken.execute("SELECT * FROM sqlite_schema")

    (tmp_path / "other").write_bytes(b"no database at all" * 100)

    async def run(state: State) -> None:
        with pytest.raises(DamagedError, match="damaged"):
            await state.database.run("a test", corrupt)

    with_state(None, run)
