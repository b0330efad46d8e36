"""The node's keys for its devices and the list of revoked ones in the database: functions that the store calls."""

from __future__ import annotations

import sqlite3
from typing import Final

from qedge.devices.enrolment.authority import NodeKey
from qedge.store import meta
from qedge.wire.gateway import RevokedDevice

_SERIAL: Final = "devices.revocation_serial"
KEPT_REVOKED: Final = 10_000
"""Revoked keys that are kept though their certificates have ended."""


def load_node_keys(connection: sqlite3.Connection) -> list[NodeKey]:
    """Read all keys, the newest of each kind first."""
    found = connection.execute(
        "SELECT kind, serial, fleet, node, signer, seed, document, until_utc_ns FROM device_node_keys"
        " ORDER BY serial DESC"
    )
    return [NodeKey(*row) for row in found]


def replace_node_keys(connection: sqlite3.Connection, keys: list[NodeKey]) -> None:
    """Keep these keys and no others: what is gone opens nothing any more."""
    connection.execute("DELETE FROM device_node_keys")
    connection.executemany(
        "INSERT INTO device_node_keys (kind, serial, fleet, node, signer, seed, document, until_utc_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (each.kind, each.serial, each.fleet, each.node, each.signer, each.seed, each.document, each.until_utc_ns)
            for each in keys
        ],
    )


def load_revoked(connection: sqlite3.Connection, utc_s: int) -> list[RevokedDevice]:
    """Read revoked keys whose certificates have not ended, those that end last first.

    Those that have ended stay as long as there is room: the clock may be wrong, and what is erased never comes back.
    """
    connection.execute(
        "DELETE FROM revoked_devices WHERE until_utc_s < ? AND key_id NOT IN"
        " (SELECT key_id FROM revoked_devices ORDER BY until_utc_s DESC LIMIT ?)",
        (utc_s, KEPT_REVOKED),
    )
    found = connection.execute(
        "SELECT device, key_id, until_utc_s FROM revoked_devices WHERE until_utc_s >= ? ORDER BY until_utc_s DESC",
        (utc_s,),
    )
    return [RevokedDevice(*row) for row in found]


def own_revoked(connection: sqlite3.Connection) -> list[bytes]:
    """Read the ids of all keys that this node has revoked, those included whose certificates have ended."""
    return [row[0] for row in connection.execute("SELECT key_id FROM revoked_devices")]


def add_revoked(connection: sqlite3.Connection, revoked: RevokedDevice) -> None:
    """Note a revoked key."""
    connection.execute(
        "INSERT OR REPLACE INTO revoked_devices (key_id, device, until_utc_s) VALUES (?, ?, ?)",
        (revoked.key_id, revoked.device, revoked.until_utc_s),
    )


def next_serial(connection: sqlite3.Connection, utc_ns: int) -> int:
    """Return the next serial of the list of revoked keys; it never repeats, also where the database was lost."""
    serial = max(utc_ns, int(meta.find(connection, _SERIAL) or 0) + 1)
    meta.put(connection, _SERIAL, str(serial))
    return serial


def write_peer_list(connection: sqlite3.Connection, node: str, serial: int, message: bytes) -> None:
    """Keep the newest list of revoked devices of another node."""
    connection.execute(
        "INSERT INTO peer_device_lists (node, serial, message) VALUES (?, ?, ?) ON CONFLICT (node) DO UPDATE SET"
        " serial = excluded.serial, message = excluded.message WHERE excluded.serial > serial",
        (node, serial, message),
    )


def load_peer_lists(connection: sqlite3.Connection) -> list[bytes]:
    """Read the newest lists of all other nodes, as they were signed."""
    return [row[0] for row in connection.execute("SELECT message FROM peer_device_lists ORDER BY node")]
