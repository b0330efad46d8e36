"""Writes jobs down: what was accepted, that a run began, how it ended; and what need not be written yet."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.engine import ledger
from qedge.engine.config import EngineConfig
from qedge.engine.later import Later
from qedge.engine.ledger_row import Stored, job_of
from qedge.engine.model import Job
from qedge.store.store import Store
from qedge.wire.jobs import JobState, JobSubmission, JobView

WORTH_NOTING_S: Final = 0.02
"""That a run began, or that a peer lent a job, is written down where it lasts longer: the end says it otherwise."""
_LOG: Final = get_logger("engine")
_MOST_KEYS: Final = 100_000
_PRUNE_S: Final = 300.0
_FIRST_PRUNE_S: Final = 20.0
"""Soon after a start: a node that is often restarted has to forget as well."""


class Keeper:
    """The job service's hand in the database.

    A job that is lent by a peer stands in that peer's database, which offers it again where this node forgets it; so it
    is written here only when it has lasted for a while, and else with its end. One that this node lends itself stands
    in this very database already; its end is `untold` until the owner has it.
    """

    def __init__(self, store: Store, me: str = "") -> None:
        self._store = store
        self.own = f"node:{me}"
        """The client of jobs that this node lends itself."""

        self.untold: dict[str, JobView] = {}
        self._lent: dict[tuple[str, str], str] = {}
        self._keys: set[int] | None = None
        """Hashes of all keys of lent jobs that may be in the database; None where they are too many to hold."""

    async def load(self) -> None:
        """Begin anew: forget what was lent, and learn which keys peers have used."""
        self._lent.clear()
        rows = await self._store.read(lambda connection: ledger.lent_keys(connection, _MOST_KEYS + 1))
        self._keys = set(map(hash, rows)) if len(rows) <= _MOST_KEYS else None

    def lent(self, client: str, key: str) -> str:
        """Return the id of a job that is lent and not written down yet, or nothing."""
        return self._lent.get((client, key), "")

    async def find(self, client: str, submission: JobSubmission, *, lent: bool) -> str:
        """Return the id of the job that the client's key stands for, or nothing; raises `job.conflict`."""
        key = submission.client_key
        if not key:
            return ""
        if lent and self._keys is not None and hash((client, key)) not in self._keys:
            return ""
        return self.lent(client, submission.client_key) or await self._store.read(
            lambda connection: ledger.find_by_key(connection, client, submission)
        )

    async def accept(self, job: Job, *, lent: bool, with_end: bool = False) -> str:
        """Take a job over; returns its id, or that of the job that its key stands for already.

        One whose end is at hand is written `with_end`; until then it is not accepted.
        """
        if not lent and with_end and not job.submission.client_key:
            job.written = False
            return job.id
        if not lent:
            return await self._store.write(lambda connection: ledger.insert(connection, job))
        key = (job.client, job.submission.client_key)
        if self._keys is not None:
            self._keys.add(hash(key))
            if len(self._keys) > _MOST_KEYS:
                self._keys = None
        known = self._lent.setdefault(key, job.id)
        if known == job.id:
            job.written = False
            if self.is_own(job):
                return known
            job.keep = Later(WORTH_NOTING_S, lambda: self._keep(job))
        return known

    def is_own(self, job: Job) -> bool:
        """Say whether this node lent the job to itself."""
        return job.client == self.own and not job.submission.once

    def told(self, job_id: str) -> None:
        """Forget the end of a job that this node lent itself: its owner has it."""
        self.untold.pop(job_id, None)

    async def end_cut_off(self, rows: list[Stored], clock: Clock) -> list[Stored]:
        """End the jobs that may run only once and ran when the last daemon ended; returns the others."""
        kept = []
        for row in rows:
            if not (row.submission.once and row.state is JobState.RUNNING):
                kept.append(row)
                continue
            error = QedgeError("job.interrupted", "The node was restarted while the job ran, and it may run only once.")
            job, utc_ns = job_of(row, clock.now_ns(), clock.utc_ns()), clock.utc_ns()
            write = functools.partial(
                ledger.end, job=job, state=JobState.FAILED, ended_utc_ns=utc_ns, result=None, error=error
            )
            await self._store.write(write, accepted=True)
        return kept

    async def note_start(self, job: Job) -> None:
        """Write down that a run began, if the disk has room: a restart begins it anew in any case."""
        if self.is_own(job):
            return
        await self._keep(job)
        with contextlib.suppress(QedgeError):
            await self._store.write(lambda connection: ledger.start(connection, job), accepted=True)

    async def _keep(self, job: Job) -> None:
        if not job.written:
            # where the disk is full its end is written, or the peer lends it again
            with contextlib.suppress(QedgeError):
                await self._store.write(lambda connection: ledger.insert(connection, job), accepted=True)
                self._mark(job)

    async def end(self, job: Job, view: JobView, error: QedgeError | None) -> None:
        """Write the end down; where the disk is full, try until it is written.

        Raises `store.*` for a job that was not accepted before.
        """
        accepted = job.written or job.keep is not None
        if self.is_own(job):
            self.untold[job.id] = view
            self._lent.pop((job.client, job.submission.client_key), None)
            return
        result, patient = await ledger.packed_result(view.result), job.submission.is_batch

        def work(connection: sqlite3.Connection) -> None:
            if not job.written:
                ledger.insert(connection, job)
            ledger.end(connection, job, view.state, view.ended_utc_ns, result, error)

        write = self._store.insist if accepted else self._store.write
        try:
            await write(work, patient=patient)
        except QedgeError as failure:
            if failure.code != "job.conflict":
                raise
            # a peer lent two jobs under one key at the same time: it hears of both ends, and the first one is kept
            _LOG.warning("job.refused", code=failure.code, client=job.client)
        self._mark(job)

    async def prune(self, config: EngineConfig, clock: Clock) -> None:
        """Forget old jobs now and then, until cancelled."""
        keep_ns, aged_ns, wait_s = round(config.keep_s * 1e9), clock.now_ns(), _FIRST_PRUNE_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = _PRUNE_S
            now_ns = clock.now_ns()
            work = functools.partial(ledger.prune, passed_ns=now_ns - aged_ns, keep_ns=keep_ns, keep=config.keep_jobs)
            with contextlib.suppress(QedgeError):  # the store said so already, and there is always a next time
                await self._store.write(work)
                aged_ns = now_ns

    def _mark(self, job: Job) -> None:
        job.written = True
        self._lent.pop((job.client, job.submission.client_key), None)
