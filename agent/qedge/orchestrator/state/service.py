"""The shared state as a service: what this node puts is signed, said and kept; what others say is checked first.

News go out at once, on one topic of each writer. What is lost on the way (a broker that was away, a partition, a node
that was off) is found by comparing with partners now and then, and after every reconnect. The database is written
behind: entries that a crash takes from it are with the peers, and come back from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.bus.service import Bus
from qedge.crypto.trust import Trust
from qedge.mesh.crypto_thread import CryptoThread
from qedge.orchestrator.state import rows
from qedge.orchestrator.state.allowance import Allowances, Moments
from qedge.orchestrator.state.book import Heard, StateBook, due_again
from qedge.orchestrator.state.config import StateConfig
from qedge.orchestrator.state.exchange import Compared, Exchange
from qedge.orchestrator.state.model import Entry, Verdict
from qedge.orchestrator.state.namespaces import NAMESPACES, Scope
from qedge.orchestrator.state.partners import Rhythm, gateways, partners, pick
from qedge.orchestrator.state.ports import StatePeers
from qedge.orchestrator.state.proof import CHANNELS, Signer, is_short, message_of, peek, topic_of, verify, verify_all
from qedge.orchestrator.state.replica import Replica
from qedge.orchestrator.state.sites import summaries
from qedge.store.store import Store
from qedge.wire.envelope import bad_message
from qedge.wire.state import SiteSummary, StateRow, StateRows
from qedge.wire.topics import every_node, parse_topic

_LOG: Final = get_logger("state")
_FLUSH_S: Final = 0.25
_RETRY_S: Final = 2.0
_LOOK_S: Final = 0.2
_TEND_S: Final = 10.0
_SAVED_AT_ONCE: Final = 512
_NEWS_LIFE_S: Final = 60
_CHECK_GAP_NS: Final = 5_000_000
"""A word alone is checked where it comes: two changes of threads take longer than a signature that is good or bad. Of
many words at once the rest goes to the thread, so that checks never have more than a tenth of the event loop."""

_OTHER_SITES: Final = 0.5
_QUIET: Final = frozenset({Verdict.NEW, Verdict.OLD, Verdict.CROWDED})


class StateService:
    """The copy of the shared state that this node holds."""

    name = "state"

    def __init__(
        self,
        node: str,
        config: StateConfig,
        signer: Signer,
        trust: Trust,
        peers: StatePeers,
        *,
        bus: Bus,
        store: Store,
        thread: CryptoThread,
        clock: Clock,
        metrics: Metrics,
        uniform: Callable[[], float],
    ) -> None:
        self.node = node
        self.config = config
        self._signer = signer
        self._trust = trust
        self._peers = peers
        self._bus = bus
        self._store = store
        self._thread = thread
        self._clock = clock
        self._metrics = metrics
        self._uniform = uniform
        self._book = StateBook(node, round(config.max_ahead_s * 1e9))
        self._exchange = Exchange(self._book.replicas, peers, self._learn)
        self._allowances = Allowances(config.entries_per_s)
        self._moments = Moments(_CHECK_GAP_NS)
        self._rhythm = Rhythm(round(config.compare_s * 1e9))
        self._exchange.on_differed = lambda: self._rhythm.asked(clock.now_ns(), uniform())
        self._putting = asyncio.Lock()
        self._changed = asyncio.Event()
        self._unsaid: dict[bytes, Entry] = {}
        self._kept_alive: dict[bytes, Entry] = {}
        self._opened = False
        self._sites: tuple[SiteSummary, ...] = ()
        self._sites_at = 0
        for channel in CHANNELS.values():
            bus.subscribe(every_node(trust.fleet, channel), self._hear, own=False)
        bus.on_session(self._connected)

    # What programs of this node do

    async def put(self, namespace: str, key: str, value: bytes = b"", *, serial: int = 0) -> StateRow:
        """Say something under a key: it is signed, counts here, and is on its way when this returns.

        Raises `state.not_found` for a namespace that is not known, `state.refused` for a value that is too large,
        `state.full`, `state.clock`.
        """
        return self._book.row(await self._say(namespace, key, value, serial=serial))

    async def delete(self, namespace: str, key: str) -> StateRow:
        """Say that nothing stands under a key any more; raises as `put`, and `state.not_found` where nothing does."""
        return self._book.row(await self._say(namespace, key, b"", deleted=True))

    def get(self, namespace: str, key: str, writer: str = "") -> StateRow | None:
        """Return what stands under a key; where each node has its own, that of `writer`, empty: this node."""
        entry = self._book.get(namespace, key, writer)
        return None if entry is None else self._book.row(entry)

    def under(self, namespace: str, key: str = "") -> tuple[Entry, ...]:
        """Return all entries of a namespace, or all writers' of one key; raises `state.not_found`."""
        return self._book.under(namespace, key)

    def said(self, namespace: str) -> frozenset[str]:
        """Return the keys under which this node has said something since its start, and means it still."""
        return frozenset(entry.said.key for entry in self._kept_alive.values() if entry.said.namespace == namespace)

    def watch(self, namespace: str, heard: Heard) -> Callable[[], None]:
        """Call `heard` with every entry that comes, verified, also of this node; returns what ends that."""
        return self._book.watch(namespace, heard)

    def listing(self, namespace: str = "", since: int = 0) -> StateRows:
        """Describe what is held; with `since` only what came after that change, deletions too."""
        roots = {scope: replica.root().hex() for scope, replica in self._book.replicas.items()}
        return StateRows(
            tuple(self._book.rows(namespace, since)), self._book.change, roots[Scope.SITE], roots[Scope.FLEET]
        )

    async def changes(self, namespace: str, since: int, wait_s: float) -> StateRows:
        """Return what came after change `since`, as soon as something did, at the latest after `wait_s` seconds."""
        if since > self._book.change:
            since = 0  # numbers begin anew with each start of the node
        try:
            async with asyncio.timeout(wait_s):
                while self._book.last_change(namespace) <= since:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.listing(namespace, since)

    async def learn(self, peer: str, message: bytes) -> bool:
        """Check an entry that came another way than over this bus and take it in; says whether it was new."""
        return await self._learn(peer, [message]) > 0

    @property
    def shared(self) -> Replica:
        """The map of the fleet, for those who compare it another way than with peers."""
        return self._book.replicas[Scope.FLEET]

    async def run(self, ready: Ready) -> None:
        """Read what was kept, then save, compare and renew until cancelled."""
        await self._open()
        ready()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._save())
                group.create_task(self._tend())
                await self._compare()
        finally:
            await self._flush()

    # Saying

    async def _say(self, namespace: str, key: str, value: bytes, *, serial: int = 0, deleted: bool = False) -> Entry:
        async with self._putting:  # so that stamps go out in their order
            said = self._book.draft(namespace, key, value, self._clock.utc_ns(), serial=serial, deleted=deleted)
            entry = await self._thread.run(self._signer.sign, said)
            self._post(entry)  # before those who watch here take their time
            self._take(entry)
            self._kept_alive[entry.ident] = entry
            if deleted:
                del self._kept_alive[entry.ident]
        return entry

    def _post(self, entry: Entry) -> None:
        try:
            if not self._bus.connected:
                raise QedgeError("bus.unavailable", "There is no broker.")
            self._bus.post(topic_of(self._trust.fleet, entry), message_of(entry), expiry_s=_NEWS_LIFE_S)
            self._metrics.add("qedge_state_entries_total", ("said",))
        except QedgeError:
            self._unsaid[entry.ident] = entry  # said with the next connection

    async def _connected(self, _session_present: bool) -> None:
        self._rhythm.connected(self._clock.now_ns(), self._uniform())
        self._introduce()
        unsaid, self._unsaid = self._unsaid, {}
        for entry in unsaid.values():
            self._post(entry)

    # Hearing

    async def _hear(self, message: Incoming) -> None:
        parsed = parse_topic(message.topic)
        if parsed is None or not message.payload:
            raise bad_message("it is no entry of the shared state")
        writer = parsed[1]
        if writer == self.node:
            return  # what comes back of this node's own words; what a copy of the box says comes by comparing
        scope, said, claimed, ident, version = peek(message.payload, self._trust.fleet, message.topic)
        if claimed != writer:
            raise bad_message("it speaks for another node")
        replica = self._book.replicas[scope]
        known = replica.find(ident)
        if known is not None and known.version == version:
            return
        verdict = replica.precheck(said, ident, self._clock.utc_ns())
        if verdict is not None:
            self._count(verdict, writer, said.namespace, said.key)
            return
        if not self._allowances.take(writer, self._clock.now_ns()):
            self._bus.reject("state_flood")
            return
        if self._moments.take(self._clock.now_ns()) and is_short(message.payload, self._trust):
            self._take(verify(message.payload, self._trust))
        else:
            self._take(await self._thread.run(verify, message.payload, self._trust))

    async def _learn(self, peer: str, messages: list[bytes]) -> int:
        """Check what a peer handed over and take it in; returns how many entries were new."""
        worth = [data for data in messages if self._is_worth_a_check(data)]

        def refused(error: QedgeError) -> None:
            _LOG.warning("state.refused", writer=peer, namespace="", key="", reason=error.code)

        entries = await self._thread.run(verify_all, worth, self._trust, refused) if worth else []
        return sum(self._take(entry) is Verdict.NEW for entry in entries)

    def _is_worth_a_check(self, data: bytes) -> bool:
        try:
            scope, said, writer, ident, version = peek(data, self._trust.fleet)
        except QedgeError:
            self._metrics.add("qedge_state_entries_total", (Verdict.FORBIDDEN.value,))
            return False
        replica = self._book.replicas[scope]
        known = replica.find(ident)
        if known is not None and known.version == version:
            return False
        verdict = replica.precheck(said, ident, self._clock.utc_ns())
        if verdict is not None:
            self._count(verdict, writer, said.namespace, said.key)
        return verdict is None

    def _take(self, entry: Entry) -> Verdict:
        verdict = self._book.take(entry, self._clock.utc_ns())
        self._count(verdict, entry.writer, entry.said.namespace, entry.said.key)
        if verdict is Verdict.NEW:
            self._changed.set()
        return verdict

    def _count(self, verdict: Verdict, writer: str, namespace: str, key: str) -> None:
        self._metrics.add("qedge_state_entries_total", (verdict.value,))
        if verdict not in _QUIET:
            self._bus.reject(f"state_{verdict.value}")
            _LOG.info("state.refused", writer=writer, namespace=namespace, key=key, reason=verdict.value)

    # Comparing

    async def _compare(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._clock.now_ns() < self._rhythm.due_ns or not self._bus.connected:
                continue
            found = await self._compare_once()
            differed = found is None or found.differed
            self._rhythm.compared(self._clock.now_ns(), self._uniform(), differed=differed)

    async def _compare_once(self) -> Compared | None:
        """Compare with one partner, in both scopes; None where there was none or it did not answer."""
        alive = self._peers.alive()
        here, far = partners(self.node, alive), self._other_gateways(alive)
        if far and (not here or self._uniform() < _OTHER_SITES):
            found = await self._with(pick(far, self._uniform()), (Scope.FLEET,))
            if found is None:
                self._introduce()
            return found
        if not here:
            return None
        return await self._with(pick(here, self._uniform()), tuple(Scope))

    async def _with(self, peer: str, scopes: tuple[Scope, ...]) -> Compared | None:
        got = gave = 0
        for scope in scopes:
            try:
                found = await self._exchange.compare(peer, scope)
            except QedgeError as error:
                _LOG.debug("state.not_compared", peer=peer, scope=scope.value, code=error.code)
                self._metrics.add("qedge_state_comparisons_total", ("failed",))
                return None
            self._metrics.add("qedge_state_comparisons_total", ("differed" if found.differed else "alike",))
            if found.differed:
                _LOG.debug("state.compared", peer=peer, scope=scope.value, got=found.got, gave=found.gave)
            got, gave = got + found.got, gave + found.gave
        return Compared(got, gave)

    def _introduce(self) -> None:
        """Say again what this node says of its site: who has not heard it talks to none of its gateways."""
        for entry in self._book.under("sites"):
            if entry.writer == self.node:
                self._post(entry)

    def sites(self) -> tuple[SiteSummary, ...]:
        """Return what is known of sites, the newest word of each."""
        change = self._book.last_change("sites")
        if change != self._sites_at:
            self._sites_at, self._sites = change, summaries(self.under("sites"))
        return self._sites

    def is_gateway(self, node: str) -> bool:
        """Say whether a node speaks for another site, so that this one may talk with it though it is no member here."""
        return any(node in each.gateways for each in self.sites() if each.site != self.config.site)

    def _other_gateways(self, alive: Sequence[str]) -> tuple[str, ...]:
        """Return the gateways of all other sites, where this node is one of its own site's."""
        if self.node not in gateways((self.node, *alive)):
            return ()
        return tuple(name for each in self.sites() if each.site != self.config.site for name in each.gateways)

    # Keeping

    async def _open(self) -> None:
        if self._opened:
            return
        utc_ns = self._clock.utc_ns()
        entries, strange, seen_ns = await self._store.write(lambda connection: rows.load(connection, self._trust.fleet))
        for entry in entries:
            self._book.take(entry, utc_ns, kept=True)
        dropped = self._book.give_up_old((utc_ns - seen_ns) / 1e9) if seen_ns else 0
        self._book.dirty.update(dict.fromkeys(strange))
        self._opened = True
        _LOG.info("state.opened", entries=len(entries), dropped=dropped + len(strange))

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            if self._book.dirty and not await self._flush():
                await asyncio.sleep(_RETRY_S)

    async def _flush(self) -> bool:
        """Write down what changed, a part at a time; what cannot be written is tried again."""
        dirty = self._book.dirty
        while dirty:
            part = {ident: dirty[ident] for ident in list(dirty)[:_SAVED_AT_ONCE]}
            utc_ns = self._clock.utc_ns()
            try:
                await self._store.write(partial(rows.save, changes=part, utc_ns=utc_ns))
            except QedgeError as error:
                _LOG.warning("state.not_kept", code=error.code, entries=len(dirty))
                return False
            for ident, entry in part.items():
                if dirty.get(ident) is entry:
                    dirty.pop(ident, None)
        return True

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_TEND_S)
            self._book.expire(self._clock.utc_ns(), self._trust.is_revoked)
            self._book.sweep()
            for scope, replica in self._book.replicas.items():
                self._metrics.set("qedge_state_entries", len(replica), (scope.value,))
            await self._renew()

    async def _renew(self) -> None:
        """Say again what is this node's own and would be forgotten."""
        for entry in tuple(self._kept_alive.values()):
            if self._book.replicas[NAMESPACES[entry.said.namespace].scope].find(entry.ident) is not entry:
                del self._kept_alive[entry.ident]  # a bound pushed it out
                continue
            if not due_again(entry, self._clock.utc_ns()):
                continue
            said = entry.said
            try:
                await self._say(said.namespace, said.key, said.value, serial=said.serial)
            except QedgeError as error:
                _LOG.warning("state.not_said", namespace=said.namespace, key=said.key, code=error.code)
