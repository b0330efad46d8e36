"""Small values that a database keeps by name, in any transaction."""

from __future__ import annotations

import sqlite3


def find(connection: sqlite3.Connection, key: str) -> str | None:
    """Return a value, or nothing where there is none."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return str(row[0]) if row is not None else None


def put(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Keep a value in the place of an earlier one."""
    connection.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (key, value),
    )


def age_ns(connection: sqlite3.Connection, key: str) -> int:
    """Return the time by which rows of a kind age: how long the node ran since there are any, as far as it was counted.

    No wall clock has a part in it: a step of it would erase what somebody still needs, or keep it for ever.
    """
    return int(find(connection, key) or 0)


def grow_older(connection: sqlite3.Connection, key: str, passed_ns: int) -> int:
    """Count that some time passed; returns the age."""
    aged_ns = age_ns(connection, key) + max(0, passed_ns)
    put(connection, key, str(aged_ns))
    return aged_ns
