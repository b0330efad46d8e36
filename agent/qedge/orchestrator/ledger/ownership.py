"""Who owns a job: this node adopts those whose owner is gone, and yields those that another one adopted."""

from __future__ import annotations

from typing import Final, Protocol

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.engine.changes import Changes
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.epochs import owner_of
from qedge.orchestrator.ledger.errand import Errand, adopted
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.orchestrator.ledger.model import Grant
from qedge.orchestrator.ledger.offering import Offering
from qedge.orchestrator.ledger.ports import Copies
from qedge.store.store import Store
from qedge.wire.jobs import JobState, JobView
from qedge.wire.ledger import JobRecord
from qedge.wire.problem import error_of

_LOG: Final = get_logger("ledger")
_WRITTEN_LIMIT_S: Final = 5.0


class Owner(Protocol):
    """Sees jobs to their end."""

    @property
    def offering(self) -> Offering:
        """What brings jobs to runners."""
        ...

    def begin(self, errand: Errand) -> None:
        """Do what is due for a job."""
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


class Ownership:
    """Changes the owner of jobs, by epochs alone: who has a job under the highest one owns it."""

    def __init__(
        self,
        book: Book,
        store: Store,
        peers: PeersAndMe,
        changes: Changes,
        copies: Copies,
        owner: Owner,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._book = book
        self._store = store
        self._peers = peers
        self._changes = changes
        self._copies = copies
        self._owner = owner
        self._clock = clock
        self._metrics = metrics

    async def may_go_on(self, errand: Errand) -> bool:
        """Say whether this node still owns a job; asks its holders where one was out of reach."""
        alive = self._peers.alive()
        if errand.doubt and any(holder in alive for holder in errand.holders if holder != self._book.me):
            errand.doubt = False
            said = await self._copies.put(errand.record())
            if isinstance(said, JobRecord) and said.id == errand.job.id:
                await self.yield_to(said)
        return not errand.yielded

    async def adopt(self, record: JobRecord, epoch: int) -> None:
        """Own a job whose owner is gone; its record is in the database as that of this node when this returns."""
        errand = adopted(record, epoch, self._clock.now_ns(), self._clock.utc_ns())
        errand.replicated = True
        await self._store.write(lambda connection: rows.adopt(connection, errand.job, record, epoch), accepted=True)
        if record.id in self._book.errands:
            mine = self._book.errands[record.id]
            self._book.close(mine)
        self._book.add(errand)
        _LOG.warning("job.adopted", job=record.id, peer=owner_of(record.epoch, record.holders), epoch=epoch)
        self._metrics.add("qedge_jobs_adopted_total")
        self._copies.tell(errand.record())
        self._changes.publish(errand.view)
        self._owner.begin(errand)

    async def yield_to(self, record: JobRecord) -> None:
        """Hear that another node owns a job of this one, under a higher epoch; its end is the end."""
        if self._book.is_ending(record.id):
            # clients keep what they were told last, so the end that is written at the moment has to be told before
            await self._changes.wait_end(record.id, _WRITTEN_LIMIT_S)
        errand = self._book.errands.get(record.id)
        owner = owner_of(record.epoch, record.holders)
        view, epoch = record.view, record.epoch
        if owner == self._book.me:
            # an older word of this node came to a holder after a newer one, which it was shown for an answer
            if view.ended_utc_ns:
                await self.take_end(record)
            return
        if errand is None or errand.ended:
            # it ended here as well, under a lower epoch
            if view.ended_utc_ns and await self._store.write(
                lambda connection: rows.supersede(connection, record), accepted=True
            ):
                self._changes.ended(view)
            return
        if not errand.yielded:
            _LOG.warning("job.yielded", job=record.id, peer=owner, epoch=epoch)
        for grant in (errand.twin, errand.grant):
            if grant is not None:
                self._owner.offering.give_up(record.id, grant)
                self._book.lose(errand, grant)
        errand.yielded, errand.epoch, errand.hint = owner, epoch, view.node
        await self._store.write(lambda connection: rows.note_epoch(connection, record.id, epoch), accepted=True)
        if view.ended_utc_ns:
            error = error_of(view.error) if view.error is not None else None
            errand.job.qpu, errand.job.attempts = view.qpu, view.attempts
            await self._owner.end(errand, view.state, error=error, view=view)
        elif view.state is not errand.job.state:
            errand.job.state = view.state
            self._changes.publish(errand.view)

    async def take_end(self, record: JobRecord) -> None:
        """Take the end that an earlier owner wrote, where this node has none yet: one end less to choose from."""
        errand = self._book.errands.get(record.id)
        if errand is not None and not errand.yielded:
            view = record.view
            error = error_of(view.error) if view.error is not None else None
            await self._owner.end(errand, view.state, error=error, view=view)
