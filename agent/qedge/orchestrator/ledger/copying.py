"""Takes records of this node's jobs to the nodes that hold them: one message at a time to each, with all that wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.orchestrator.ledger.config import LedgerConfig
from qedge.orchestrator.ledger.custody import place_of, ranked
from qedge.orchestrator.ledger.epochs import owner_of
from qedge.orchestrator.ledger.errand import Errand
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.wire.ledger import MAX_RECORDS, JobRecord, RecordsAsk, RecordsFound, RecordsKeep, RecordsKept

_LOG: Final = get_logger("ledger")
_SEND_LIMIT_S: Final = 3.0
_MOST_BYTES: Final = 1 << 20
_MOST_WAITING: Final = 20_000
_RETRY_S: Final = 0.3
_ASKED_MORE: Final = 1
_CLAIMS: Final = 5
_CLAIM_AGAIN_S: Final = 0.01
_LINGER_S: Final = 0.03
"""Short jobs end within this time, and then one record says all."""
_TOGETHER_S: Final = 0.05
"""Ends of jobs that nobody waits for are gathered for this long: many travel, and are written, as one."""
_MOST_BATCH_BYTES: Final = 1 << 18
"""Records of batch jobs travel in smaller messages, so that a line to a slow node is not held for long."""


_Said = bool | JobRecord | None
"""What a holder said; None: the job ended before it was asked, and the record of that goes instead."""
_Answer = asyncio.Future[_Said]


@dataclass(slots=True)
class _Line:
    """What waits for one node: the newest record of each job, and who waits for its answer.

    `lingering` records are sent a moment later, unless a newer one of the same job comes before.
    """

    records: dict[str, JobRecord] = field(default_factory=dict)
    waiting: dict[str, list[_Answer]] = field(default_factory=dict)
    lingering: dict[str, JobRecord] = field(default_factory=dict)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while somebody waits; other records are sent together, a moment later."""

    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class CopyHooks:
    """Who hears of what holders say.

    `on_known` hears of records under a higher epoch: another node owns the job. `on_kept` hears of each job whose
    record another node has written down, `on_late` of each node for which a client's request waited in vain,
    `on_other` of jobs whose client's key stands for another one at a holder.
    """

    on_known: Callable[[JobRecord], Awaitable[None]]
    on_kept: Callable[[str], None]
    on_late: Callable[[str, int], None]
    on_other: Callable[[str, JobRecord, str], None]


class CopyService:
    """Fills `Copies`."""

    name = "job copies"

    def __init__(
        self,
        config: LedgerConfig,
        peers: PeersAndMe,
        hooks: CopyHooks,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._peers = peers
        self._hooks = hooks
        self._clock = clock
        self._metrics = metrics
        self._lines: dict[tuple[str, bool], _Line] = {}
        """By node, and whether for batch jobs: others have a line of their own, which overtakes that one."""

        self._refusing: set[str] = set()
        self._group: asyncio.TaskGroup | None = None
        peers.on_change(self._kick)

    async def run(self, ready: Ready) -> None:
        """Send until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready()
                self._kick()
                try:
                    await asyncio.Event().wait()
                finally:
                    self._group = None  # a group that ends takes no more
        finally:
            for line in self._lines.values():
                line.task = None

    def holders(self, key: str) -> Sequence[str]:
        """Return the living nodes that come first for a key."""
        if not self._config.copies:
            return ()
        alive = [node.name for node in self._peers.nodes() if node.alive]
        return ranked(key, alive)[: self._config.copies]

    async def put(self, record: JobRecord, *, linger: bool = False) -> bool | JobRecord:
        """Send a record to its other holders; returns whether one has it in time, or the record that goes before it.

        With `linger` it is sent in a moment, if the job has not ended by then: else its end is the first that is sent.
        """
        loop = asyncio.get_running_loop()
        answers: dict[str, _Answer] = {}
        for holder in record.holders:
            if holder != self._peers.me:
                answers[holder] = loop.create_future()
                self._add(holder, record, answers[holder], linger=linger)
        asked = self._ask_others(record)
        said: _Said = False
        try:
            async with asyncio.timeout(self._config.copy_wait_s):
                for done in asyncio.as_completed([*answers.values(), *asked.values()]):
                    answer_of_one = await done
                    if answer_of_one is None:
                        return False
                    said = answer_of_one or said
                    if isinstance(said, JobRecord) or (said and not asked):
                        break
        except TimeoutError:
            for node, waiting in (*answers.items(), *asked.items()):
                if not waiting.done():
                    self._was_late(node, record)
        self._metrics.add("qedge_job_copies_total", ("late" if said is False else "kept",))
        return said or False

    def _ask_others(self, record: JobRecord) -> dict[str, _Answer]:
        """Ask the nodes that come next for the key: one that is gone may stand before the one that knows it."""
        key = record.submission.client_key
        if not key or self._group is None or record.epoch > 1:
            return {}
        alive = [node.name for node in self._peers.nodes() if node.alive]
        first = ranked(place_of(record.client, key, record.id), alive)[: self._config.copies + _ASKED_MORE]
        others = [name for name in first if name not in record.holders]
        return {name: self._group.create_task(self._ask(name, record)) for name in others}

    async def _ask(self, node: str, record: JobRecord) -> _Said:
        ask = RecordsAsk(client=record.client, client_key=record.submission.client_key, wanted=True)
        limit_s = max(0.1, 2 * self._config.copy_wait_s)  # whoever waits gives up before, and sees that it is late
        try:
            found = await self._peers.call(node, ask, RecordsFound, deadline_s=limit_s)
        except QedgeError:
            return False
        known = [each for each in found.records if each.id != record.id and each.client == record.client]
        return known[0] if known else False

    def _was_late(self, node: str, record: JobRecord) -> None:
        submission = record.submission
        if submission.client_key and not submission.is_batch:
            self._hooks.on_late(node, self._clock.now_ns())

    async def standing(self, errand: Errand, said: bool | JobRecord) -> bool | JobRecord:
        """See whether what holders said about the client's key stands against a job that nobody was told of yet.

        Returns the record that goes before it, which `errand.overtaken` names then, or whether one has its own record.
        A request that came to two nodes at once is accepted by both of them; they agree by the ids of the jobs.
        """
        for _ in range(_CLAIMS):
            if errand.overtaken or not isinstance(said, JobRecord) or said.id == errand.job.id:
                break
            if said.view.ended_utc_ns or await self._stands(said, errand):
                errand.overtaken = said.id
                return said
            await asyncio.sleep(_CLAIM_AGAIN_S)  # its holders are about to forget it
            said = await self.put(errand.record())
        return said if isinstance(said, bool) else said.id == errand.job.id

    async def _stands(self, known: JobRecord, errand: Errand) -> bool:
        owner = owner_of(known.epoch, known.holders)
        if owner == self._peers.me or owner not in self._peers.alive():
            return True
        key = errand.job.submission.client_key
        ask = RecordsAsk((known.id,), client=known.client, client_key=key, claim=errand.job.id)
        try:
            found = await self._peers.call(owner, ask, RecordsFound, deadline_s=max(0.1, self._config.copy_wait_s))
        except QedgeError:
            return True
        return any(record.id == known.id for record in found.records)

    def tell(self, record: JobRecord, *, hurry: bool = False) -> None:
        """Send a record when there is time, again and again until its holders have it or something newer."""
        for holder in record.holders:
            if holder != self._peers.me:
                self._add(holder, record, None)
                if hurry:
                    self._lines[holder, record.submission.is_batch].hurry.set()

    def waiting(self) -> int:
        """Count the records that are not with their holders yet, those for nodes that are gone apart."""
        alive = self._peers.alive()
        return sum(len(line.records) + len(line.lingering) for (name, _), line in self._lines.items() if name in alive)

    def _add(self, holder: str, record: JobRecord, answer: _Answer | None, *, linger: bool = False) -> None:
        is_batch = record.submission.is_batch
        line = self._lines.setdefault((holder, is_batch), _Line())
        if line.lingering.pop(record.id, None) is not None and record.view.ended_utc_ns:
            _settle(line.waiting.pop(record.id, []), said=None)
        if record.id in line.records or len(line.records) < _MOST_WAITING:
            (line.lingering if linger else line.records)[record.id] = record
            if answer is not None:
                line.waiting.setdefault(record.id, []).append(answer)
        elif answer is not None:
            answer.set_result(False)
        if answer is not None and not linger:
            line.hurry.set()
        if linger:
            asyncio.get_running_loop().call_later(_LINGER_S, self._linger_no_more, holder, line, record)
        else:
            self._begin(holder, line)

    def _linger_no_more(self, holder: str, line: _Line, record: JobRecord) -> None:
        if line.lingering.pop(record.id, None) is not None:
            line.records.setdefault(record.id, record)
            line.hurry.set()
            self._begin(holder, line)

    def _kick(self) -> None:
        for (holder, _), line in self._lines.items():
            self._begin(holder, line)

    def _begin(self, holder: str, line: _Line) -> None:
        if line.records and line.task is None and self._group is not None:
            line.task = self._group.create_task(self._send_all(holder, line))

    async def _send_all(self, holder: str, line: _Line) -> None:
        try:
            while line.records and holder in self._peers.alive():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TOGETHER_S):
                        await line.hurry.wait()
                line.hurry.clear()
                batch = _batch(line.records)
                for record in batch:
                    del line.records[record.id]
                waiting = [line.waiting.pop(record.id, []) for record in batch]
                try:
                    kept = await self._peers.call(
                        holder, RecordsKeep(tuple(batch)), RecordsKept, deadline_s=_SEND_LIMIT_S
                    )
                except QedgeError as error:
                    for record in batch:
                        line.records.setdefault(record.id, record)
                    _settle([each for answers in waiting for each in answers], said=False)
                    _LOG.debug("job.news_lost", job=batch[0].id, peer=holder, code=error.code)
                    await asyncio.sleep(_RETRY_S)
                    continue
                self._count_refused(holder, len(kept.refused))
                await self._take(holder, batch, waiting, kept)
        finally:
            line.task = None

    def _count_refused(self, holder: str, records: int) -> None:
        if not records:
            self._refusing.discard(holder)
            return
        self._metrics.add("qedge_job_copies_total", ("refused",), records)
        if holder not in self._refusing:
            self._refusing.add(holder)
            _LOG.warning("job.copies_refused", peer=holder, records=records)

    async def _take(self, holder: str, batch: list[JobRecord], waiting: list[list[_Answer]], kept: RecordsKept) -> None:
        refused = set(kept.refused)
        by_id = {record.id: record for record in kept.known}
        by_key = {(each.client, each.submission.client_key): each for each in kept.known if each.submission.client_key}
        for record, answers in zip(batch, waiting, strict=True):
            known = by_id.get(record.id) or by_key.get((record.client, record.submission.client_key))
            if known is not None and known.id == record.id and known.epoch <= record.epoch:
                known = None
            _settle(answers, said=known if known is not None else record.id not in refused)
            if known is None and record.id not in refused:
                self._hooks.on_kept(record.id)
            if known is not None and known.id == record.id:
                await self._hooks.on_known(known)
            elif known is not None and not record.withdrawn:
                self._hooks.on_other(record.id, known, holder)


def _batch(records: dict[str, JobRecord]) -> list[JobRecord]:
    batch: list[JobRecord] = []
    size, most = 0, _MOST_BYTES
    for record in records.values():
        result = record.view.result
        size += 1024 + len(record.submission.program) + (64 * len(result.counts) if result is not None else 0)
        if record.submission.is_batch:
            most = _MOST_BATCH_BYTES
        if batch and (size > most or len(batch) >= MAX_RECORDS):
            break
        batch.append(record)
    return batch


def _settle(answers: list[_Answer], *, said: _Said) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_result(said)
