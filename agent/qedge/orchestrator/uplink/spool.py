"""What waits for the uplink, in the database: functions for the store. Of each thing only the newest stands there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from qedge.engine import ledger
from qedge.store import meta
from qedge.wire.ledger import JobRecord

STATE: Final = "state"
RESULT: Final = "result"
_FOLLOWED: Final = "uplink-followed"
_MARGIN_NS: Final = 30 * 1_000_000_000
"""Ends of jobs come to the spool within this time; what is told twice counts once."""

Row = tuple[int, str, str, bytes]
"""Number, kind, key and payload: an envelope of the shared state, or nothing for a job, which has its own table."""


def put(connection: sqlite3.Connection, entries: Iterable[tuple[str, str, bytes]], most: int, utc_ns: int = 0) -> int:
    """Let things wait, each at the end; returns how many old results were given up for that.

    `utc_ns`: all jobs that ended before it wait, or have waited; 0: nothing is known of that.
    """
    connection.executemany("INSERT OR REPLACE INTO uplink_spool (kind, key, payload) VALUES (?, ?, ?)", entries)
    if utc_ns:
        meta.put(connection, _FOLLOWED, str(utc_ns))
    return _bound(connection, most)


def catch_up(connection: sqlite3.Connection, most: int, utc_ns: int, but_of: str) -> int:
    """Let the results of jobs wait that ended when nobody followed them, as right before a kill; those of peers and of
    the client `but_of` apart. Returns how many were given up for that; what waited already stays where it is.
    """
    followed_utc_ns = meta.find(connection, _FOLLOWED)
    if followed_utc_ns is not None:
        connection.execute(
            "INSERT OR IGNORE INTO uplink_spool (kind, key, payload) SELECT ?, id, x'' FROM jobs"
            " WHERE ended_utc_ns > max(0, ?) AND client NOT LIKE 'node:%' AND client <> ? ORDER BY ended_utc_ns",
            (RESULT, int(followed_utc_ns) - _MARGIN_NS, but_of),
        )
    meta.put(connection, _FOLLOWED, str(utc_ns))
    return _bound(connection, most)


def _bound(connection: sqlite3.Connection, most: int) -> int:
    over = waiting(connection) - most
    if over <= 0:
        return 0
    return connection.execute(
        "DELETE FROM uplink_spool WHERE seq IN (SELECT seq FROM uplink_spool WHERE kind = ? ORDER BY seq LIMIT ?)",
        (RESULT, over),
    ).rowcount


def waiting(connection: sqlite3.Connection) -> int:
    """Count what waits."""
    return int(connection.execute("SELECT count(*) FROM uplink_spool").fetchone()[0])


def first(connection: sqlite3.Connection, kind: str, most: int) -> list[Row]:
    """Return what has waited longest."""
    return connection.execute(
        "SELECT seq, kind, key, payload FROM uplink_spool WHERE kind = ? ORDER BY seq LIMIT ?", (kind, most)
    ).fetchall()


def sent(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """Forget what the broker has. What was said anew meanwhile has another number, and stays."""
    connection.executemany("DELETE FROM uplink_spool WHERE seq = ?", [(number,) for number in numbers])


def record(connection: sqlite3.Connection, me: str, job_id: str) -> JobRecord | None:
    """Return the record of a job that ended; None where it is forgotten already."""
    row, view = ledger.row(connection, job_id), ledger.view(connection, job_id)
    if row is None or view is None or not view.ended_utc_ns:
        return None
    # a job that never was another node's business has this one as its only holder
    holders, epoch = (row.holders, row.epoch) if row.holders else ((me,), 0)
    return JobRecord(row.id, epoch, holders, row.client, row.submission, view, row.expires_utc_ns, row.digest)
