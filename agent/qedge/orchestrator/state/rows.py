"""The rows of the shared state: functions that the store calls with its connection.

Only what was checked is written, into a database that also holds the identity of the node; so it is believed when it is
read again.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.crypto.signed import join_signed
from qedge.orchestrator.state.model import Entry, Proof, make_entry
from qedge.orchestrator.state.namespaces import NAMESPACES
from qedge.orchestrator.state.proof import peek
from qedge.store import meta

_SEEN: Final = "state.seen_utc_ns"
_ENCODE: Final = msgspec.msgpack.Encoder().encode


def save(connection: sqlite3.Connection, changes: Mapping[bytes, Entry | None], utc_ns: int) -> None:
    """Write what changed."""
    for ident, entry in changes.items():
        if entry is None or entry.proof is None:
            connection.execute("DELETE FROM state_entries WHERE ident = ?", (ident,))
            continue
        chain = _ENCODE(entry.proof.chain)
        name = hashlib.sha256(chain).digest()[:16]
        connection.execute("INSERT OR IGNORE INTO state_chains (id, chain) VALUES (?, ?)", (name, chain))
        connection.execute(
            "INSERT OR REPLACE INTO state_entries (ident, writer, key_id, chain, covered, signature)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (ident, entry.writer, entry.key_id, name, entry.proof.covered, entry.proof.signature),
        )
    meta.put(connection, _SEEN, str(utc_ns))


def load(connection: sqlite3.Connection, fleet: str) -> tuple[list[Entry], list[bytes], int]:
    """Read all entries of a fleet; returns them, the places of rows that are no such, and when it was last written."""
    connection.execute("DELETE FROM state_chains WHERE id NOT IN (SELECT chain FROM state_entries)")
    chains = {
        bytes(name): msgspec.msgpack.decode(chain, type=tuple[bytes, ...])
        for name, chain in connection.execute("SELECT id, chain FROM state_chains")
    }
    found: list[Entry] = []
    other: list[bytes] = []
    for ident, writer, key_id, name, covered, signature in connection.execute(
        "SELECT ident, writer, key_id, chain, covered, signature FROM state_entries"
    ):
        proof = Proof(covered, chains.get(bytes(name), ()), signature)
        try:
            _, said, _, _, _ = peek(join_signed(*_parts(proof)), fleet)
        except QedgeError:
            other.append(ident)  # of a fleet that this node was in before, or of a version that is gone
            continue
        own = NAMESPACES[said.namespace].own
        found.append(make_entry(said, writer, own=own, key_id=key_id, covered=covered, proof=proof))
    return found, other, int(meta.find(connection, _SEEN) or 0)


def _parts(proof: Proof) -> tuple[bytes, tuple[bytes, ...], bytes]:
    return proof.covered, proof.chain, proof.signature
