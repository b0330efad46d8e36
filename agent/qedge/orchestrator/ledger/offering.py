"""Brings jobs to runners: chooses one, offers the job, and sees what to do where that one is gone or refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.engine import ledger
from qedge.engine.config import EngineConfig
from qedge.engine.model import cancelled, expired
from qedge.engine.ports import ANY
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.errand import NO_ESTIMATE, Errand
from qedge.orchestrator.ledger.leases import Word
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.orchestrator.ledger.model import Grant, LeaseState
from qedge.orchestrator.ledger.ports import Placer
from qedge.orchestrator.placement.model import Wish
from qedge.store.store import Store
from qedge.wire.jobs import JobNews, JobOffer, JobState, JobView

_LOG: Final = get_logger("ledger")
_OFFER_LIMIT_S: Final = 15.0
_STOOD_NS: Final = 300_000_000
"""A node that did not look for so long stood still itself, so that nobody else need be quiet."""

_AWAY: Final = ("peer.", "bus.", "session.")
_BUSY: Final = frozenset(
    {
        "job.draining",
        "job.shed",
        "job.deadline_unreachable",
        "job.queue_full",
        "job.quota_exceeded",
        "job.no_qpu",
        "internal.stopping",
        "store.disk_full",
        "worker.unavailable",
    }
)


class End(Protocol):
    """Writes down how a job ended."""

    def __call__(self, errand: Errand, state: JobState, *, error: QedgeError | None = None) -> Awaitable[None]:
        """End it, once."""
        ...


class Offering:
    """Does what is due for one job after the other. `learn` takes what a runner says, `end` ends a job."""

    def __init__(
        self,
        config: EngineConfig,
        book: Book,
        store: Store,
        peers: PeersAndMe,
        placer: Placer,
        *,
        clock: Clock,
        metrics: Metrics,
        end: End,
        learn: Callable[[Errand, Grant, JobView], Awaitable[None]],
    ) -> None:
        self._config = config
        self._book = book
        self._store = store
        self._peers = peers
        self.placer = placer
        self._clock = clock
        self._metrics = metrics
        self._end = end
        self._learn = learn
        self._offers: dict[str, asyncio.Task[None]] = {}
        self._looked_ns = 0
        self.closed = False

    def check(self, errand: Errand) -> None:
        """Raise `job.unplaceable` or `job.deadline_unreachable` where a job for any node need not be accepted."""
        if errand.wanted == ANY:
            self.placer.check(_wish(errand))

    def place(self, errand: Errand, also: frozenset[str] = frozenset()) -> str:
        """Choose a runner, or none."""
        if errand.wanted != ANY:
            return errand.wanted
        now_ns = self._clock.now_ns()
        barred = self._book.busy(now_ns) | also
        if self.closed:
            barred |= {self._book.me}
        silent = self._book.silent(now_ns)
        if errand.hint and errand.hint in self._peers.alive() and errand.hint not in barred | silent:
            return errand.hint
        wish = _wish(errand)
        runner = self.placer.place(wish, barred=barred | silent)
        # rather to one that was silent a moment ago than to nobody
        return runner or (self.placer.place(wish, barred=barred) if silent else "")

    async def advance(self, errand: Errand) -> None:
        """Do what is due; called again and again, one at a time for each job."""
        now_ns = self._clock.now_ns()
        job = errand.job
        if errand.ended or errand.yielded:
            return
        if job.cancel_wanted:
            await self._end(errand, JobState.CANCELLED, error=cancelled())
        elif job.deadline_ns and now_ns >= job.deadline_ns:
            await self._end(errand, JobState.EXPIRED, error=expired())
        elif errand.grant is None:
            await self._assign(errand)
        elif errand.grant.state is LeaseState.LAPSED:
            await self._await_runner(errand, errand.grant)
        elif errand.grant.state is LeaseState.OFFERED:
            await self._offer_first(errand, errand.grant)
        else:
            errand.silent_ns = 0
            await self._hurry(errand)

    async def _assign(self, errand: Errand) -> None:
        runner = self.place(errand)
        if not runner:
            if self._clock.now_ns() - errand.waits_since_ns > self._config.no_qpu_limit_s * 1e9:
                error = errand.last_refusal or QedgeError(
                    "job.no_qpu", "No node of the fleet could run the job in time.", fix="`qedge peers` shows them."
                )
                await self._end(errand, JobState.FAILED, error=error)
            return
        await self._give(errand, runner)

    async def _give(self, errand: Errand, runner: str) -> None:
        errand.job.attempts += 1
        errand.grant, errand.silent_ns = await self._lend(errand, runner), 0
        await self.offer(errand, errand.grant)

    async def _offer_first(self, errand: Errand, grant: Grant) -> None:
        """Offer a job to the runner that was chosen before it was accepted, unless that fell silent meanwhile."""
        now_ns = self._clock.now_ns()
        if not (grant.asked_ns or grant.patient) and grant.runner in self._book.silent(now_ns):
            other = self._place_heard(errand, grant.runner, now_ns)
            if other:
                self._book.lose(errand, grant)
                await self._give(errand, other)
                return
        await self.offer(errand, grant)

    def _place_heard(self, errand: Errand, but: str, now_ns: int) -> str:
        """Choose another runner among those that were heard of late, or none."""
        also = self._book.silent(now_ns) | {but}
        runner = self.place(errand, also)
        return runner if runner not in also else ""

    async def _lend(self, errand: Errand, runner: str) -> Grant:
        grant = self._book.lend(errand, runner, self._clock.now_ns())
        await self._write_down(errand, grant)
        return grant

    async def _write_down(self, errand: Errand, grant: Grant) -> None:
        job, runner, epoch = errand.job, grant.runner, grant.epoch
        await self._store.write(
            lambda connection: ledger.assign(connection, job.id, runner, job.attempts, epoch), accepted=True
        )

    async def offer(self, errand: Errand, grant: Grant) -> None:
        """Offer the job to its runner; the same offer twice is one job there. Ends early where the lease does."""
        key = f"{errand.job.id} {grant.epoch}"
        if key in self._offers:
            return  # a second runner's, which is the only one meanwhile
        task = self._offers[key] = asyncio.ensure_future(self._offer(errand, grant))
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled() or _stops():
                task.cancel()
                raise
        finally:
            self._offers.pop(key, None)

    def give_up(self, job_id: str, grant: Grant) -> None:
        """Wait no longer for the answer to an offer."""
        task = self._offers.get(f"{job_id} {grant.epoch}")
        if task is not None:
            task.cancel()

    async def ask(self, errand: Errand, grant: Grant) -> JobNews:
        """Offer the job to its runner and return the answer; raises what the runner says."""
        job, runner = errand.job, grant.runner
        grant.asked_ns = grant.asked_ns or self._clock.now_ns()
        bare = msgspec.structs.replace(job.submission, node="", client_key=job.id, seed=job.seed)
        lease_ms = 0 if runner == self._book.me else round(self._book.config.lease_s * 1000)
        body = JobOffer(job.id, bare, grant.epoch, lease_ms, errand.holders, grant.patient)
        return await self._peers.call(runner, body, JobNews, deadline_s=_OFFER_LIMIT_S)

    async def _offer(self, errand: Errand, grant: Grant) -> None:
        job, runner = errand.job, grant.runner
        try:
            news = await (errand.take_asked(grant) or self.ask(errand, grant))
        except QedgeError as error:
            if not error.code.startswith(_AWAY):
                self._book.heard(runner, self._clock.now_ns())
            if self._counts(errand, grant):
                await self._refused(errand, grant, error)
            return
        self._book.heard(runner, self._clock.now_ns())
        if not self._counts(errand, grant) or news.job is None:
            return
        if self._book.leases.claim(job.id, runner, news.epoch, self._clock.now_ns()) is Word.COUNTS:
            errand.silent_ns = 0
            self._metrics.add("qedge_jobs_forwarded_total", ("taken",))
            _LOG.debug("job.forwarded", job=job.id, peer=runner)
            await self._learn(errand, grant, news.job)

    def _counts(self, errand: Errand, grant: Grant) -> bool:
        return not errand.ended and not errand.yielded and grant in (errand.grant, errand.twin)

    async def _refused(self, errand: Errand, grant: Grant, error: QedgeError) -> None:
        now_ns = self._clock.now_ns()
        if grant is errand.twin:
            self._book.lose(errand, grant)
        elif error.code == "job.stale_lease":
            self._book.lose(errand, grant)  # it heard of a higher epoch: the next one is above that some time
        elif error.code.startswith(_AWAY):
            if errand.patient or grant.runner == self._book.me:
                await self._wait_or_fail(errand, grant, error)
            else:
                # nobody knows whether it has got the job, so its word counts no more and it is told to stop
                self._moved(errand, grant)
        elif error.code in _BUSY:
            errand.last_refusal = error
            self._metrics.add("qedge_job_leases_total", ("refused",))
            if errand.wanted == ANY:
                self._book.was_busy(grant.runner, now_ns)
                self._book.leases.refused(errand.job.id, grant)
                errand.forget_runner()
            elif now_ns - errand.waits_since_ns > self._config.runner_lost_s * 1e9:
                await self._end(errand, JobState.FAILED, error=error)
        else:
            self._metrics.add("qedge_jobs_forwarded_total", ("refused",))
            await self._end(errand, JobState.FAILED, error=error)

    def _moved(self, errand: Errand, grant: Grant) -> None:
        now_ns = self._clock.now_ns()
        self._metrics.add("qedge_jobs_forwarded_total", ("moved",))
        _LOG.warning("job.moved", job=errand.job.id, peer=grant.runner, away_s=(now_ns - grant.heard_ns) / 1e9)
        self._book.was_silent(grant.runner, now_ns)
        self._book.lose(errand, grant)

    def lapsed(self, errand: Errand, grant: Grant) -> None:
        """Take note that a lease ended; where nobody waits for its runner, the job goes elsewhere."""
        _LOG.info("job.lease_over", job=errand.job.id, peer=grant.runner, epoch=grant.epoch)
        self._metrics.add("qedge_job_leases_total", ("lapsed",))
        if not grant.patient:
            self.give_up(errand.job.id, grant)
            self._moved(errand, grant)

    async def _await_runner(self, errand: Errand, grant: Grant) -> None:
        """Look after a runner that is waited for: offer again where it is there, give up after a long time."""
        node = self._peers.find(grant.runner)
        if grant.runner == self._book.me or (node is not None and node.alive):
            await self.offer(errand, grant)
        else:
            gone = QedgeError("peer.unreachable", f"{grant.runner} shows no sign of life.")
            await self._wait_or_fail(errand, grant, gone)

    async def _wait_or_fail(self, errand: Errand, grant: Grant, error: QedgeError) -> None:
        now_ns = self._clock.now_ns()
        errand.silent_ns = errand.silent_ns or now_ns
        away_s = (now_ns - errand.silent_ns) / 1e9
        if away_s > self._config.runner_lost_s:
            lost = QedgeError(
                "job.runner_lost",
                f"{grant.runner} has been gone for {away_s:.0f} s ({error.message}).",
                fix="Submit the job to another node, or to any.",
            )
            await self._end(errand, JobState.FAILED, error=lost)

    async def _hurry(self, errand: Errand) -> None:
        """Let a straggler run on a second node as well; whichever ends first counts."""
        book, grant = self._book, errand.grant
        now_ns = self._clock.now_ns()
        if grant is None or not book.is_straggler(errand, now_ns):
            return
        late_s = (now_ns - errand.runs_since_ns) / 1e9
        running = sum(each.job.state is JobState.RUNNING for each in book.errands.values())
        if not book.stragglers.room(running, book.doubled()):
            return
        other = self.place(errand, frozenset({grant.runner}))
        if other and other != grant.runner:
            await self._double(errand, self._lend_second(errand, other, late_s))

    def hasten(self, group: asyncio.TaskGroup | None, now_ns: int) -> None:
        """Offer jobs whose runner should have been heard by now to a second one, beside what is done for them."""
        looked_ns, self._looked_ns = self._looked_ns, now_ns
        if group is None or now_ns - looked_ns > _STOOD_NS:
            return  # this node stood still: answers may wait unread, and are there at the next look
        for errand in self._book.quiet(now_ns):
            grant = errand.grant
            if grant is None:
                continue
            self._book.was_quiet(grant.runner, now_ns)
            other = self._place_heard(errand, grant.runner, now_ns)
            if other:
                errand.job.attempts += 1
                late_s = (now_ns - max(grant.asked_ns, grant.heard_ns)) / 1e9
                group.create_task(self._double(errand, self._lend_second(errand, other, late_s)))

    def _lend_second(self, errand: Errand, other: str, late_s: float) -> Grant:
        now_ns = self._clock.now_ns()
        _LOG.info("job.speculated", job=errand.job.id, peer=other, late_s=round(late_s, 3))
        self._metrics.add("qedge_job_leases_total", ("doubled",))
        errand.twin = self._book.lend(errand, other, now_ns)
        return errand.twin

    async def _double(self, errand: Errand, twin: Grant) -> None:
        """Write a second lease down and offer the job under it; the first end counts."""
        try:
            await self._write_down(errand, twin)
            if self._counts(errand, twin):
                await self.offer(errand, twin)
        except QedgeError as error:
            _LOG.debug("job.refused", code=error.code, client=errand.job.client)
            if self._counts(errand, twin) and not twin.asked_ns:
                self._book.lose(errand, twin)


def _wish(errand: Errand) -> Wish:
    job = errand.job
    return Wish(job.id, job.submission, job.estimate if job.estimate is not NO_ESTIMATE else None)


def _stops() -> bool:
    """Say whether the task that runs this is itself to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
