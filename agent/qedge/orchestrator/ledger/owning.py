"""Jobs that this node owns and any node, or another one, runs: accepted here, given away, answered for until they end.

*Accepted* means the same as for any other job: it is in the database of the node that answered with an id, and, where
it may run anywhere, in that of another node too unless the answer says otherwise. Each offer to a runner has an epoch
of its own, and a lease that the runner renews; what is said under an older epoch has no effect. The first end that is
written under a lease that counts is the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes, uuid7
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.engine import ledger
from qedge.engine.changes import Changes
from qedge.engine.config import EngineConfig
from qedge.engine.ledger_row import new_job
from qedge.engine.model import stopping
from qedge.engine.ports import ANY, PARTS
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.brief import Brief, Perform, is_brief
from qedge.orchestrator.ledger.custody import place_of
from qedge.orchestrator.ledger.deciding import carried_through, decided
from qedge.orchestrator.ledger.entry import check_node, check_room
from qedge.orchestrator.ledger.epochs import owner_of
from qedge.orchestrator.ledger.errand import NO_ESTIMATE, Errand, errand_of
from qedge.orchestrator.ledger.hearing import Hearing
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.orchestrator.ledger.model import Grant
from qedge.orchestrator.ledger.offering import Offering
from qedge.orchestrator.ledger.ownership import Ownership
from qedge.orchestrator.ledger.ports import Copies, Placer, Standings
from qedge.store.store import Store
from qedge.wire.jobs import JobEstimate, JobHeard, JobResult, JobState, JobSubmission, JobView
from qedge.wire.ledger import JobCancel, JobRecord
from qedge.wire.problem import Problem, problem_of

_LOG: Final = get_logger("ledger")
_TICK_S: Final = 0.1
_IDLE_TICK_S: Final = 1.0
_STOP_LIMIT_S: Final = 5.0
_SETTLE_S: Final = 0.3
"""Time in which peers may be heard of again after a start, before a job that another one may own goes on here."""
_TOLD_AGAIN_S: Final = 600.0
_MOST_TOLD: Final = 500
Estimate = Callable[[JobSubmission], Awaitable[JobEstimate | None]]


class OwnerService:
    """Gives jobs away and sees them to their end."""

    name = "ledger"

    def __init__(
        self,
        config: EngineConfig,
        book: Book,
        store: Store,
        peers: PeersAndMe,
        changes: Changes,
        *,
        placer: Placer,
        standings: Standings,
        copies: Copies,
        estimate: Estimate,
        perform: Perform,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self._config = config
        self._book = book
        self._store = store
        self._peers = peers
        self._changes = changes
        self._copies = copies
        self._estimate = estimate
        self._clock = clock
        self._metrics = metrics
        self._random_bytes = random_bytes
        self._work = asyncio.Event()
        self._loaded = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._epochs: dict[str, int] = {}
        self.ownership = Ownership(book, store, peers, changes, copies, self, clock=clock, metrics=metrics)
        self._hearing = Hearing(book, peers, self, standings, clock=clock, metrics=metrics)
        self.offering = Offering(
            config,
            book,
            store,
            peers,
            placer,
            clock=clock,
            metrics=metrics,
            end=self.end,
            learn=self._hearing.learn,
        )
        self._brief = Brief(book, store, perform, self.offering.ask, clock)
        peers.on_change(self._work.set)

    @property
    def is_loaded(self) -> bool:
        """Whether it has taken up what an earlier daemon left."""
        return self._loaded.is_set()

    def shares(self) -> bool:
        """Share jobs with all: one that is accepted while no peer is in sight is found by them later."""
        return True

    def totals(self) -> Mapping[JobState, int]:
        """Count the jobs by state: those that are away, and those that ended since this daemon started."""
        away = (errand for errand in self._book.errands.values() if errand.runner != self._book.me)
        counts = dict(self._book.ended)
        for errand in away:
            counts[errand.job.state] = counts.get(errand.job.state, 0) + 1
        return counts

    def knows(self, job_id: str) -> JobView | None:
        """Return a job that has not ended, as it is now."""
        errand = self._book.errands.get(job_id)
        return errand.view if errand is not None else None

    async def submit(self, submission: JobSubmission, client: str) -> str:
        """Accept a job for another node or for any, and return its id.

        Raises `job.no_node`, `job.conflict`, `job.queue_full`, and for any node what this node's QPU refuses.
        """
        if not self.is_loaded:
            raise stopping()
        if submission.client_key:
            known = await self._store.read(lambda connection: rows.find_by_key(connection, client, submission))
            if known:
                return await decided(self._book, known)
        check_node(submission.node, (node.name for node in self._peers.nodes()))
        check_room(submission, len(self._book.errands), self._config)
        errand = await self._new(submission, client)
        runner = self.offering.place(errand)
        if not runner:
            self.offering.check(errand)  # where one was found there is nothing to refuse
        self._book.add(errand)
        if runner:
            # the first runner is written down with the job itself: one transaction less before the job can start
            errand.grant, errand.job.attempts = self._book.lend(errand, runner, self._clock.now_ns()), 1
            if is_brief(errand) and await self._at_once(errand, errand.grant):
                return errand.job.id
        return await carried_through(self._group, self._accept(errand, runner))

    async def _at_once(self, errand: Errand, grant: Grant) -> bool:
        try:
            found = await self._brief.run(errand, grant)
        except BaseException:
            self._book.close(errand)
            raise
        if found is not None:
            errand.ended = True
            self._close(errand, JobState.DONE, grant)
            self._tell_end(errand, *found)
        return found is not None

    async def _accept(self, errand: Errand, runner: str) -> str:
        """Write a job down here and elsewhere, and begin."""
        job, submission = errand.job, errand.job.submission
        copied = None
        if len(errand.holders) > 1:
            # where a short job ends first, its end goes out instead; only a client's key has to be asked about at once
            linger = not submission.client_key and job.estimate is NO_ESTIMATE
            copied = asyncio.ensure_future(self._copies.put(errand.record(), linger=linger))
        try:
            accepted = await self._store.write(
                lambda connection: rows.insert(connection, job, runner, errand.epoch, errand.holders)
            )
        except BaseException:
            self._book.close(errand)
            if copied is not None:
                copied.cancel()
            raise
        if accepted != job.id:
            self._withdraw(errand)
            return await decided(self._book, accepted)
        # What was accepted has its seed, so that another runner would give the same counts.
        job.submission = msgspec.structs.replace(submission, seed=job.seed)
        if copied is None:
            self._start(errand)
            return accepted
        if not submission.client_key:
            self._start(errand)  # nobody can know this job, so it need not wait for who is asked
        return await self._copied(errand, copied)

    def _tell_end(self, errand: Errand, utc_ns: int, result: JobResult | None, problem: Problem | None = None) -> None:
        ended = msgspec.structs.replace(errand.view, ended_utc_ns=utc_ns, result=result, error=problem)
        if not errand.yielded and len(errand.holders) > 1:
            self._copies.tell(errand.record(ended))
        self._changes.ended(ended)

    async def _copied(self, errand: Errand, copied: asyncio.Future[bool | JobRecord]) -> str:
        """Wait for the first copy, unless the client's job is known elsewhere: then that one is it."""
        said = await copied
        job_id = errand.job.id
        if errand.job.submission.client_key:
            said = await self._copies.standing(errand, said)
        if errand.overtaken:
            await self._store.insist(lambda connection: rows.forget(connection, job_id))
            self._withdraw(errand)
            if isinstance(said, JobRecord) and said.digest != errand.digest:
                raise ledger.conflict(errand.job.submission.client_key, said.id)
            return errand.overtaken
        said = said is not False
        if errand.ended:
            return job_id
        errand.replicated = said
        if not said:
            _LOG.warning("job.not_replicated", job=job_id)
        if errand.job.submission.client_key:
            self._start(errand)
        else:
            self.tell(errand)  # it was begun before
        return job_id

    def _withdraw(self, errand: Errand) -> None:
        errand.ended = True
        self._book.close(errand)
        self._copies.tell(errand.withdrawn(self._clock.utc_ns()), hurry=True)

    def _start(self, errand: Errand) -> None:
        errand.busy = errand.untold = False
        self._changes.publish(errand.view)
        self.begin(errand)  # at once: to wake the loop of `run` first takes longer
        if len(self._book.errands) == 1:
            self._work.set()  # it looks at all more often now

    async def _new(self, submission: JobSubmission, client: str) -> Errand:
        estimate = await self._estimate(submission) if submission.node == ANY else None
        utc_ns, now_ns = self._clock.utc_ns(), self._clock.now_ns()
        seed = submission.seed if submission.seed is not None else int.from_bytes(self._random_bytes(4), "big")
        job_id = uuid7(utc_ns, self._random_bytes)
        job = new_job(job_id, submission, client, estimate or NO_ESTIMATE, seed, now_ns, utc_ns)
        # nothing is done for it before it is written down
        errand = Errand(job, submission.node, busy=True, waits_since_ns=now_ns, digest=ledger.request_hash(submission))
        if submission.node == ANY:
            others = self._copies.holders(place_of(client, submission.client_key, job_id))
            errand.holders, errand.replicated, errand.untold = (self._book.me, *others), False, True
        return errand

    async def cancel(self, job_id: str) -> None:
        """Have the runner stop; the job ends as cancelled unless it has ended before."""
        errand = self._book.errands.get(job_id)
        if errand is not None and errand.yielded:
            await self._peers.call(errand.yielded, JobCancel(job_id), JobHeard, deadline_s=_STOP_LIMIT_S)
            await self._changes.wait_end(job_id, _STOP_LIMIT_S)
        elif errand is not None:
            errand.job.cancel_wanted = True
            self._work.set()
            if not errand.ended:
                await self._changes.wait_end(job_id, 10.0)

    async def run(self, ready: Ready) -> None:
        """Take up what an earlier daemon had given away, then see to all until cancelled."""
        await self._take_up()
        self._loaded.set()
        ready()
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                group.create_task(self._hearing.ask_now_and_then())
                group.create_task(self._hearing.stop_orphans())
                await asyncio.sleep(_SETTLE_S if self._book.errands else 0)
                while True:
                    self._work.clear()
                    self._tick()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_TICK_S if self._book.errands else _IDLE_TICK_S):
                            await self._work.wait()
            finally:
                self._loaded.clear()
                self._group = None  # a group that ends takes no more

    async def _take_up(self) -> None:
        book = self._book
        book.reset()
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        for row in await self._store.read(lambda connection: ledger.unended(connection, elsewhere=True)):
            if row.runner == PARTS:
                continue
            errand = errand_of(row, now_ns, utc_ns)
            book.add(errand)
            owner = owner_of(row.epoch, row.holders) if row.holders else book.me
            if owner != book.me:
                errand.yielded = errand.hint = owner
            elif row.runner:
                book.resume(errand, row.runner, now_ns)
            if row.holders and owner == book.me:
                self._copies.tell(errand.record())  # whoever owns it meanwhile says so in the answer
        after_ns = utc_ns - round(_TOLD_AGAIN_S * 1e9)
        for record in await self._store.read(lambda connection: rows.last_ended(connection, after_ns, _MOST_TOLD)):
            if owner_of(record.epoch, record.holders) == book.me:
                self._copies.tell(record)  # the last daemon may have told it in vain

    def _tick(self) -> None:
        """See which leases ended and which runners are gone, and do what is due for each job."""
        now_ns = self._clock.now_ns()
        for node in self._peers.nodes():
            before = self._epochs.get(node.name)
            restarted = node.alive and before is not None and node.epoch > before
            if restarted or (node.left and not node.alive):
                self._book.leases.gone(node.name, now_ns)
            if node.alive or before is None:
                self._epochs[node.name] = node.epoch
        for job_id, grant in self._book.leases.due(now_ns):
            errand = self._book.errands.get(job_id)
            if errand is not None and not errand.ended:
                self.offering.lapsed(errand, grant)
        self.offering.hasten(self._group, now_ns)
        alive = self._peers.alive()
        for errand in list(self._book.errands.values()):
            errand.doubt = errand.doubt or not alive.issuperset(errand.holders)
            if self._book.is_due(errand, now_ns):
                self.begin(errand)

    def begin(self, errand: Errand) -> None:
        """Do what is due for a job, beside all others."""
        if not errand.busy and self._group is not None:
            errand.busy = True
            self._group.create_task(self._advance(errand))

    def wake(self) -> None:
        """Look at all jobs soon."""
        self._work.set()

    def tell(self, errand: Errand) -> None:
        """Tell followers how a job is now."""
        self._changes.publish(errand.view)

    async def _advance(self, errand: Errand) -> None:
        try:
            if await self.ownership.may_go_on(errand):
                await self.offering.advance(errand)
        except QedgeError as error:
            _LOG.debug("job.refused", code=error.code, client=errand.job.client)
        finally:
            errand.busy = False

    async def end(
        self,
        errand: Errand,
        state: JobState,
        *,
        error: QedgeError | None = None,
        view: JobView | None = None,
        winner: Grant | None = None,
    ) -> None:
        """Write the end down once, as the holder of lease `winner` said if any; where the disk is full, until it is."""
        if errand.ended:
            return
        errand.ended = True
        job = errand.job
        result = view.result if view is not None else None
        utc_ns = self._clock.utc_ns()
        if winner is not None and winner is errand.twin:
            errand.grant, errand.twin = winner, errand.grant
        try:
            packed = await ledger.packed_result(result)
            work = partial(rows.end, job=job, winner=winner, state=state, utc_ns=utc_ns, result=packed, error=error)
            await self._store.insist(work, patient=job.submission.is_batch)
        except asyncio.CancelledError:
            # who brought the news is gone: the next question brings it again, and writing an end twice is once
            errand.ended = False
            raise
        if winner is not None:
            errand.epoch = winner.epoch
        self._close(errand, state, winner)
        problem = problem_of(error) if error is not None else None
        _LOG.debug("job.ended", job=job.id, state=state.value, code=error.code if error else "")
        self._tell_end(errand, utc_ns, result, problem)

    def _close(self, errand: Errand, state: JobState, winner: Grant | None) -> None:
        job = errand.job
        if errand.runs_since_ns and job.estimate.time_s and state is JobState.DONE:
            self._book.stragglers.learn((self._clock.now_ns() - errand.runs_since_ns) / 1e9, job.estimate.time_s)
        self._book.close(errand, winner)
        job.state = state
        self._book.ended[state] += 1
        self._metrics.add("qedge_jobs_ended_total", (state.value,))
        if self._book.orphans:
            self._work.set()
