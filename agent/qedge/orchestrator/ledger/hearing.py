"""What runners say of jobs that this node owns: renewals, news, answers. Only what counts has effect."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.engine.model import stopping
from qedge.engine.ports import ANY
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.errand import Errand
from qedge.orchestrator.ledger.leases import Word
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.orchestrator.ledger.model import Grant, LeaseState
from qedge.orchestrator.ledger.ownership import Ownership
from qedge.orchestrator.ledger.ports import Standings
from qedge.orchestrator.results.witness import implausible
from qedge.wire.jobs import JobAsk, JobHeard, JobNews, JobState, JobStop, JobTidings, JobView
from qedge.wire.ledger import LeaseAnswer, LeaseRenewal
from qedge.wire.problem import error_of

_LOG: Final = get_logger("ledger")
_ASK_S: Final = 3.0
_ASK_LIMIT_S: Final = 10.0
_MAX_ASKED: Final = 256
_STOP_LIMIT_S: Final = 5.0
_ORPHANS_S: Final = 0.1


class Owner(Protocol):
    """Who owns the jobs."""

    @property
    def is_loaded(self) -> bool:
        """Whether it knows all of them."""
        ...

    async def end(
        self,
        errand: Errand,
        state: JobState,
        *,
        error: QedgeError | None = None,
        view: JobView | None = None,
        winner: Grant | None = None,
    ) -> None:
        """Write the end down, once."""
        ...

    @property
    def ownership(self) -> Ownership:
        """What says who owns a job."""
        ...

    def wake(self) -> None:
        """Look at all jobs soon."""
        ...

    def tell(self, errand: Errand) -> None:
        """Tell followers how a job is now."""
        ...


class Hearing:
    """Serves `LeaseRenewal` and `JobNews`, and asks now and then in case news was lost."""

    def __init__(
        self, book: Book, peers: PeersAndMe, owner: Owner, standings: Standings, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._standings = standings
        self._book = book
        self._peers = peers
        self._owner = owner
        self._clock = clock
        self._metrics = metrics
        peers.serve(LeaseRenewal, self._renew)
        peers.serve(JobNews, self._hear)

    async def _renew(self, peer: str, renewal: LeaseRenewal) -> LeaseAnswer:
        """Renew what the peer holds; it has to stop what is not, or no more, its own."""
        self._check_loaded()
        now_ns = self._clock.now_ns()
        self._book.heard(peer, now_ns)
        stale = self._book.leases.renew(peer, renewal.held, now_ns)
        if stale:
            self._metrics.add("qedge_job_leases_total", ("stale",), len(stale))
            _LOG.info("job.stale", job=stale[0], peer=peer, epoch=0)
        return LeaseAnswer(tuple(stale))

    async def _hear(self, peer: str, news: JobNews) -> JobHeard:
        """Take the outcome of a job from its runner; from anybody else, or under an old epoch, it has no effect."""
        self._check_loaded()
        errand, grant = self._judge(peer, news)
        self._book.heard(peer, self._clock.now_ns())
        if news.job is None:
            self._book.was_busy(peer, self._clock.now_ns())
            self._book.lose(errand, grant)  # it gives the job back
            self._owner.wake()
        else:
            self._book.leases.claim(news.id, peer, news.epoch, self._clock.now_ns())
            errand.silent_ns = 0
            await self.learn(errand, grant, news.job)
        return JobHeard()

    def _judge(self, peer: str, news: JobNews) -> tuple[Errand, Grant]:
        errand = self._book.errands.get(news.id)
        word = self._book.leases.word(news.id, peer, news.epoch)
        if errand is None or errand.yielded or word is not Word.COUNTS:
            self._metrics.add("qedge_job_leases_total", ("stale",))
            _LOG.info("job.stale", job=news.id, peer=peer, epoch=news.epoch)
            # whoever never had it learns no more than one whose lease counts no more
            raise QedgeError("job.not_found", "No such job is given to this node.")
        grants = self._book.leases.grants(news.id)
        return errand, next(each for each in grants if each.runner == peer and news.epoch in (each.epoch, 0))

    def _check_loaded(self) -> None:
        if not self._owner.is_loaded:
            raise stopping()

    async def learn(self, errand: Errand, grant: Grant, view: JobView) -> None:
        """Take what a runner says of the job under a lease that counts."""
        job = errand.job
        job.qpu, job.started_utc_ns = view.qpu, view.started_utc_ns
        if view.estimate is not None:
            job.estimate = view.estimate
        if view.state in (JobState.QUEUED, JobState.RUNNING):
            if view.state is JobState.RUNNING and not errand.runs_since_ns:
                errand.runs_since_ns = self._clock.now_ns()
            if view.state is not job.state and grant is errand.grant:
                job.state = view.state
                self._owner.tell(errand)
        elif view.state is JobState.DONE and view.result is None:
            self._owner.wake()  # the result comes with the answer to the next question
        elif (
            view.result is not None
            and grant.runner != self._book.me
            and (why := implausible(job.submission, view.result))
        ):
            await self._reject(errand, grant, why)
        else:
            if await self._owner.ownership.may_go_on(errand):
                error = error_of(view.error) if view.error is not None else None
                await self._owner.end(errand, view.state, error=error, view=view, winner=grant)

    async def _reject(self, errand: Errand, grant: Grant, why: str) -> None:
        """Take no result that cannot be true: another node runs the job, and that one gets no more."""
        job = errand.job
        self._standings.convict(grant.runner, job.id, f"{why} (job {job.id})")
        if errand.wanted == ANY and not errand.patient:
            self._book.lose(errand, grant)
            self._owner.wake()
        else:
            error = QedgeError("job.false_result", f"{grant.runner} sent a result that cannot be true: {why}.")
            await self._owner.end(errand, JobState.FAILED, error=error, winner=grant)

    async def ask_now_and_then(self) -> None:
        """Ask runners for what they may have told in vain."""
        while True:
            await asyncio.sleep(_ASK_S)
            alive = self._peers.alive()
            runners: dict[str, list[str]] = {}
            for errand in self._book.errands.values():
                grant = errand.grant
                if grant is not None and grant.state is LeaseState.HELD and grant.runner in alive:
                    asked = runners.setdefault(grant.runner, [])
                    if len(asked) < _MAX_ASKED:
                        asked.append(errand.job.id)
            await asyncio.gather(*(self._ask(runner, ids) for runner, ids in runners.items()))

    async def stop_orphans(self) -> None:
        """Tell runners that came back, or are still there, that nobody waits for their jobs any more."""
        orphans = self._book.orphans
        while True:
            alive = self._peers.alive()
            for (runner, job_id), epoch in list(orphans.items()):
                if runner not in alive:
                    continue
                with contextlib.suppress(QedgeError):
                    await self._peers.call(runner, JobStop(job_id, epoch), JobHeard, deadline_s=_STOP_LIMIT_S)
                    orphans.pop((runner, job_id), None)
            await asyncio.sleep(_ORPHANS_S)

    async def _ask(self, runner: str, ids: list[str]) -> None:
        try:
            tidings = await self._peers.call(runner, JobAsk(tuple(ids)), JobTidings, deadline_s=_ASK_LIMIT_S)
        except QedgeError:
            return  # its absence is noticed elsewhere
        for news in tidings.news:
            errand = self._book.errands.get(news.id)
            grant = errand.grant if errand is not None else None
            if errand is None or grant is None or grant.runner != runner or news.epoch not in (grant.epoch, 0):
                continue
            if news.job is not None:
                await self.learn(errand, grant, news.job)
            elif not errand.ended:
                # its database was lost: offer the job again, as to one that was never asked
                self._book.lose(errand, grant)
                self._owner.wake()
