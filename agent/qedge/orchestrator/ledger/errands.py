"""The runner's side of jobs across nodes: takes offers of owners, renews leases, tells outcomes, stops what is stale.

A peer sees only the jobs that it gave: they stand in the database under its name. What comes of a job whose lease is
over is held until the owner is heard again, and counts only if the owner then says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.engine import ledger
from qedge.engine.model import FINAL_STATES
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.held import Held, Take
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.orchestrator.ledger.model import Hold
from qedge.orchestrator.ledger.ports import Jobs
from qedge.orchestrator.receipts.proof import job_hash
from qedge.store.store import Store
from qedge.wire.jobs import JobAsk, JobHeard, JobNews, JobOffer, JobResult, JobState, JobStop, JobTidings, JobView
from qedge.wire.ledger import HeldLease, LeaseAnswer, LeaseRenewal

_LOG: Final = get_logger("ledger")
_PREFIX: Final = "node:"
_NEWS_LIMIT_S: Final = 5.0
_TICKS: Final = 8
"""Looks at the leases per lease: often enough to renew them three times."""
_RETRY_S: Final = 0.5
_MAX_RESULTS: Final = 16
_WORTH_TELLING_S: Final = 0.05
"""That a job began is told only of jobs that take longer: of others the end follows at once."""
_ANSWER_WITHIN_S: Final = 0.03


Given = Callable[[str, str, int, bytes, JobResult], None]
"""Takes owner, id and epoch of a job, the hash of what was asked, and the result that was told."""


class ErrandService:
    """Runs jobs for peers, and for this node itself where it owns jobs that any node may run."""

    name = "errands"

    def __init__(self, config: LedgerConfig, jobs: Jobs, store: Store, peers: PeersAndMe, *, clock: Clock) -> None:
        self._config = config
        self._jobs = jobs
        self._store = store
        self._peers = peers
        self._clock = clock
        self._held = Held(config.leases_of_one)
        self._given: dict[str, tuple[str, str]] = {}
        self._untold: dict[str, tuple[str, str]] = {}
        self._renewing: set[str] = set()
        self._taken_up: set[str] = set()
        self.given: Given = lambda *_: None
        """Told of every result that another node took."""

        self.closed = False
        peers.serve(JobOffer, self._take)
        peers.serve(JobAsk, self._tell)
        peers.serve(JobStop, self._stop)

    async def run(self, ready: Ready) -> None:
        """Renew leases and tell owners how their jobs ended, until cancelled."""
        for row in await self._store.read(ledger.unended):
            if row.client.startswith(_PREFIX):
                self._given[row.id] = (row.client.removeprefix(_PREFIX), row.submission.client_key)
                self._taken_up.add(row.id)
        ready()
        async with asyncio.TaskGroup() as group:

            def hear(view: JobView) -> None:
                if view.id not in self._given:
                    return
                final = view.state in FINAL_STATES
                if not final and (view.state is not JobState.RUNNING or _is_short(view)):
                    return
                report = self._report(view.id, *self._given[view.id])
                try:
                    group.create_task(report)
                except RuntimeError:
                    report.close()  # this service is about to end, which is nothing to the job that changed
                    return
                if final:
                    del self._given[view.id]

            with self._jobs.changes.heard_by(hear):
                await self._tend(group)

    async def _tend(self, group: asyncio.TaskGroup) -> None:
        retry_ns = 0
        while True:
            await asyncio.sleep(self._config.lease_s / _TICKS)
            now_ns = self._clock.now_ns()
            for hold in self._held.overdue(now_ns):
                _LOG.info("job.lease_over", job=hold.job_id, peer=hold.owner, epoch=hold.epoch)
            for owner, leases in self._held.renewals(now_ns).items():
                if owner not in self._renewing:
                    self._renewing.add(owner)
                    group.create_task(self._renew(owner, leases, now_ns))
            if self._untold and now_ns >= retry_ns:
                retry_ns = now_ns + round(_RETRY_S * 1e9)
                alive = self._peers.alive()
                for job_id, (peer, origin_id) in list(self._untold.items()):
                    if peer in alive:
                        del self._untold[job_id]
                        group.create_task(self._report(job_id, peer, origin_id))

    async def _renew(self, owner: str, leases: tuple[HeldLease, ...], sent_ns: int) -> None:
        """Renew all leases of one owner; what it says is stale is stopped."""
        try:
            answer = await self._peers.call(
                owner, LeaseRenewal(leases), LeaseAnswer, deadline_s=max(1.0, self._config.lease_s)
            )
            for hold in self._held.renewed(owner, leases, answer.stale, sent_ns):
                await self._drop(hold)
        except QedgeError as error:
            _LOG.debug("job.news_lost", job=leases[0].id, peer=owner, code=error.code)
        finally:
            self._renewing.discard(owner)

    async def _drop(self, hold: Hold) -> None:
        """Stop a job whose lease counts no more; nothing of it is told."""
        _LOG.info("job.stale", job=hold.job_id, peer=hold.owner, epoch=hold.epoch)
        await self._end_local(await self._local(hold.client, hold.job_id))

    async def _end_local(self, job_id: str) -> None:
        self._given.pop(job_id, None)
        self._untold.pop(job_id, None)
        if job_id:
            with contextlib.suppress(QedgeError):  # it has ended
                await self._jobs.cancel(job_id)
            self._jobs.keeper.told(job_id)
            with contextlib.suppress(QedgeError):  # should it be offered again, it begins anew
                await self._store.write(lambda connection: rows.unkey(connection, job_id), accepted=True)

    # Serving

    async def _take(self, peer: str, offer: JobOffer) -> JobNews:
        """Accept a job of a peer; the same offer again is the same job. A short one ends before the answer does."""
        known = self._held.find(offer.id)
        if self.closed and known is None:
            raise QedgeError("job.draining", "This node takes no jobs: it is being drained.")
        take = self._held.take(peer, offer, _PREFIX + peer, self._clock.now_ns())
        if take in (Take.STALE, Take.FOREIGN):
            raise QedgeError("job.stale_lease", "The job is here under another lease.")
        if take is Take.FULL:
            raise QedgeError("job.queue_full", f"{peer} has given this node as many jobs as it takes of one.")
        hold = self._held.find(offer.id)
        client = hold.client if hold is not None else _PREFIX + peer
        submission = msgspec.structs.replace(offer.submission, node="", client_key=offer.id, dry_run=False)
        try:
            view = await self._jobs.submit(submission, client, lent=True)
        except BaseException:
            if take is Take.NEW:
                self._held.drop(offer.id)
            raise
        try:
            if view.state not in FINAL_STATES and _is_short(view):
                # one message with the end, where an answer and news would be four
                view = await self._jobs.wait(view.id, _ANSWER_WITHIN_S)
            if view.state in FINAL_STATES:
                view = await self._jobs.job(view.id)
        except BaseException:  # nobody waits for the answer any more, and the owner still has to hear of the end
            hold = self._held.find(offer.id)
            if hold is not None and hold.epoch == offer.epoch:
                hold.asked = self._hash(peer, offer)
                self._given[view.id] = self._untold[view.id] = (peer, offer.id)
            raise
        hold = self._held.find(offer.id)
        if hold is None or hold.epoch != offer.epoch:
            raise QedgeError("job.stale_lease", "The job was stopped or offered anew meanwhile.")
        hold.asked = self._hash(peer, offer)
        if view.state in FINAL_STATES:
            self._given.pop(view.id, None)
            self._untold.pop(view.id, None)
            asked, hold.asked = hold.asked, b""
            self._held.heard(offer.id, offer.epoch)  # where the answer is lost, the same offer comes again
            if peer == self._peers.me:
                self._jobs.keeper.told(view.id)
            self._note(peer, offer.id, offer.epoch, asked, view)
            return JobNews(offer.id, view, offer.epoch)
        self._given[view.id] = (peer, offer.id)
        return JobNews(offer.id, view, offer.epoch)

    def _hash(self, peer: str, offer: JobOffer) -> bytes:
        return job_hash(offer.submission) if peer != self._peers.me else b""

    def _note(self, owner: str, origin_id: str, epoch: int, asked: bytes, view: JobView) -> None:
        """Let a result be signed that its owner has now."""
        if asked and view.result is not None:
            self.given(owner, origin_id, epoch, asked, view.result)

    async def _tell(self, peer: str, ask: JobAsk) -> JobTidings:
        news: list[JobNews] = []
        results = 0
        for origin_id in ask.ids:
            view = await self._find(peer, origin_id)
            hold = self._held.find(origin_id)
            if view is None and hold is not None and hold.owner == peer:
                continue  # it is being admitted
            if view is not None and view.result is not None:
                results += 1
                if results > _MAX_RESULTS:
                    continue
            epoch = hold.epoch if hold is not None and hold.owner == peer else 0
            news.append(JobNews(origin_id, view, epoch))
        return JobTidings(tuple(news))

    async def _stop(self, peer: str, stop: JobStop) -> JobHeard:
        if self._held.may_stop(peer, stop.id, stop.epoch):
            hold = self._held.find(stop.id)
            client = hold.client if hold is not None else _PREFIX + peer
            self._held.drop(stop.id)
            await self._end_local(await self._local(client, stop.id))
        return JobHeard()

    async def _find(self, peer: str, origin_id: str) -> JobView | None:
        hold = self._held.find(origin_id)
        client = hold.client if hold is not None and hold.owner == peer else _PREFIX + peer
        job_id = await self._local(client, origin_id)
        return await self._jobs.job(job_id) if job_id else None

    async def _local(self, client: str, origin_id: str) -> str:
        return self._jobs.keeper.lent(client, origin_id) or await self._store.read(
            lambda connection: ledger.find_errand(connection, client, origin_id)
        )

    # Telling

    async def _report(self, job_id: str, peer: str, origin_id: str) -> None:
        """Send the outcome to whoever owns the job now; where that fails, again later. What is stale is dropped."""
        hold = self._held.find(origin_id)
        if hold is None and job_id not in self._taken_up:
            return  # it was stopped meanwhile
        owner, epoch = (hold.owner, hold.epoch) if hold is not None else (peer, 0)
        final = False
        try:
            view = await self._jobs.job(job_id)
            final = view.state in FINAL_STATES
            await self._peers.call(owner, JobNews(origin_id, view, epoch), JobHeard, deadline_s=_NEWS_LIMIT_S)
        except QedgeError as error:
            _LOG.debug("job.news_lost", job=job_id, peer=owner, code=error.code)
            if error.code in ("job.stale_lease", "job.not_found"):
                self._held.drop(origin_id)
                await self._end_local(job_id)
            elif final and hold is not None:
                self._untold[job_id] = (owner, origin_id)
            return
        if final:
            self._given.pop(job_id, None)
            self._jobs.keeper.told(job_id)
            if hold is not None and (hold.owner, hold.epoch) == (owner, epoch):
                asked, hold.asked = hold.asked, b""
                self._held.heard(origin_id, epoch)
                self._note(owner, origin_id, epoch, asked, view)

    # Draining

    def waiting(self) -> int:
        """Count the jobs of others that are here."""
        return len(self._held)

    async def give_back(self, *, running: bool) -> None:
        """Give jobs back to their owners: those that wait, and with `running` those that run and may run again."""
        for job_id, (_, origin_id) in list(self._given.items()):
            hold = self._held.find(origin_id)
            if hold is None:
                continue
            view = await self._jobs.job(job_id)
            if view.state is JobState.QUEUED or (running and view.state is JobState.RUNNING):
                await self._return(job_id, hold)

    async def _return(self, job_id: str, hold: Hold) -> None:
        news = JobNews(hold.job_id, None, hold.epoch)
        self._held.drop(hold.job_id)  # first: that it is cancelled here is nobody's news
        await self._end_local(job_id)
        with contextlib.suppress(QedgeError):  # its owner notices when the lease is over
            await self._peers.call(hold.owner, news, JobHeard, deadline_s=_NEWS_LIMIT_S)


def _is_short(view: JobView) -> bool:
    return view.estimate is not None and view.estimate.time_s <= _WORTH_TELLING_S
