"""Incidents, boards of peers and accounts of trust in the database: functions that the store calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from qedge.security.incidents.model import IncidentState
from qedge.wire.incidents import IncidentView

_ENCODE = msgspec.msgpack.Encoder().encode
_VIEW = msgspec.msgpack.Decoder(IncidentView)


def write_incidents(connection: sqlite3.Connection, views: Sequence[IncidentView], most: int) -> None:
    """Write incidents down as they are now, and forget the oldest resolved ones above `most`.

    Ids of peers' incidents are what peers say: one that is there stays that of its node.
    """
    connection.executemany(
        "INSERT INTO incidents (id, node, subject, state, opened_utc_ns, ended_utc_ns, record)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " state = excluded.state, ended_utc_ns = excluded.ended_utc_ns, record = excluded.record"
        " WHERE node = excluded.node",
        [
            (view.id, view.node, view.subject, view.state, view.opened_utc_ns, view.ended_utc_ns, _ENCODE(view))
            for view in views
        ],
    )
    connection.execute(
        "DELETE FROM incidents WHERE ended_utc_ns > 0 AND id NOT IN"
        " (SELECT id FROM incidents WHERE ended_utc_ns > 0 ORDER BY ended_utc_ns DESC LIMIT ?)",
        (most,),
    )


def read_open(connection: sqlite3.Connection) -> list[IncidentView]:
    """Return all incidents that are not resolved, oldest first."""
    query = "SELECT record FROM incidents WHERE state <> ? ORDER BY opened_utc_ns, id"
    return [_VIEW.decode(row[0]) for row in connection.execute(query, (IncidentState.RESOLVED.value,))]


def read_newest(connection: sqlite3.Connection, limit: int) -> list[IncidentView]:
    """Return the newest incidents, resolved or not."""
    query = "SELECT record FROM incidents ORDER BY opened_utc_ns DESC, id DESC LIMIT ?"
    return [_VIEW.decode(row[0]) for row in connection.execute(query, (limit,))]


def read_one(connection: sqlite3.Connection, incident_id: str) -> IncidentView | None:
    """Return one incident."""
    row = connection.execute("SELECT record FROM incidents WHERE id = ?", (incident_id,)).fetchone()
    return _VIEW.decode(row[0]) if row else None


def read_about(connection: sqlite3.Connection, subject: str, limit: int) -> list[IncidentView]:
    """Return the newest incidents with a device or an address."""
    query = "SELECT record FROM incidents WHERE subject = ? ORDER BY opened_utc_ns DESC, id DESC LIMIT ?"
    return [_VIEW.decode(row[0]) for row in connection.execute(query, (subject, limit))]


def write_serial(connection: sqlite3.Connection, node: str, serial: int) -> None:
    """Remember the newest board of a node."""
    connection.execute(
        "INSERT INTO incident_boards (node, serial) VALUES (?, ?)"
        " ON CONFLICT (node) DO UPDATE SET serial = max(serial, excluded.serial)",
        (node, serial),
    )


def read_serials(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the newest board of each node, by its serial."""
    return dict(connection.execute("SELECT node, serial FROM incident_boards"))


def write_accounts(connection: sqlite3.Connection, accounts: Mapping[str, bytes], utc_ns: int, whole: bool) -> None:
    """Write accounts of trust down; `whole`: they are all there are."""
    if whole:
        connection.execute("DELETE FROM trust")
    connection.executemany(
        "INSERT INTO trust (device, utc_ns, account) VALUES (?, ?, ?)"
        " ON CONFLICT (device) DO UPDATE SET utc_ns = excluded.utc_ns, account = excluded.account",
        [(device, utc_ns, account) for device, account in accounts.items()],
    )


def read_accounts(connection: sqlite3.Connection) -> list[tuple[str, int, bytes]]:
    """Return device, time of writing and account of all that were written down."""
    return list(connection.execute("SELECT device, utc_ns, account FROM trust"))
