"""Receipts in the database: functions for the store. Chains and roots stand there once for many receipts."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from qedge.crypto.signed import join_signed, split_signed
from qedge.wire.receipts import ReceiptPath

_DIGEST = 32


@dataclass(frozen=True, slots=True)
class Kept:
    """The receipt of one job."""

    runner: str
    epoch: int
    position: int
    path: tuple[bytes, ...]
    signed: bytes


def keep(connection: sqlite3.Connection, runner: str, signed: bytes, paths: Sequence[ReceiptPath]) -> None:
    """Keep receipts under one signature; those that stand here already for the same lease are not written again."""
    covered, chain, signature = split_signed(signed)
    paths = [each for each in paths if not _is_kept(connection, runner, each)]
    if not paths:
        return
    joined = b"".join(len(each).to_bytes(4, "big") + each for each in chain)
    digest = hashlib.sha256(joined).digest()
    connection.execute("INSERT OR IGNORE INTO receipt_chains (digest, chain) VALUES (?, ?)", (digest, joined))
    root = connection.execute(
        "INSERT INTO receipt_roots (runner, chain, covered, signature) VALUES (?, ?, ?, ?)",
        (runner, digest, covered, signature),
    ).lastrowid
    connection.executemany(
        "INSERT OR REPLACE INTO receipts (job, epoch, position, path, root) VALUES (?, ?, ?, ?, ?)",
        [(each.job, each.epoch, each.position, b"".join(each.path), root) for each in paths],
    )


def _is_kept(connection: sqlite3.Connection, runner: str, path: ReceiptPath) -> bool:
    found = connection.execute(
        "SELECT 1 FROM receipts JOIN receipt_roots ON receipt_roots.id = receipts.root"
        " WHERE job = ? AND epoch = ? AND runner = ?",
        (path.job, path.epoch, runner),
    )
    return found.fetchone() is not None


def find(connection: sqlite3.Connection, job_id: str) -> Kept | None:
    """Return the receipt of a job."""
    row = connection.execute(
        "SELECT runner, epoch, position, path, covered, signature, receipt_chains.chain FROM receipts"
        " JOIN receipt_roots ON receipt_roots.id = receipts.root"
        " JOIN receipt_chains ON receipt_chains.digest = receipt_roots.chain WHERE job = ?",
        (job_id,),
    ).fetchone()
    if row is None:
        return None
    runner, epoch, position, path, covered, signature, joined = row
    hashes = tuple(path[at : at + _DIGEST] for at in range(0, len(path), _DIGEST))
    return Kept(runner, epoch, position, hashes, join_signed(covered, _apart(joined), signature))


def prune(connection: sqlite3.Connection) -> None:
    """Forget receipts of jobs that are forgotten, and what only those needed."""
    connection.execute("DELETE FROM receipts WHERE job NOT IN (SELECT id FROM jobs)")
    connection.execute("DELETE FROM receipt_roots WHERE id NOT IN (SELECT root FROM receipts)")
    connection.execute("DELETE FROM receipt_chains WHERE digest NOT IN (SELECT chain FROM receipt_roots)")


def _apart(joined: bytes) -> tuple[bytes, ...]:
    parts, at = [], 0
    while at < len(joined):
        size = int.from_bytes(joined[at : at + 4], "big")
        parts.append(joined[at + 4 : at + 4 + size])
        at += 4 + size
    return tuple(parts)
