"""Holds records of other nodes' jobs, tells what it holds, and adopts jobs whose owner is gone."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.custody import Custody
from qedge.orchestrator.ledger.deciding import is_decided
from qedge.orchestrator.ledger.epochs import adopted_epoch, owner_of
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.orchestrator.ledger.ownership import Ownership
from qedge.store.packing import packed
from qedge.store.store import Store
from qedge.wire.jobs import JobHeard
from qedge.wire.ledger import JobCancel, JobRecord, RecordsAsk, RecordsFound, RecordsKeep, RecordsKept

_LOG: Final = get_logger("ledger")
_TICK_S: Final = 0.2
_KNOWN_S: Final = 2.0
_ASK_LIMIT_S: Final = 1.0
_PROBE_LIMIT_S: Final = 0.3
_MOST_ASKED: Final = 16
_MOST_RESULTS: Final = 8
_MOST_LOOKUPS: Final = 32
_ASK_EVERY: Final = 5
_PRUNE_EVERY: Final = 1500


class KeepService:
    """Serves `RecordsKeep`, `RecordsAsk` and `JobCancel`."""

    name = "job records"

    def __init__(
        self,
        config: LedgerConfig,
        keep_s: float,
        book: Book,
        store: Store,
        peers: PeersAndMe,
        ownership: Ownership,
        cancel: Callable[[str], Awaitable[None]],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._keep_ns = round(keep_s * 1e9)
        self._book = book
        self._store = store
        self._peers = peers
        self._ownership = ownership
        self._cancel_job = cancel
        self._clock = clock
        self._metrics = metrics
        self._aged_ns = clock.now_ns()
        self._vouched: set[str] = set()
        """Jobs of which their owners said, since the last pruning, that they go on."""

        self._full: set[str] = set()
        self._custody = Custody(peers.me, round(config.adopt_after_s * 1e9))
        self._counts: Counter[str] = Counter()
        self._lookups = 0
        self._tasks: set[asyncio.Future[None] | asyncio.Future[bool]] = set()
        peers.serve(RecordsKeep, self._keep)
        peers.serve(RecordsAsk, self._ask)
        peers.serve(JobCancel, self._cancel)

    async def run(self, ready: Ready) -> None:
        """Adopt what is to be adopted, until cancelled."""
        self._custody.began(self._clock.now_ns() + round(_KNOWN_S * 1e9))
        for record in await self._store.read(rows.unended_copies):
            self._custody.hold(record.id, record.epoch, record.holders)
        self._counts = Counter(await self._store.read(rows.copies_by_sender))
        ready()
        turns = 0
        while True:
            await asyncio.sleep(_TICK_S)
            turns += 1
            self._watch_yielded()
            for job_id in self._custody.due(self._peers.alive(), self._clock.now_ns()):
                await self._adopt(job_id)
            if turns % _ASK_EVERY == 0:
                await self._ask_owners()
            if turns % _PRUNE_EVERY == 0:
                await self._prune()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _watch_yielded(self) -> None:
        """A job that this node gave up to another one is watched like any record."""
        for errand in self._book.errands.values():
            if errand.yielded:
                self._custody.hold(errand.job.id, errand.epoch, errand.holders)

    async def _adopt(self, job_id: str) -> bool:
        """Own a job whose owner is gone, to the end though who asked for it waits no more.

        One that is written down as this node's, and known to nobody here, would wait for a restart.
        """
        adopting = asyncio.ensure_future(self._take_over(job_id))
        self._tasks.add(adopting)
        adopting.add_done_callback(self._tasks.discard)
        adopting.add_done_callback(lambda done: done.cancelled() or done.exception())  # where nobody waits any more
        return await asyncio.shield(adopting)

    async def _take_over(self, job_id: str) -> bool:
        record = await self._store.read(
            lambda connection: rows.own(connection, job_id) or rows.copy(connection, job_id)
        )
        self._custody.drop(job_id)
        if self._book.is_ending(job_id):
            return False
        if record is None or record.view.ended_utc_ns or record.submission.once or self._peers.me not in record.holders:
            return False
        epoch = adopted_epoch(record.epoch, record.holders.index(self._peers.me))
        await self._ownership.adopt(record, epoch)
        return True

    async def _ask_owners(self) -> None:
        """Ask the owners of a few jobs how those are: their end may have been told in vain."""
        alive = self._peers.alive()
        by_owner: dict[str, list[str]] = {}
        for job_id, owner in self._custody.asked(_MOST_RESULTS):
            if owner in alive and owner != self._peers.me:
                by_owner.setdefault(owner, []).append(job_id)
        for owner, ids in by_owner.items():
            try:
                found = await self._peers.call(owner, RecordsAsk(tuple(ids)), RecordsFound, deadline_s=_ASK_LIMIT_S)
            except QedgeError:
                continue
            self._vouched.update(each.id for each in found.records if not each.view.ended_utc_ns and each.id in ids)
            ended = tuple(record for record in found.records if record.view.ended_utc_ns and record.id in ids)
            if ended:
                await self._keep(owner, RecordsKeep(ended))
            for job_id in set(ids) - {record.id for record in found.records} - set(found.undecided):
                await self._adopt(job_id)  # its owner lives, and has lost it

    async def _prune(self) -> None:
        now_ns, vouched = self._clock.now_ns(), tuple(self._vouched)
        work = partial(rows.prune_copies, passed_ns=now_ns - self._aged_ns, keep_ns=self._keep_ns, vouched=vouched)
        try:
            aged = await self._store.write(work)
        except QedgeError:
            return  # the store said so already, and there is always a next time
        self._aged_ns = now_ns
        self._vouched.difference_update(vouched)
        for job_id in aged:
            self._custody.drop(job_id)
        if aged:
            self._metrics.add("qedge_job_records_total", ("aged",), len(aged))
            _LOG.warning("job.records_aged", records=len(aged), job=aged[0])
        with contextlib.suppress(QedgeError):  # as above
            self._counts = Counter(await self._store.read(rows.copies_by_sender))

    # Serving

    async def _keep(self, peer: str, keep: RecordsKeep) -> RecordsKept:
        """Hold records of jobs that the peer owns; of others, or too many, none.

        What is new of a job that is known here always has room: else a peer with too many jobs could not say that they
        ended.
        """
        fits = [record for record in keep.records if self._fits(peer, record)]
        all_packed = [await packed(record) for record in fits]
        held, most = self._counts[peer], self._config.records_of_one

        def work(connection: sqlite3.Connection) -> tuple[int, list[tuple[JobRecord, rows.Kept]]]:
            new = fits if held + len(fits) > most else []
            ids = {record.id for record in new if not rows.is_known(connection, record.id)}
            both = list(zip(fits, all_packed, strict=True))
            kept = [(one, rows.keep(connection, peer, one, row)) for one, row in both if one.id not in ids]
            gone = rows.make_room(connection, peer) if held + len(ids) > most else 0
            if ids and held - gone + len(ids) <= most:
                kept += [(one, rows.keep(connection, peer, one, row)) for one, row in both if one.id in ids]
            return gone, kept

        # nobody waits for the end of a batch job to be held, but for whatever else a peer brings
        patient = all(record.submission.is_batch and record.view.ended_utc_ns for record in fits)
        try:
            gone, outcomes = await self._store.write(work, patient=patient)
        except asyncio.CancelledError:
            # it may be written all the same, and who sent it may be gone before it sends it again
            for record in fits:
                self._watch(record)
            raise
        self._counts[peer] += sum(kept.new for _, kept in outcomes) - gone
        self._note_room(peer, len(fits) - len(outcomes))
        known, taken = [], set[str]()
        for record, kept in outcomes:
            if kept.refused:
                continue
            taken.add(record.id)
            if kept.before is not None:
                known.append(await self._contradict(record, kept.before))
                continue
            self._watch(record)
            if kept.mine:
                await self._ownership.yield_to(record)
        return RecordsKept(tuple(record.id for record in keep.records if record.id not in taken), tuple(known))

    def _watch(self, record: JobRecord) -> None:
        if record.view.ended_utc_ns or record.submission.once:
            self._custody.drop(record.id)
        else:
            self._custody.hold(record.id, record.epoch, record.holders)

    def _note_room(self, peer: str, refused: int) -> None:
        """Say once that a peer has as many jobs that do not end as records of one are held; it is told, and goes on."""
        if not refused:
            self._full.discard(peer)
            return
        self._metrics.add("qedge_job_records_total", ("refused",), refused)
        if peer not in self._full:
            self._full.add(peer)
            _LOG.warning("job.records_full", peer=peer, limit=self._config.records_of_one)

    def _fits(self, peer: str, record: JobRecord) -> bool:
        return (
            owner_of(record.epoch, record.holders) == peer
            and self._peers.me in record.holders
            and record.view.id == record.id
        )

    async def _contradict(self, record: JobRecord, before: JobRecord) -> JobRecord:
        """Say what goes before a record that came: the same job with another owner, or an older job of the client."""
        if before.id != record.id:
            # beside the answer, which a client waits for
            self._spawn(self._go_on(before))
        elif record.view.ended_utc_ns and not before.view.ended_utc_ns:
            await self._ownership.take_end(record)
        return before

    async def _go_on(self, record: JobRecord) -> None:
        """A client asks for a job again: where its owner is gone, or has lost it, go on with it at once."""
        kept = self._custody.find(record.id)
        if kept is None or record.view.ended_utc_ns:
            return
        if kept.owner in self._peers.alive():
            ask = RecordsAsk((record.id,))
            try:
                found = await self._peers.call(kept.owner, ask, RecordsFound, deadline_s=_PROBE_LIMIT_S)
            except QedgeError as error:
                if not error.code.startswith(("peer.", "bus.", "session.")):
                    return
            else:
                if found.undecided or any(each.id == record.id for each in found.records):
                    return
        if self._custody.find(record.id) is not None:
            await self._adopt(record.id)

    async def _ask(self, _peer: str, ask: RecordsAsk) -> RecordsFound:
        for job_id in ask.ids:
            if ask.claim:
                self._yield_to(job_id, ask)
            else:
                await is_decided(self._book, job_id, self._config.copy_wait_s)
        found = [record for job_id in ask.ids if (record := await self._find_here(job_id, bool(ask.claim))) is not None]
        if ask.client_key and not ask.claim:
            known = await self._store.read(lambda connection: rows.by_key(connection, ask.client, ask.client_key))
            found += [known] if known is not None else []
        with_result = [record.id for record in found if record.view.result is not None]
        for record in found if ask.wanted else ():
            if ask.ids:
                await self._go_on(record)
            else:
                self._spawn(self._go_on(record))
        late = set(with_result[_MOST_RESULTS:])
        undecided = tuple(job_id for job_id in ask.ids if self._is_open(job_id, bool(ask.claim)))
        return RecordsFound(tuple(record for record in found if record.id not in late), undecided)

    async def _cancel(self, peer: str, cancel: JobCancel) -> JobHeard:
        """End a job for a node that holds its record; for others it has no effect."""
        errand = self._book.errands.get(cancel.id)
        if errand is None or peer not in errand.holders:
            raise QedgeError("job.not_found", "No such job is held by the node that asks.")
        await self._cancel_job(cancel.id)
        return JobHeard()

    # Finding

    def _yield_to(self, job_id: str, ask: RecordsAsk) -> None:
        """Let a job of which nobody was told be the one of another node, if that was there first."""
        errand = self._book.errands.get(job_id)
        if errand is None or not errand.undecided or ask.claim >= job_id:
            return
        if (errand.job.client, errand.job.submission.client_key) == (ask.client, ask.client_key):
            errand.overtaken = ask.claim

    def _is_open(self, job_id: str, claimed: bool) -> bool:
        errand = self._book.errands.get(job_id)
        return errand is not None and bool(errand.overtaken or (errand.undecided and not claimed))

    async def _find_here(self, job_id: str, claimed: bool = False) -> JobRecord | None:
        if self._is_open(job_id, claimed):
            return None  # nobody is told of what may yet be withdrawn
        errand = self._book.errands.get(job_id)
        if errand is not None and not errand.yielded and errand.holders:
            return errand.record()
        return await self._store.read(lambda connection: rows.own(connection, job_id) or rows.copy(connection, job_id))

    async def find(self, job_id: str, *, wanted: bool = False) -> JobRecord | None:
        """Look for a job that is not known here: in the records, and at most at 16 peers."""
        here = await self._find_here(job_id)
        if here is not None and here.view.ended_utc_ns:
            return here
        if here is not None and wanted:
            await self._go_on(here)
            if job_id in self._book.errands:
                return await self._find_here(job_id)
        if self._lookups >= _MOST_LOOKUPS:
            return here  # who asks for what nobody has does not make the others busy
        others = [node.name for node in self._peers.nodes() if node.alive]
        if here is not None:
            owner = owner_of(here.epoch, here.holders)
            others = [owner] if owner in others else [name for name in others if name in here.holders]
        self._lookups += 1
        try:
            answers = await asyncio.gather(*(self._ask_one(name, job_id, wanted) for name in others[:_MOST_ASKED]))
        finally:
            self._lookups -= 1
        found = [record for record in (here, *(record for record, _ in answers)) if record is not None]
        if wanted:
            # of a request that came to two nodes at once, a holder may still have the job that its owner took back
            denied = [name for name, (record, heard) in zip(others, answers, strict=False) if heard and record is None]
            found = [each for each in found if each.view.ended_utc_ns or not _is_denied(each, denied)]
        return max(found, key=lambda record: (record.epoch, record.view.ended_utc_ns > 0), default=None)

    async def _ask_one(self, node: str, job_id: str, wanted: bool) -> tuple[JobRecord | None, bool]:
        """Return what a node knows of a job, and whether it answered."""
        try:
            found = await self._peers.call(node, RecordsAsk((job_id,), wanted), RecordsFound, deadline_s=_ASK_LIMIT_S)
        except QedgeError:
            return None, False
        return next((record for record in found.records if record.id == job_id), None), True

    async def cancel(self, record: JobRecord) -> None:
        """Ask the owner of a job to end it."""
        owner = owner_of(record.epoch, record.holders)
        await self._peers.call(owner, JobCancel(record.id), JobHeard, deadline_s=_ASK_LIMIT_S)


def _is_denied(record: JobRecord, denied: Collection[str]) -> bool:
    return bool(record.submission.client_key) and owner_of(record.epoch, record.holders) in denied
