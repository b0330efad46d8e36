"""Jobs that end before they are written down: short ones that can begin at once, here or at another node."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.engine import ledger
from qedge.engine.model import Job
from qedge.engine.ports import ANY
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.errand import NO_ESTIMATE, Errand
from qedge.orchestrator.ledger.leases import Word
from qedge.orchestrator.ledger.model import Grant
from qedge.orchestrator.placement.demand import is_small
from qedge.orchestrator.results.witness import implausible
from qedge.store.store import Store
from qedge.wire.jobs import JobNews, JobResult, JobState, JobView

Perform = Callable[[Job], Awaitable[JobResult | None]]
"""Runs a short job on this node right away, if that can be."""
Ask = Callable[[Errand, Grant], Awaitable[JobNews]]
"""Offers a job to its runner and returns the answer."""
_WAIT_S: Final = 0.03
"""How long the end of a job at another node is waited for before the job is written down without it."""


def is_brief(errand: Errand) -> bool:
    """Say whether a job may run before it is written down: it is small, and nobody may know it already."""
    submission = errand.job.submission
    known = submission.client_key or submission.once or errand.job.estimate is not NO_ESTIMATE
    return not known and is_small(submission)


class Brief:
    """Writes a job down together with its end: one transaction, and one record for its other holders.

    Nobody was told its id before, so where this node dies meanwhile nothing that was accepted is lost. What a runner
    makes of it then is nobody's: its word has no effect here.
    """

    def __init__(self, book: Book, store: Store, perform: Perform, ask: Ask, clock: Clock) -> None:
        self._book = book
        self._store = store
        self._perform = perform
        self._ask = ask
        self._clock = clock

    async def run(self, errand: Errand, grant: Grant) -> tuple[int, JobResult] | None:
        """Return when it ended and its result; None: it has to go the usual way, where refusals are told too.

        Raises `store.*` where it could not be written down, and so was not accepted.
        """
        job = errand.job
        if grant.runner == self._book.me:
            job.started_utc_ns = self._clock.utc_ns()
            found = await self._here(job)
        else:
            found = await self._there(errand, grant)
        if found is None:
            return None
        ended_utc_ns, result = self._clock.utc_ns(), await ledger.packed_result(found)

        def work(connection: sqlite3.Connection) -> None:
            ledger.insert(connection, job, grant.runner, grant.epoch, errand.holders)
            ledger.end(connection, job, JobState.DONE, ended_utc_ns, result, None)

        await self._store.write(work)
        job.submission = msgspec.structs.replace(job.submission, seed=job.seed)
        return ended_utc_ns, found

    async def _here(self, job: Job) -> JobResult | None:
        job.submission = msgspec.structs.replace(job.submission, node="")
        try:
            result = await self._perform(job)
        except QedgeError:
            result = None
        job.submission = msgspec.structs.replace(job.submission, node=ANY)
        if result is None:
            job.started_utc_ns, job.estimate, job.qpu, job.attempts = 0, NO_ESTIMATE, "", 1
        return result

    async def _there(self, errand: Errand, grant: Grant) -> JobResult | None:
        """Offer it to its runner. An answer that says anything but the end, or comes later, goes the usual way."""
        asked = asyncio.ensure_future(self._ask(errand, grant))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # where nobody waits any more
        errand.asked = grant, asked
        try:
            await asyncio.wait({asked}, timeout=_WAIT_S)
        except BaseException:
            asked.cancel()
            raise
        if not asked.done() or asked.exception() is not None:
            return None
        view = self._believed(errand, grant, asked.result())
        if view is None:
            return None
        job, errand.asked = errand.job, None
        job.qpu, job.started_utc_ns = view.qpu, view.started_utc_ns
        job.estimate = view.estimate or NO_ESTIMATE
        return view.result

    def _believed(self, errand: Errand, grant: Grant, news: JobNews) -> JobView | None:
        """Return what the runner says where it is an end that can be true, under a lease that counts."""
        job, view = errand.job, news.job
        if view is None or view.state is not JobState.DONE or view.result is None or errand.grant is not grant:
            return None
        if implausible(msgspec.structs.replace(job.submission, seed=job.seed), view.result):
            return None
        word = self._book.leases.claim(job.id, grant.runner, news.epoch, self._clock.now_ns())
        return view if word is Word.COUNTS else None
