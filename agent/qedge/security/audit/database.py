"""What the database of a node knows of its audit log, read without the daemon."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from qedge.base.errors import QedgeError
from qedge.crypto.keys import PublicKey
from qedge.wire.audit import AuditTrail, Checkpoint
from qedge.wire.trust import Membership

CHECKPOINT_ENTRY: Final = "audit_checkpoint_"


def known_by_database(path: Path) -> tuple[str, dict[AuditTrail, Checkpoint]]:
    """Return the id of the node's key and the newest checkpoints; empty where it is not there, or not sound."""
    if not path.is_file():
        return "", {}
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT membership FROM identities WHERE state = 'current'").fetchone()
        entries = dict(connection.execute("SELECT key, value FROM meta WHERE key LIKE ?", (CHECKPOINT_ENTRY + "%",)))
    except sqlite3.Error:
        return "", {}
    finally:
        connection.close()
    kept = {}
    for trail in AuditTrail:
        if text := entries.get(CHECKPOINT_ENTRY + trail):
            try:
                kept[trail] = msgspec.json.decode(text, type=Checkpoint)
            except msgspec.DecodeError:
                continue
    return _key_id(row[0]) if row else "", kept


def _key_id(membership: bytes) -> str:
    try:
        chain = msgspec.msgpack.decode(membership, type=Membership).chain
        return PublicKey(x509.load_der_x509_certificate(chain[0]).public_key()).key_id
    except (msgspec.DecodeError, ValueError, QedgeError):
        return ""
