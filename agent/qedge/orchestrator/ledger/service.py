"""The services of the ledger, put together."""

from __future__ import annotations

from dataclasses import dataclass

from qedge.base.clock import Clock
from qedge.base.ids import RandomBytes
from qedge.base.metrics import Metrics
from qedge.base.service import Service
from qedge.engine.config import EngineConfig
from qedge.engine.model import Job
from qedge.engine.ports import ANY, Peers
from qedge.engine.service import EngineService
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.copying import CopyHooks, CopyService
from qedge.orchestrator.ledger.drain import DrainService
from qedge.orchestrator.ledger.duplicates import DuplicateWatch
from qedge.orchestrator.ledger.errands import ErrandService
from qedge.orchestrator.ledger.keeping import KeepService
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.orchestrator.ledger.owning import Estimate, OwnerService
from qedge.orchestrator.ledger.placing import RoundRobin
from qedge.orchestrator.ledger.ports import Placer, Standings
from qedge.orchestrator.placement.demand import is_small
from qedge.store.store import Store
from qedge.wire.jobs import JobEstimate, JobResult, JobState, JobSubmission
from qedge.wire.ledger import JobRecord


@dataclass(frozen=True, slots=True)
class Ledger:
    """The services, in the order of their start."""

    book: Book
    copies: CopyService
    keeping: KeepService
    errands: ErrandService
    owner: OwnerService
    drain: DrainService
    duplicates: DuplicateWatch

    @property
    def services(self) -> tuple[Service, ...]:
        """Return all of them."""
        return self.copies, self.keeping, self.errands, self.owner, self.drain, self.duplicates


class _Work:
    """Fills `Work` of the drain."""

    def __init__(self, engine: EngineService, book: Book, copies: CopyService) -> None:
        self._engine = engine
        self._book = book
        self._copies = copies

    def counts(self) -> tuple[int, int]:
        """Return how many jobs wait and run here; those that wait for a place elsewhere count as waiting."""
        placeless = sum(errand.grant is None and not errand.yielded for errand in self._book.errands.values())
        totals = self._engine.here()
        return totals[JobState.QUEUED] + placeless, totals[JobState.RUNNING]

    def unsent(self) -> int:
        """Return how many records their other holders have not got yet."""
        return self._copies.waiting()


class Unjudged:
    """Fills `Standings` where nobody keeps them: nobody is barred."""

    barred: frozenset[str] = frozenset()

    def convict(self, _node: str, _job_id: str, _why: str) -> None:
        """Remember nothing; the result is not taken in any case."""


def _estimate(engine: EngineService) -> Estimate:
    async def estimate(submission: JobSubmission) -> JobEstimate | None:
        # what this node could run it refuses for what is wrong with it; what is too large here may fit elsewhere
        if submission.node != ANY or not engine.reception.can_run or submission.qpu or is_small(submission):
            return None
        return await engine.reception.estimate(submission, binding=False)

    return estimate


def make_ledger(
    me: str,
    engine_config: EngineConfig,
    config: LedgerConfig,
    engine: EngineService,
    store: Store,
    others: Peers,
    *,
    clock: Clock,
    metrics: Metrics,
    random_bytes: RandomBytes,
    placer: Placer | None = None,
    standings: Standings | None = None,
) -> Ledger:
    """Make the services of node `me`; without a placer jobs go round, without standings nobody is barred."""
    peers, book = PeersAndMe(me, others), Book(me, config)

    async def known(record: JobRecord) -> None:
        await owner.ownership.yield_to(record)

    async def perform(job: Job) -> JobResult | None:
        return None if errands.closed else await engine.reception.perform(job, engine.keeper.own)

    def room() -> bool:
        return engine.has_room

    turns = RoundRobin(me, nodes=peers.nodes, given=book.given, room=room, able=lambda: engine.reception.can_run)
    duplicates = DuplicateWatch(config.copies, book, store, peers, clock=clock, metrics=metrics)
    hooks = CopyHooks(on_known=known, on_kept=book.kept, on_late=book.was_quiet, on_other=duplicates.suspect)
    copies = CopyService(config, peers, hooks, clock=clock, metrics=metrics)
    owner = OwnerService(
        engine_config,
        book,
        store,
        peers,
        engine.changes,
        placer=placer or turns,
        standings=standings or Unjudged(),
        copies=copies,
        estimate=_estimate(engine),
        perform=perform,
        clock=clock,
        metrics=metrics,
        random_bytes=random_bytes,
    )
    errands = ErrandService(config, engine, store, peers, clock=clock)
    return Ledger(
        book,
        copies,
        KeepService(config, engine_config.keep_s, book, store, peers, owner.ownership, owner.cancel, clock, metrics),
        errands,
        owner,
        DrainService(config, errands, owner.offering, _Work(engine, book, copies), store, clock=clock, metrics=metrics),
        duplicates,
    )
