"""The runner's side of jobs across nodes: takes offers of peers, tells them the outcome, stops what they do not want.

A peer sees only the jobs that it gave: they stand in the database under its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Protocol

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.engine import ledger
from qedge.engine.model import FINAL_STATES
from qedge.engine.ports import Peers
from qedge.store.store import Store
from qedge.wire.jobs import (
    JobAsk,
    JobHeard,
    JobNews,
    JobOffer,
    JobState,
    JobStop,
    JobSubmission,
    JobTidings,
    JobView,
)

_LOG: Final = get_logger("engine")
_PREFIX: Final = "node:"
_NEWS_LIMIT_S: Final = 10.0
_MAX_RESULTS: Final = 16
_WORTH_TELLING_S: Final = 0.05
_ANSWER_WITHIN_S: Final = 0.03
"""That a job began is told only of jobs that take longer: of others the end follows at once."""


class Jobs(Protocol):
    """The job service of this node."""

    async def submit(self, submission: JobSubmission, client: str, *, lent: bool = False) -> JobView:
        """Accept a job."""
        ...

    async def job(self, job_id: str) -> JobView:
        """Return a job with its result."""
        ...

    async def wait(self, job_id: str, timeout_s: float) -> JobView:
        """Return a job once it has ended, or as it is after a time."""
        ...

    async def cancel(self, job_id: str) -> JobView:
        """End a job."""
        ...

    def lent(self, client: str, key: str) -> str:
        """Return the id of a job that is not written down yet, or nothing."""
        ...

    def subscribe(self) -> AsyncIterator[JobView]:
        """Follow every change of every job."""
        ...


class ErrandService:
    """Runs jobs for peers."""

    name = "errands"

    def __init__(self, jobs: Jobs, store: Store, peers: Peers) -> None:
        self._jobs = jobs
        self._store = store
        self._peers = peers
        self._given: dict[str, tuple[str, str]] = {}
        peers.serve(JobOffer, self._take)
        peers.serve(JobAsk, self._tell)
        peers.serve(JobStop, self._stop)

    async def run(self, ready: Ready) -> None:
        """Tell peers how their jobs ended, until cancelled."""
        for row in await self._store.read(ledger.unended):
            if row.client.startswith(_PREFIX):
                self._given[row.id] = (row.client.removeprefix(_PREFIX), row.submission.client_key)
        ready()
        async with asyncio.TaskGroup() as group:
            async for view in self._jobs.subscribe():
                if view.id not in self._given:
                    continue
                if view.state in FINAL_STATES:
                    group.create_task(self._report(view.id, *self._given.pop(view.id)))
                elif view.state is JobState.RUNNING and not _is_short(view):
                    group.create_task(self._report(view.id, *self._given[view.id]))

    async def _take(self, peer: str, offer: JobOffer) -> JobNews:
        """Accept a job of a peer; the same offer again is the same job. A short one ends before the answer does."""
        submission = msgspec.structs.replace(offer.submission, node="", client_key=offer.id, dry_run=False)
        view = await self._jobs.submit(submission, _PREFIX + peer, lent=True)
        if view.state not in FINAL_STATES and _is_short(view):
            # one message with the end, where an answer and news would be four
            view = await self._jobs.wait(view.id, _ANSWER_WITHIN_S)
        if view.state in FINAL_STATES:
            return JobNews(offer.id, await self._jobs.job(view.id))
        self._given[view.id] = (peer, offer.id)
        return JobNews(offer.id, view)

    async def _tell(self, peer: str, ask: JobAsk) -> JobTidings:
        news: list[JobNews] = []
        results = 0
        for origin_id in ask.ids:
            view = await self._find(peer, origin_id)
            if view is not None and view.result is not None:
                results += 1
                if results > _MAX_RESULTS:
                    continue
            news.append(JobNews(origin_id, view))
        return JobTidings(tuple(news))

    async def _stop(self, peer: str, stop: JobStop) -> JobHeard:
        view = await self._find(peer, stop.id)
        if view is not None and view.state not in FINAL_STATES:
            self._given.pop(view.id, None)
            try:
                await self._jobs.cancel(view.id)
            except QedgeError as error:
                if error.code != "job.already_ended":
                    raise
        return JobHeard()

    async def _find(self, peer: str, origin_id: str) -> JobView | None:
        client = _PREFIX + peer
        job_id = self._jobs.lent(client, origin_id) or await self._store.read(
            lambda connection: ledger.find_errand(connection, client, origin_id)
        )
        return await self._jobs.job(job_id) if job_id else None

    async def _report(self, job_id: str, peer: str, origin_id: str) -> None:
        """Send the outcome; where that fails, the origin asks for it later."""
        try:
            view = await self._jobs.job(job_id)
            await self._peers.call(peer, JobNews(origin_id, view), JobHeard, deadline_s=_NEWS_LIMIT_S)
        except QedgeError as error:
            _LOG.debug("job.news_lost", job=job_id, peer=peer, code=error.code)


def _is_short(view: JobView) -> bool:
    return view.estimate is not None and view.estimate.time_s <= _WORTH_TELLING_S
