"""What waits for the uplink, in the database: functions for the store. Of each thing only the newest stands there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from qedge.engine import ledger
from qedge.wire.ledger import JobRecord

STATE: Final = "state"
RESULT: Final = "result"
Row = tuple[int, str, str, bytes]
"""Number, kind, key and payload: an envelope of the shared state, or nothing for a job, which has its own table."""


def put(connection: sqlite3.Connection, entries: Iterable[tuple[str, str, bytes]], most: int) -> int:
    """Let things wait, each at the end; returns how many old results were given up for that."""
    connection.executemany("INSERT OR REPLACE INTO uplink_spool (kind, key, payload) VALUES (?, ?, ?)", entries)
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
