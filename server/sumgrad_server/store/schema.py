"""The tables of the database, and how each version of them becomes the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TypeAlias

APPLICATION_ID = 0x53474D44
"""Marks a SQLite file as ours ("SGMD")."""

Step: TypeAlias = str
"""Statements, each with a semicolon behind it, and none within."""

STEPS: Sequence[Step] = (
    """
    -- Graphs: their bytes and then those of their source maps, in parts, for SQLite takes at most 10^9 bytes at once.
    -- `sha256` is that of all of them, `number` grows with each one.
    CREATE TABLE graphs (
        id TEXT PRIMARY KEY, number INTEGER NOT NULL, graph_bytes INTEGER NOT NULL, source_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL
    );
    CREATE TABLE graph_parts (
        graph TEXT NOT NULL REFERENCES graphs(id) ON DELETE CASCADE, part INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (graph, part)
    );

    -- Contents by id, whoever has them, and names for them in namespaces.
    CREATE TABLE contents (id TEXT PRIMARY KEY, sample_count INTEGER NOT NULL);
    CREATE TABLE columns (
        content TEXT NOT NULL REFERENCES contents(id) ON DELETE CASCADE, position INTEGER NOT NULL,
        name TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (content, position)
    ) WITHOUT ROWID;
    CREATE INDEX columns_by_sha256 ON columns (sha256);
    CREATE TABLE datasets (
        namespace TEXT NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL REFERENCES contents(id), created INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID;
    CREATE INDEX datasets_by_content ON datasets (content);

    -- Unfinished uploads. `folder` holds what has come of each column, `columns` says as JSON what they are.
    CREATE TABLE uploads (
        folder TEXT PRIMARY KEY, namespace TEXT NOT NULL, upload_id TEXT NOT NULL, columns TEXT NOT NULL, UNIQUE (namespace, upload_id)
    ) WITHOUT ROWID;
    """,
)
"""STEPS[n] makes version n + 1 of version n; version 0 is an empty file."""


class NewerError(Exception):
    """The database is of a version that this server doesn't know."""


class ForeignError(Exception):
    """A database, but not of this service."""


def upgrade(connection: sqlite3.Connection, steps: Sequence[Step] = STEPS) -> None:
    """Brings a database to the newest version, each step whole or not at all. Raises NewerError, ForeignError."""
    version, tables = _number(connection, "PRAGMA user_version"), _number(connection, "SELECT count(*) FROM sqlite_schema")
    if _number(connection, "PRAGMA application_id") != (APPLICATION_ID if tables else 0):
        raise ForeignError
    if version > len(steps):
        raise NewerError(version)
    for number in range(version, len(steps)):
        _take(connection, steps[number], number + 1)


def _take(connection: sqlite3.Connection, step: Step, version: int) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for statement in step.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")


def _number(connection: sqlite3.Connection, query: str) -> int:
    found: int = connection.execute(query).fetchone()[0]
    return found
