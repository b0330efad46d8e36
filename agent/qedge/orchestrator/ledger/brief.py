"""Jobs that end before they are written down: short ones that this node itself is to run, and can begin at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.engine import ledger
from qedge.engine.model import Job
from qedge.engine.ports import ANY
from qedge.orchestrator.ledger.errand import NO_ESTIMATE, Errand
from qedge.orchestrator.ledger.model import Grant
from qedge.orchestrator.placement.demand import is_small
from qedge.store.store import Store
from qedge.wire.jobs import JobResult, JobState

Perform = Callable[[Job], Awaitable[JobResult | None]]
"""Runs a short job on this node right away, if that can be."""


def may_be_brief(errand: Errand, me: str) -> bool:
    """Say whether a job may run before it is written down: it is small, runs here, and nobody may know it already."""
    submission = errand.job.submission
    known = submission.client_key or submission.once or errand.job.estimate is not NO_ESTIMATE
    return errand.runner == me and not known and is_small(submission)


class Brief:
    """Writes a job down together with its end: one transaction, and one record for its other holders.

    Nobody was told its id before, so where this node dies meanwhile nothing that was accepted is lost.
    """

    def __init__(self, store: Store, perform: Perform, clock: Clock) -> None:
        self._store = store
        self._perform = perform
        self._clock = clock

    async def run(self, errand: Errand, grant: Grant) -> tuple[int, JobResult] | None:
        """Return when it ended and its result; None: it has to go the usual way, where refusals are told too.

        Raises `store.*` where it could not be written down, and so was not accepted.
        """
        job = errand.job
        started_utc_ns = self._clock.utc_ns()
        job.submission = msgspec.structs.replace(job.submission, node="")
        try:
            result = await self._perform(job)
        except QedgeError:
            result = None
        job.submission = msgspec.structs.replace(job.submission, node=ANY)
        if result is None:
            job.estimate, job.qpu, job.attempts = NO_ESTIMATE, "", 1
            return None
        found, ended_utc_ns = result, self._clock.utc_ns()
        job.started_utc_ns = started_utc_ns

        def work(connection: sqlite3.Connection) -> None:
            ledger.insert(connection, job, grant.runner, grant.epoch, errand.holders)
            ledger.end(connection, job, JobState.DONE, ended_utc_ns, found, None)

        await self._store.write(work)
        job.submission = msgspec.structs.replace(job.submission, seed=job.seed)
        return ended_utc_ns, found
