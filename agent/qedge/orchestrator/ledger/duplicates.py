"""Finds jobs that are two for one key of a client, and says so: where a mesh was cut in two, both parts accepted one.

Neither can be taken back, since clients were told of both. What can be done is to tell the operator which they are. A
holder that is in reach again says so when it is told of a job late. Where the holders of both jobs are others
altogether, the owner asks the nodes that are back, as far as they come first for the key: of all nodes the one that
does so was in one of the parts, and the other part's owner finds that job there.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.orchestrator.ledger import rows
from qedge.orchestrator.ledger.book import Book
from qedge.orchestrator.ledger.custody import place_of, ranked
from qedge.orchestrator.ledger.epochs import owner_of
from qedge.orchestrator.ledger.loopback import PeersAndMe
from qedge.store.store import Store
from qedge.wire.ledger import JobRecord, RecordsAsk, RecordsFound

_LOG: Final = get_logger("ledger")
_SETTLE_S: Final = 1.0
_ASK_LIMIT_S: Final = 1.0
_MARGIN_NS: Final = 10 * 1_000_000_000
"""A node is cut off for some time before it counts as dead."""

_MOST_JOBS: Final = 500
_MOST_REMEMBERED: Final = 1000
_TRIES: Final = 5

Pair = tuple[str, str]
"""Ids of a job of this node and of the other one."""


class DuplicateWatch:
    """Looks when a node is back, or when a holder says that it knows another job."""

    name = "job duplicates"

    def __init__(
        self, copies: int, book: Book, store: Store, peers: PeersAndMe, *, clock: Clock, metrics: Metrics
    ) -> None:
        self._asked_of_each = copies + 1
        self._book = book
        self._store = store
        self._peers = peers
        self._clock = clock
        self._metrics = metrics
        self._away: dict[str, int] = {}
        self._seen: set[str] = set()
        self._began_ns = clock.now_ns()
        self._suspects: dict[Pair, tuple[str, int]] = {}
        self._told: OrderedDict[Pair, None] = OrderedDict()
        self._work = asyncio.Event()
        peers.on_change(self._work.set)

    def suspect(self, job_id: str, other: JobRecord, peer: str) -> None:
        """Take note that `peer` knows another job of the client's key; whether both stand is not clear yet."""
        pair = (job_id, other.id)
        if pair not in self._told and len(self._suspects) < _MOST_REMEMBERED:
            self._suspects.setdefault(pair, (peer, _TRIES))
            self._work.set()

    async def run(self, ready: Ready) -> None:
        """Look until cancelled."""
        ready()
        while True:
            await self._work.wait()
            self._work.clear()
            await asyncio.sleep(_SETTLE_S)
            try:
                await self._look(self._back())
                await self._confirm()
            except QedgeError as error:  # the store's; there is a next time
                _LOG.debug("job.duplicates_unknown", code=error.code)
            if self._suspects:
                self._work.set()

    def _back(self) -> Mapping[str, int]:
        """Return the nodes that are in sight again, and since when they were not."""
        now_ns, back = self._clock.now_ns(), dict[str, int]()
        nodes = self._peers.nodes()
        for node in nodes:
            if not node.alive:
                self._away.setdefault(node.name, now_ns)
            elif node.name in self._away or node.name not in self._seen:
                back[node.name] = self._away.pop(node.name, self._began_ns)
        self._seen = {node.name for node in nodes}
        self._away = {name: since_ns for name, since_ns in self._away.items() if name in self._seen}
        return back

    async def _look(self, back: Mapping[str, int]) -> None:
        """Ask those who are back for jobs with the keys of those that were accepted here meanwhile."""
        if not back:
            return
        away_ns = self._clock.now_ns() - min(back.values()) + _MARGIN_NS
        work = partial(rows.keyed, after_utc_ns=self._clock.utc_ns() - away_ns, most=_MOST_JOBS)
        alive, silent = self._peers.alive() - {self._peers.me}, set[str]()
        for job_id, client, key, holders in await self._store.read(work):
            await asyncio.sleep(0)  # in a large fleet each takes a millisecond, and heartbeats must not wait for all
            first = ranked(place_of(client, key, job_id), alive)[: self._asked_of_each]
            for name in first:
                if name in back and name not in holders and name not in silent:
                    found = await self._ask(name, RecordsAsk(client=client, client_key=key))
                    if found is None:
                        silent.add(name)
                        continue
                    for record in found.records:
                        if record.id != job_id and (record.client, record.submission.client_key) == (client, key):
                            self.suspect(job_id, record, name)

    async def _ask(self, node: str, ask: RecordsAsk) -> RecordsFound | None:
        try:
            return await self._peers.call(node, ask, RecordsFound, deadline_s=_ASK_LIMIT_S)
        except QedgeError:
            return None

    async def _confirm(self) -> None:
        """See which of the suspects stand: one of both may have been withdrawn before anybody was told of it."""
        for pair, (peer, tries) in list(self._suspects.items()):
            job_id, other_id = pair
            errand = self._book.errands.get(job_id)
            if errand is not None and errand.undecided:
                continue
            found = await self._ask(peer, RecordsAsk((other_id,)))
            if (found is None or other_id in found.undecided) and tries > 1:
                self._suspects[pair] = (peer, tries - 1)
                continue
            del self._suspects[pair]
            mine = await self._store.read(partial(rows.own, job_id=job_id))
            other = next((each for each in found.records if each.id == other_id), None) if found is not None else None
            if mine is not None and other is not None:
                self._tell(pair, mine, other)

    def _tell(self, pair: Pair, mine: JobRecord, other: JobRecord) -> None:
        self._told[pair] = None
        if len(self._told) > _MOST_REMEMBERED:
            self._told.popitem(last=False)
        self._metrics.add("qedge_jobs_duplicate_total")
        owner = owner_of(other.epoch, other.holders)
        _LOG.warning("job.duplicate", job=mine.id, other=other.id, peer=owner, client=mine.client)
