"""The jobs table: what was accepted, and how it ended."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.engine.ledger_row import Stored
from qedge.engine.model import FINAL_STATES, Job
from qedge.store import meta
from qedge.store.packing import packed, unpack
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobSubmission, JobView, Register
from qedge.wire.problem import Problem, problem_of
from qedge.wire.tasks import TaskResult
from qedge.workers.model import Msg

T = TypeVar("T")
_LOG: Final = get_logger("engine")
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_SUBMISSION: Final = msgspec.msgpack.Decoder(JobSubmission)
_ESTIMATE: Final = msgspec.msgpack.Decoder(JobEstimate)
_RESULT: Final = msgspec.msgpack.Decoder(JobResult)
_PROBLEM: Final = msgspec.msgpack.Decoder(Problem)
_AGE: Final = "jobs-age-ns"
_WIDTHS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_LISTED_BITS: Final = 12
_THREE_BYTES: Final = 3
_TIMES_BYTES: Final = 8
_LARGE_BYTES: Final = 128 * 1024
_PEERS: Final = ("node:", "node;")
"""Between these are the clients that are peers."""
_COUNTED: Final = frozenset({"sample", "qaoa"})
"""Kinds of tasks that count outcomes."""
_COLUMNS: Final = (
    "id, state, client, submission, estimate, submitted_utc_ns, started_utc_ns, ended_utc_ns, expires_utc_ns,"
    " attempts, qpu, wanted_node, runner, epoch, holders, request_hash"
)


def request_hash(submission: JobSubmission) -> bytes:
    """Identify what was asked, for the idempotency key; where it was to run makes no difference."""
    return hashlib.sha256(_ENCODE(msgspec.structs.replace(submission, node=""))).digest()


def insert(
    connection: sqlite3.Connection, job: Job, runner: str = "", epoch: int = 0, holders: Sequence[str] = ()
) -> str:
    """Accept a job, which node `runner` is to run under `epoch`, if any; `holders` get a record of it.

    Returns its id, or that of the job the client's key already stands for; raises `job.conflict`.
    """
    key, digest = job.submission.client_key, request_hash(job.submission)
    if key:
        known = find_by_key(connection, job.client, job.submission)
        if known:
            return known
    connection.execute(
        "INSERT INTO jobs (id, state, client, client_key, request_hash, priority, submitted_utc_ns, expires_utc_ns,"
        " submission, estimate, wanted_node, runner, attempts, epoch, holders)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (
            job.id,
            JobState.QUEUED.value,
            job.client,
            key,
            digest,
            job.submission.priority,
            job.submitted_utc_ns,
            job.expires_utc_ns,
            # The seed is part of what was accepted: a re-run after a restart must give the same counts.
            _ENCODE(msgspec.structs.replace(job.submission, seed=job.seed)),
            _ENCODE(job.estimate),
            job.submission.node,
            runner,
            job.attempts,
            epoch,
            ",".join(holders),
        ),
    )
    return job.id


def find_by_key(connection: sqlite3.Connection, client: str, submission: JobSubmission) -> str:
    """Return the id of the job that this client's key stands for, or nothing; raises `job.conflict`."""
    row = connection.execute(
        "SELECT id, request_hash FROM jobs WHERE client = ? AND client_key = ? AND client_key <> ''",
        (client, submission.client_key),
    ).fetchone()
    if row is None:
        return ""
    if row[1] != request_hash(submission):
        raise conflict(submission.client_key, str(row[0]))
    return str(row[0])


def conflict(key: str, job_id: str) -> QedgeError:
    """Say that a key stands for another request already."""
    return QedgeError(
        "job.conflict",
        f"The key {key!r} already stands for another request.",
        fix="Use a new key for a new request.",
        job=job_id,
    )


def lent_keys(connection: sqlite3.Connection, most: int) -> list[tuple[str, str]]:
    """Return client and key of at most so many jobs that peers gave this node."""
    rows = connection.execute(
        "SELECT client, client_key FROM jobs WHERE client >= ? AND client < ? LIMIT ?", (*_PEERS, most)
    )
    return [(str(client), str(key)) for client, key in rows]


def start(connection: sqlite3.Connection, job: Job) -> None:
    """Note that a run began."""
    connection.execute(
        "UPDATE jobs SET state = ?, started_utc_ns = ?, attempts = ?, qpu = ? WHERE id = ?",
        (JobState.RUNNING.value, job.started_utc_ns, job.attempts, job.qpu, job.id),
    )


def assign(connection: sqlite3.Connection, job_id: str, runner: str, attempts: int, epoch: int) -> None:
    """Note which node is to run a job, under which epoch; write it before that node is asked."""
    connection.execute(
        "UPDATE jobs SET runner = ?, attempts = ?, epoch = ? WHERE id = ? AND ended_utc_ns = 0",
        (runner, attempts, epoch, job_id),
    )


def find_errand(connection: sqlite3.Connection, client: str, key: str) -> str:
    """Return the id of the job that a peer gave this node under `key`, or nothing."""
    row = connection.execute("SELECT id FROM jobs WHERE client = ? AND client_key = ?", (client, key)).fetchone()
    return str(row[0]) if row is not None else ""


def end(
    connection: sqlite3.Connection,
    job: Job,
    state: JobState,
    ended_utc_ns: int,
    result: bytes | None,
    error: QedgeError | None,
) -> None:
    """Note the end of a job with its `packed_result`, once: a job that has ended keeps its first end."""
    connection.execute(
        "UPDATE jobs SET state = ?, ended_utc_ns = ?, started_utc_ns = ?, attempts = ?, qpu = ?, result = ?, error = ?"
        " WHERE id = ? AND ended_utc_ns = 0",
        (
            state.value,
            ended_utc_ns,
            job.started_utc_ns,
            job.attempts,
            job.qpu,
            result,
            _ENCODE(problem_of(error)) if error is not None else None,
            job.id,
        ),
    )


async def packed_result(result: JobResult | None) -> bytes | None:
    """Pack a result for `end`, if there is one."""
    return None if result is None else await packed(result)


def unended(connection: sqlite3.Connection, *, elsewhere: bool = False) -> list[Stored]:
    """Return all jobs that were accepted and have not ended, oldest first: own ones, or those for other nodes.

    One that can be read no more is passed over and logged: it must not keep the node from all the others.
    """
    which = "<>" if elsewhere else "="
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM jobs WHERE ended_utc_ns = 0 AND wanted_node {which} '' ORDER BY id"  # noqa: S608 - constant
    )
    return list(_readable(rows, _stored))


def _readable(rows: Iterable[tuple[object, ...]], read: Callable[[tuple[object, ...]], T]) -> Iterator[T]:
    for row in rows:
        try:
            yield read(row)
        except msgspec.DecodeError as error:
            _LOG.error("job.unreadable", job=str(row[0]), error=str(error))


def totals(connection: sqlite3.Connection) -> dict[JobState, int]:
    """Count the jobs by state."""
    return {JobState(row[0]): row[1] for row in connection.execute("SELECT state, count(*) FROM jobs GROUP BY state")}


def prune(connection: sqlite3.Connection, passed_ns: int, keep_ns: int, keep: int) -> int:
    """Let ended jobs age, from the first pruning after their end; forget old ones and too many, return how many."""
    age_ns = meta.grow_older(connection, _AGE, passed_ns)
    connection.execute(
        "INSERT OR IGNORE INTO job_ages (id, since_ns) SELECT id, ? FROM jobs WHERE ended_utc_ns > 0", (age_ns,)
    )
    old = connection.execute(
        "DELETE FROM job_ages WHERE since_ns < ? OR id IN"
        " (SELECT id FROM job_ages ORDER BY since_ns DESC, id DESC LIMIT -1 OFFSET ?) RETURNING id",
        (age_ns - keep_ns, keep),
    ).fetchall()
    connection.executemany("DELETE FROM jobs WHERE id = ?", old)
    return len(old)


def row(connection: sqlite3.Connection, job_id: str) -> Stored | None:
    """Return a job without its result."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608 - constant
    return _stored(found) if found is not None else None


def view(connection: sqlite3.Connection, job_id: str) -> JobView | None:
    """Return a job with its result or error."""
    row = connection.execute(f"SELECT {_COLUMNS}, result, error FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608 - constant
    if row is None:
        return None
    return _view(
        _stored(row[:-2]),
        read_result(row[-2]) if row[-2] is not None else None,
        _PROBLEM.decode(row[-1]) if row[-1] is not None else None,
    )


def ended_result(connection: sqlite3.Connection, job_id: str) -> tuple[Stored, bytes] | None:
    """Return a job that ended with a result, still packed: to read one that is large takes long."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, result FROM jobs WHERE id = ? AND result IS NOT NULL",  # noqa: S608 - constant
        (job_id,),
    ).fetchone()
    return None if row is None else (_stored(row[:-1]), _blob(row[-1]))


def read_result(packed: bytes) -> JobResult:
    """Read a result that was packed for `end`; raises `msgspec.DecodeError`."""
    return _RESULT.decode(unpack(packed))


def newest(connection: sqlite3.Connection, limit: int) -> list[JobView]:
    """Return the newest jobs, without results; one that can be read no more is passed over and logged."""
    rows = connection.execute(f"SELECT {_COLUMNS}, error FROM jobs ORDER BY id DESC LIMIT ?", (limit,))  # noqa: S608 - constant
    return list(_readable(rows, _view_of))


def _view_of(row: tuple[object, ...]) -> JobView:
    """Read the columns of `newest`."""
    return _view(_stored(row[:-1]), None, _PROBLEM.decode(_blob(row[-1])) if row[-1] is not None else None)


async def unpacked(job: Job, answer: Msg, extra_s: Mapping[str, float]) -> JobResult:
    """Do the same as `unpack_result`; a large answer is unpacked beside the event loop, which others wait for."""
    if job.estimate.result_bytes <= _LARGE_BYTES:
        return unpack_result(job, answer, extra_s)
    return await asyncio.to_thread(unpack_result, job, answer, extra_s)


def unpack_result(job: Job, answer: Msg, extra_s: Mapping[str, float]) -> JobResult:
    """Turn a worker's answer into the result; raises `driver.lied` where it cannot be true.

    The worker checked the driver's answer before; this checks the worker's, since a bad driver shares its memory.
    """
    try:
        raw = msgspec.convert(answer, _Answer)
    except msgspec.ValidationError as error:
        raise _lied(f"it has the wrong form: {error}") from error
    if raw.clbits != job.estimate.clbits:
        raise _lied(f"it has {raw.clbits} bits instead of {job.estimate.clbits}")
    task = job.submission.task
    wanted = "sample" if task is None else task.__struct_config__.tag
    if raw.data is not None and raw.data.__struct_config__.tag != wanted:
        raise _lied(f"it is no result of the kind {wanted}")
    if (raw.counts is None) != (wanted not in _COUNTED) or (raw.data is None and wanted != "sample"):
        raise _lied("it has not what its kind gives")
    return JobResult(
        counts={} if raw.counts is None else _unpacked(raw.counts, raw.clbits, job.submission.shots),
        shots=job.submission.shots,
        seed=job.seed,
        registers=tuple(Register(name, size, offset) for name, size, offset in raw.registers),
        timings_s={**extra_s, **raw.timings_s},
        metadata={**raw.metadata, "qpu": job.qpu},
        data=raw.data,
    )


def _unpacked(packed: _Counts, clbits: int, shots: int) -> dict[str, int]:
    width = max(1, -(-clbits // 8))
    if len(packed.values) % _TIMES_BYTES:
        raise _lied("its counts are cut off")
    values, keys = memoryview(packed.values).cast("Q").tolist(), packed.keys
    if len(keys) != width * len(values) or sum(values) != shots or min(values, default=1) < 1:
        raise _lied("its counts do not fit together")
    letter = _WIDTHS.get(width)
    if letter is not None:
        numbers: Sequence[int] = struct.unpack(f"<{len(values)}{letter}", keys)
    elif width == _THREE_BYTES:
        numbers = [
            low | mid << 8 | high << 16 for low, mid, high in zip(keys[::3], keys[1::3], keys[2::3], strict=True)
        ]
    else:
        numbers = [int.from_bytes(keys[at : at + width], "little") for at in range(0, len(keys), width)]
    if max(numbers, default=0) >> clbits:
        raise _lied("a value has more bits than the program")
    if clbits <= _LISTED_BITS:
        strings = _bit_strings(clbits)
        counts = dict(zip([strings[number] for number in numbers], values, strict=True))
    elif clbits <= 2 * _LISTED_BITS:
        high, low, mask = _bit_strings(clbits - _LISTED_BITS), _bit_strings(_LISTED_BITS), (1 << _LISTED_BITS) - 1
        counts = dict(zip([high[n >> _LISTED_BITS] + low[n & mask] for n in numbers], values, strict=True))
    else:
        counts = dict(zip([format(number, f"0{clbits}b") for number in numbers], values, strict=True))
    if len(counts) != len(values):
        raise _lied("it counts a value twice")
    return counts


@functools.lru_cache(maxsize=16)
def _bit_strings(clbits: int) -> list[str]:
    """Return all values of so many bits, as they are written."""
    return [format(number, f"0{clbits}b") for number in range(1 << clbits)]


class _Counts(msgspec.Struct, frozen=True):
    keys: bytes
    values: bytes


class _Answer(msgspec.Struct, frozen=True):
    counts: _Counts | None
    clbits: int
    registers: list[tuple[str, int, int]]
    timings_s: dict[str, float]
    metadata: dict[str, str | int | float | bool]
    data: TaskResult | None = None


def _lied(why: str) -> QedgeError:
    return QedgeError(
        "driver.lied", f"The worker's answer cannot be true: {why}.", fix="Report it to the driver's maker."
    )


def _stored(row: tuple[object, ...]) -> Stored:
    (job_id, state, client, submission, estimate, submitted, started, ended, expires, attempts, qpu, *places) = row
    return Stored(
        str(job_id),
        JobState(str(state)),
        str(client),
        _SUBMISSION.decode(_blob(submission)),
        _ESTIMATE.decode(_blob(estimate)),
        _integer(submitted),
        _integer(started),
        _integer(ended),
        _integer(expires),
        _integer(attempts),
        str(qpu),
        str(places[0]),
        str(places[1]),
        _integer(places[2]),
        tuple(filter(None, str(places[3]).split(","))),
        _blob(places[4]),
    )


def _blob(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _integer(value: object) -> int:
    return value if isinstance(value, int) else 0


def _view(row: Stored, result: JobResult | None, error: Problem | None) -> JobView:
    return JobView(
        id=row.id,
        state=row.state if row.state in FINAL_STATES or row.state is JobState.RUNNING else JobState.QUEUED,
        shots=row.submission.shots,
        submitted_utc_ns=row.submitted_utc_ns,
        client=row.client,
        qpu=row.qpu or row.submission.qpu,
        started_utc_ns=row.started_utc_ns,
        ended_utc_ns=row.ended_utc_ns,
        attempts=row.attempts,
        priority=row.submission.priority,
        tags=row.submission.tags,
        estimate=row.estimate,
        result=result,
        error=error,
        node=row.runner or row.wanted_node,
        epoch=row.epoch,
    )
