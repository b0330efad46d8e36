"""Rows of jobs that go across nodes, and of the records that this node holds for others: functions for the store."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.engine import ledger
from qedge.engine.model import Job
from qedge.engine.ports import ANY
from qedge.orchestrator.ledger.model import Grant
from qedge.store import meta
from qedge.store.packing import pack, unpack
from qedge.wire.jobs import JobState, JobSubmission, JobView
from qedge.wire.ledger import JobRecord

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_FORGOTTEN_AT_ONCE: Final = 256
_AGE: Final = "job-copies-age-ns"
_RECORD: Final = msgspec.msgpack.Decoder(JobRecord)


def find_by_key(connection: sqlite3.Connection, client: str, submission: JobSubmission) -> str:
    """Return the id of the job that a client's key stands for, here or in a record; raises `job.conflict`."""
    known = ledger.find_by_key(connection, client, submission)
    if known:
        return known
    record = copy_by_key(connection, client, submission.client_key)
    if record is None:
        return ""
    if record.digest != ledger.request_hash(submission):
        raise ledger.conflict(submission.client_key, record.id)
    return record.id


def insert(connection: sqlite3.Connection, job: Job, runner: str, epoch: int, holders: tuple[str, ...]) -> str:
    """Accept a job as `ledger.insert` does, unless a record came meanwhile of the one that its key stands for."""
    known = find_by_key(connection, job.client, job.submission) if job.submission.client_key else ""
    return known or ledger.insert(connection, job, runner, epoch, holders)


def copy_by_key(connection: sqlite3.Connection, client: str, key: str) -> JobRecord | None:
    """Return the record of the job that a client's key stands for at another node."""
    row = connection.execute(
        "SELECT record FROM job_copies WHERE client = ? AND client_key = ? AND client_key <> '' ORDER BY id LIMIT 1",
        (client, key),
    ).fetchone()
    return _RECORD.decode(unpack(row[0])) if row is not None else None


def by_key(connection: sqlite3.Connection, client: str, key: str) -> JobRecord | None:
    """Return the record of the job that a client's key stands for, of this node or of another one."""
    mine = connection.execute("SELECT id FROM jobs WHERE client = ? AND client_key = ?", (client, key)).fetchone()
    known = own(connection, str(mine[0])) if mine is not None else None
    return known if known is not None else copy_by_key(connection, client, key)


def forget(connection: sqlite3.Connection, job_id: str) -> None:
    """Forget a job that turned out to be another one, before anybody was told of it."""
    connection.execute("DELETE FROM jobs WHERE id = ? AND ended_utc_ns = 0", (job_id,))


def note_epoch(connection: sqlite3.Connection, job_id: str, epoch: int) -> None:
    """Note under which epoch a job is now."""
    connection.execute(
        "UPDATE jobs SET epoch = ?, runner = '' WHERE id = ? AND ended_utc_ns = 0 AND epoch < ?", (epoch, job_id, epoch)
    )


def unkey(connection: sqlite3.Connection, job_id: str) -> None:
    """Let a job that was stopped here be another one than the next that comes under its key."""
    connection.execute("UPDATE jobs SET client_key = '' WHERE id = ?", (job_id,))


def end(
    connection: sqlite3.Connection,
    job: Job,
    winner: Grant | None,
    state: JobState,
    utc_ns: int,
    result: bytes | None,
    error: QedgeError | None,
) -> None:
    """Note the end of a job as `ledger.end` does, and under which of several leases it ended."""
    if winner is not None:
        connection.execute(
            "UPDATE jobs SET runner = ?, epoch = ? WHERE id = ? AND ended_utc_ns = 0",
            (winner.runner, winner.epoch, job.id),
        )
    ledger.end(connection, job, state, utc_ns, result, error)


def supersede(connection: sqlite3.Connection, record: JobRecord) -> bool:
    """Put the end under the highest epoch in the place of one under a lower epoch; says whether there was one."""
    view = record.view
    changed = connection.execute(
        "UPDATE jobs SET state = ?, ended_utc_ns = ?, epoch = ?, result = ?, error = ?, attempts = ?, qpu = ?"
        " WHERE id = ? AND epoch < ?",
        (
            view.state.value,
            view.ended_utc_ns,
            record.epoch,
            pack(_ENCODE(view.result)) if view.result is not None else None,
            _ENCODE(view.error) if view.error is not None else None,
            view.attempts,
            view.qpu,
            record.id,
            record.epoch,
        ),
    )
    return changed.rowcount > 0


def adopt(connection: sqlite3.Connection, job: Job, record: JobRecord, epoch: int) -> None:
    """Make a job that this node holds a record of, or owned before, its own."""
    connection.execute("DELETE FROM job_copies WHERE id = ?", (record.id,))
    changed = connection.execute(
        "UPDATE jobs SET epoch = ?, runner = '' WHERE id = ? AND epoch < ?", (epoch, record.id, epoch)
    )
    if changed.rowcount:
        return
    taken = connection.execute(
        "SELECT 1 FROM jobs WHERE client = ? AND client_key = ? AND client_key <> ''",
        (job.client, job.submission.client_key),
    ).fetchone()
    submission = msgspec.structs.replace(
        job.submission, node=ANY, client_key="" if taken else job.submission.client_key
    )
    connection.execute(
        "INSERT OR IGNORE INTO jobs (id, state, client, client_key, request_hash, priority, submitted_utc_ns,"
        " expires_utc_ns, submission, estimate, wanted_node, attempts, epoch, holders)"
        " VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            job.id,
            job.client,
            submission.client_key,
            record.digest,
            submission.priority,
            job.submitted_utc_ns,
            job.expires_utc_ns,
            _ENCODE(submission),
            _ENCODE(job.estimate),
            ANY,
            job.attempts,
            epoch,
            ",".join(record.holders),
        ),
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a record. `before` goes before it; `mine`: the job is in this node's own table."""

    before: JobRecord | None = None
    mine: bool = False
    new: bool = False
    refused: bool = False


def keep(connection: sqlite3.Connection, sender: str, record: JobRecord, at_hand: bytes = b"") -> Kept:
    """Hold a record, or what is newer of it; forget one that was withdrawn. `at_hand`: the record, packed before."""
    mine = own(connection, record.id)
    if mine is not None:
        if not _same_job(mine, record):
            return Kept(refused=True)
        if record.withdrawn:
            return Kept()  # it was adopted here before that, and has been told to a client
        # the end of a job is written by whoever speaks for it in memory
        return Kept(mine if mine.epoch > record.epoch else None, mine=True)
    before = copy(connection, record.id)
    if record.withdrawn:
        if before is not None and _same_job(before, record) and before.epoch <= record.epoch:
            connection.execute("DELETE FROM job_copies WHERE id = ?", (record.id,))
        return Kept()
    key = record.submission.client_key
    if key:
        known = by_key(connection, record.client, key)
        if known is not None and known.id != record.id:
            return Kept(known)
    if before is not None and not _same_job(before, record):
        return Kept(refused=True)
    if before is not None and (
        before.epoch > record.epoch or (before.view.ended_utc_ns and not record.view.ended_utc_ns)
    ):
        return Kept(before if before.epoch > record.epoch else None)
    connection.execute(
        "INSERT OR REPLACE INTO job_copies (id, sender, client, client_key, request_hash, epoch, ended_utc_ns,"
        " kept_ns, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            sender,
            record.client,
            key,
            record.digest,
            record.epoch,
            record.view.ended_utc_ns,
            meta.age_ns(connection, _AGE),
            at_hand or pack(_ENCODE(record)),
        ),
    )
    return Kept(new=before is None)


def _same_job(one: JobRecord, other: JobRecord) -> bool:
    """Say whether two records agree in what never changes: so nobody makes itself a holder of another's job."""
    return (one.holders, one.client, one.digest) == (other.holders, other.client, other.digest)


def make_room(connection: sqlite3.Connection, sender: str) -> int:
    """Forget the oldest records of ended jobs that a node sent; returns how many."""
    return connection.execute(
        "DELETE FROM job_copies WHERE id IN (SELECT id FROM job_copies WHERE sender = ? AND ended_utc_ns > 0"
        " ORDER BY kept_ns, id LIMIT ?)",
        (sender, _FORGOTTEN_AT_ONCE),
    ).rowcount


def is_known(connection: sqlite3.Connection, job_id: str) -> bool:
    """Say whether a job is in this node's own table, or a record of it is here."""
    tables = ("jobs", "job_copies")
    found = (connection.execute(f"SELECT 1 FROM {table} WHERE id = ?", (job_id,)).fetchone() for table in tables)  # noqa: S608 - constant
    return any(row is not None for row in found)


def copy(connection: sqlite3.Connection, job_id: str) -> JobRecord | None:
    """Return the record of another node's job."""
    row = connection.execute("SELECT record FROM job_copies WHERE id = ?", (job_id,)).fetchone()
    return _RECORD.decode(unpack(row[0])) if row is not None else None


def own(connection: sqlite3.Connection, job_id: str) -> JobRecord | None:
    """Make the record of a job in this node's own table; only of one for any node."""
    row, view = ledger.row(connection, job_id), ledger.view(connection, job_id)
    if row is None or view is None or row.wanted_node != ANY:
        return None
    return record_of(row.holders, row.client, row.submission, view, row.expires_utc_ns, row.digest)


def last_ended(connection: sqlite3.Connection, after_utc_ns: int, most: int) -> list[JobRecord]:
    """Return the newest records of jobs in this node's own table that ended, and that others hold as well."""
    found = connection.execute(
        "SELECT id FROM jobs WHERE ended_utc_ns > ? AND holders <> '' ORDER BY ended_utc_ns DESC LIMIT ?",
        (after_utc_ns, most),
    ).fetchall()
    return [record for (job_id,) in found if (record := own(connection, str(job_id))) is not None]


def keyed(connection: sqlite3.Connection, after_utc_ns: int, most: int) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return id, client, key and holders of the newest jobs in this node's own table that came with a client's key."""
    found = connection.execute(
        "SELECT id, client, client_key, holders FROM jobs WHERE client_key <> '' AND holders <> ''"
        " AND submitted_utc_ns > ? ORDER BY id DESC LIMIT ?",
        (after_utc_ns, most),
    )
    return [(str(job_id), str(client), str(key), tuple(str(names).split(","))) for job_id, client, key, names in found]


def record_of(
    holders: tuple[str, ...], client: str, submission: JobSubmission, view: JobView, expires_utc_ns: int, digest: bytes
) -> JobRecord:
    """Put a record together."""
    return JobRecord(view.id, view.epoch, holders, client, submission, view, expires_utc_ns, digest)


def unended_copies(connection: sqlite3.Connection) -> list[JobRecord]:
    """Return the records of jobs that have not ended; one that can be read no more is passed over, and ages."""
    found = []
    for (record,) in connection.execute("SELECT record FROM job_copies WHERE ended_utc_ns = 0"):
        with contextlib.suppress(msgspec.DecodeError):
            found.append(_RECORD.decode(unpack(record)))
    return found


def copies_by_sender(connection: sqlite3.Connection) -> dict[str, int]:
    """Count the records by the node that sent them."""
    return {
        str(row[0]): int(row[1]) for row in connection.execute("SELECT sender, count(*) FROM job_copies GROUP BY 1")
    }


def copies_of(connection: sqlite3.Connection, sender: str) -> int:
    """Count the records that one node sent."""
    return int(connection.execute("SELECT count(*) FROM job_copies WHERE sender = ?", (sender,)).fetchone()[0])


def prune_copies(connection: sqlite3.Connection, passed_ns: int, keep_ns: int, vouched: Iterable[str]) -> list[str]:
    """Let records age by the time that passed, and forget those of which nobody spoke for longer than `keep_ns`.

    `vouched`: jobs of which their owners said meanwhile that they have not ended. Returns the ids of the unended ones
    that were forgotten.
    """
    age_ns = meta.age_ns(connection, _AGE)
    connection.executemany(
        "UPDATE job_copies SET kept_ns = ? WHERE id = ? AND ended_utc_ns = 0", [(age_ns, job_id) for job_id in vouched]
    )
    # what came right before this is as old as what came right after the last time
    gone = connection.execute(
        "DELETE FROM job_copies WHERE kept_ns < ? RETURNING id, ended_utc_ns", (age_ns - keep_ns,)
    ).fetchall()
    meta.grow_older(connection, _AGE, passed_ns)
    return [str(job_id) for job_id, ended_utc_ns in gone if not ended_utc_ns]
