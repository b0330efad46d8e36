"""The key store of a node: operations on the database, and the conversation with the stores of other nodes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.qkd.keys import drafting, exchange, relaying, upkeep
from qedge.qkd.keys.accounts import no_link
from qedge.qkd.keys.config import KeyStoreConfig
from qedge.qkd.keys.courier import Couriers
from qedge.qkd.keys.cutting import check_size
from qedge.qkd.keys.journal import Journal
from qedge.qkd.keys.ledger import Ledger, Limits
from qedge.qkd.keys.model import (
    ANY,
    PLACES,
    Account,
    Constraints,
    DeliverableKey,
    FinishedBlock,
    StoredStatus,
    Target,
    Usage,
    Wanted,
)
from qedge.qkd.keys.ports import PeerKeyStore
from qedge.qkd.keys.routes import Routes, Way
from qedge.qkd.keys.tending import Tending
from qedge.qkd.keys.vault import Vault
from qedge.store.store import Store
from qedge.wire.keys import (
    KeyBlocks,
    KeyBlocksCompared,
    KeyRelay,
    KeyReserve,
    KeyReserved,
    KeyVoid,
    KeyVoided,
    RelayHop,
)

T = TypeVar("T")
_LOG: Final = get_logger("keys")
_UPKEEP_S: Final = 5.0
_CHECKPOINTS: Final = 12
"""The log of the database is emptied with every so many upkeeps."""


class KeyStore:
    """Implements `Keys`. Every answer is on the disk before it is given; a lost answer burns its keys."""

    name = "key-store"

    def __init__(
        self,
        node: str,
        store: Store,
        vault: Vault,
        config: KeyStoreConfig,
        peers: PeerKeyStore,
        *,
        boot_id: str,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
    ) -> None:
        self.node = node
        self._store = store
        self._config = config
        self._peers = peers
        self._metrics = metrics
        self._journal = Journal(
            node,
            store,
            vault,
            limits_of(config),
            boot_id=boot_id,
            clock=clock,
            random_bytes=random_bytes,
            on_change=self._changed,
        )
        self._links: dict[str, StoredStatus] = {}
        self._tending: dict[str, Tending] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._couriers = Couriers(peers, deadline_s=config.peer_deadline_s, spawn=self._spawn, away=self._lost_contact)
        self._lost: set[bytes] = set()
        self._away: set[str] = set()
        self._change = asyncio.Event()
        self._running = False
        self._routes = Routes(
            node,
            peers,
            self._journal.do,
            self.links,
            relays=config.relay,
            max_hops=config.max_hops,
            deadline_s=config.peer_deadline_s,
            clock=clock,
        )
        peers.serve(KeyReserve, self._take_over)
        peers.serve(KeyRelay, self._pass_on)
        peers.serve(KeyVoid, self._void)
        peers.serve(KeyBlocks, self._compare)

    async def run(self, ready: Ready) -> None:
        """Serve until cancelled."""
        await self._journal.open()
        given_up = await self._journal.do(lambda ledger: ledger.give_up_all_but(frozenset()), accepted=True)
        await self.upkeep()  # what grew too old while the daemon was down is gone before anybody can ask for it
        _LOG.info("keys.opened", links=len(self._links), given_up=given_up)
        for peer in {*self._tending, *(status.peer for status in self._links.values())}:
            self._spawn(self._tend(peer).run())
        self._running = True
        ready()
        try:
            for turn in itertools.count(1):
                await asyncio.sleep(_UPKEEP_S)
                with contextlib.suppress(QedgeError):  # the store says itself what is wrong with the disk
                    await self.upkeep()
                    if turn % _CHECKPOINTS == 0:
                        await self._journal.checkpoint()
        finally:
            self._running = False
            self._tending.clear()
            await self._end_tasks()

    async def upkeep(self) -> None:
        """Do what is due by time: expiry, tombstones, and grants that could not be given up before."""
        lost = frozenset(self._lost)
        if lost:
            await self._journal.do(partial(_give_up_all, grant_ids=lost), accepted=True)
            self._lost -= lost
        for due in (upkeep.expire, upkeep.forget):
            # As often as there is a full load: what comes faster than the upkeep would otherwise pile up without end.
            while await self._journal.do(due, accepted=True) >= upkeep.AT_ONCE:
                pass

    # Blocks

    async def open_link(self, link: str, peer: str) -> int:
        """Make a link known; returns the number of its newest block, −1 for none. Raises `qkd.bad_block`."""
        highest = await self._journal.do(lambda ledger: ledger.open_link(link, peer))
        self._tend(peer)
        return highest

    async def add_block(self, block: FinishedBlock) -> None:
        """Take a finished block of an open link; raises `qkd.bad_block`, `qkd.store_full`, `store.*`."""
        status = self._links.get(block.link)
        if status is None:
            raise QedgeError("qkd.bad_block", f"The link {block.link} was not opened.")
        peer = status.peer
        await self._journal.do(lambda ledger: ledger.add_block(block, peer))
        self._tend(peer).wake()

    async def quarantine(self, link: str) -> int:
        """Destroy all key of a link that nobody has yet; returns how many bits that were."""
        return await self._journal.do(lambda ledger: upkeep.quarantine(ledger, link), accepted=True)

    # Keys

    async def reserve(
        self,
        peer_node: str,
        master_sae: str,
        slave_saes: Sequence[str],
        number: int,
        size_bits: int,
        constraints: Constraints = ANY,
        elsewhere: Mapping[str, Sequence[str]] | None = None,
    ) -> list[DeliverableKey]:
        """Give keys to a master, once all nodes of its slaves have their copies on the disk; see `Keys`."""
        key_bytes = check_size(number, size_bits)
        further = {name: tuple(group) for name, group in (elsewhere or {}).items()}
        slaves = tuple(slave_saes)
        if peer_node == self.node:
            further[self.node] = (*further.get(self.node, ()), *slaves)
            # Where nobody elsewhere gets these keys, the far end of some link only destroys their bits.
            peer_node = next((node for node in further if node != self.node), "") or self._fullest_peer()
            slaves = further.pop(peer_node, ())
        onward: tuple[RelayHop, ...] = ()
        if self.status(peer_node) is None and slaves:
            slaves += further.pop(peer_node, ())
            way = await self._way(peer_node, number * key_bytes)
            peer_node, onward = way.first, way.onward
        relayed = []
        for node in [name for name in further if name != self.node and self.status(name) is None]:
            way = await self._way(node, number * key_bytes)
            relayed.append(Target(way.first, tuple(dict.fromkeys(further.pop(node))), way.onward))
        direct = tuple(further.items())
        wanted = Wanted(peer_node, master_sae, slaves, number, key_bytes, constraints, direct, onward, tuple(relayed))
        self._check_reach(wanted)
        # The work goes on where the one who asked is cancelled: its keys are then burnt, as if the answer were lost.
        return await asyncio.shield(self._spawn(self._grant(wanted)))

    async def _way(self, node: str, num_bytes: int) -> Way:
        way = await self._routes.find(node, num_bytes, away=self._away)
        if way is None:
            raise no_link(node)
        return way

    async def collect(self, slave_sae: str, master_sae: str, key_ids: Sequence[str]) -> list[DeliverableKey]:
        """Give copies to a slave, all or none, each once; raises `qkd.key_not_yours`, `qkd.key_not_found`."""
        ids = tuple(key_ids)
        return await self._journal.do(lambda ledger: ledger.collect(slave_sae, master_sae, ids))

    async def do(self, work: Callable[[Ledger], T], *, accepted: bool = False) -> T:
        """Do one operation on the ledger, for the rooms of keys alone."""
        return await self._journal.do(work, accepted=accepted)

    # What is there

    def status(self, peer_node: str) -> StoredStatus | None:
        """Describe the link to a node from which its next keys come; None: no link leads there."""
        links = [status for status in self._links.values() if status.peer == peer_node or peer_node == self.node]
        return max(links, key=lambda status: status.deliverable_bits, default=None)

    async def reach(self, peer_node: str, num_bytes: int = 32) -> tuple[StoredStatus, int] | None:
        """Describe the way to a node to which no link leads, and how many nodes are in between; None: there is none."""
        way = await self._routes.find(peer_node, num_bytes, away=self._away)
        first = self.status(way.first) if way is not None else None
        if way is None or first is None:
            return None
        simulated = first.simulated or any(hop.simulated for hop in way.onward)
        found = StoredStatus(
            first.link, peer_node, way.bits, first.capacity_bits, first.reserve_bits, Account(), -1, simulated
        )
        return found, len(way.onward)

    def links(self) -> tuple[StoredStatus, ...]:
        """Describe all links."""
        return tuple(self._links.values())

    async def usage(self) -> list[Usage]:
        """Say what every consumer had."""
        return await self._journal.do(lambda ledger: ledger.accounts.usages())

    async def watch(self) -> AsyncIterator[tuple[StoredStatus, ...]]:
        """Give the state of all links now and after each change; a slow reader misses some of them."""
        while True:
            change = self._change
            yield self.links()
            await change.wait()

    async def settle(self) -> None:
        """Wait until all that was begun is written."""
        await self._journal.settle()

    # Inside

    async def _grant(self, wanted: Wanted) -> list[DeliverableKey]:
        draft = await self._journal.do(lambda ledger: drafting.reserve(ledger, wanted))
        try:
            async with asyncio.TaskGroup() as group:
                for peer, grant, onward in draft.messages:
                    group.create_task(self._couriers.send(peer, grant, onward))
            return await self._journal.do(lambda ledger: ledger.hand_over(draft))
        except BaseException as failure:
            self._abandon(draft.grant_id, wanted.peer)
            for target in wanted.targets(self.node):
                self._routes.forget(target.node)
            if isinstance(failure, BaseExceptionGroup):
                raise failure.exceptions[0] from None
            raise

    async def _pass_on(self, peer: str, message: KeyRelay) -> KeyReserved:
        """Be a node in between: what goes wrong further on is the answer, and the bits are given up at both sides."""
        passage = await self._journal.do(partial(relaying.pass_on, peer=peer, message=message))
        grant = passage.grant
        if grant is None:
            return KeyReserved(("" if passage.onward else "qkd.out_of_step",))
        to, *further = passage.onward
        try:
            await self._couriers.send(to.node, grant, tuple(further))
            await self._journal.do(lambda ledger: ledger.passed_on(grant.id))
        except BaseException:
            self._abandon(grant.id, to.node)
            raise
        return KeyReserved(("",))

    def _abandon(self, grant_id: bytes, peer: str) -> None:
        self._lost.add(grant_id)
        self._spawn(self._give_up(grant_id, peer))

    async def _give_up(self, grant_id: bytes, peer: str) -> None:
        try:
            await self._journal.do(lambda ledger: ledger.give_up(grant_id), accepted=True)
        except QedgeError:
            return  # it stays among the lost ones, for the next upkeep
        self._lost.discard(grant_id)
        _LOG.info("keys.given_up", peer=peer)
        self._wake_all()

    def _wake_all(self) -> None:
        for each in list(self._tending.values()):
            each.wake()

    def _fullest_peer(self) -> str:
        if not self._links:
            raise QedgeError("qkd.no_link", "This node has no QKD link.", fix="`qedge link list` shows the links.")
        return max(self._links.values(), key=lambda status: status.deliverable_bits).peer

    def _check_reach(self, wanted: Wanted) -> None:
        """Refuse at once what would only burn bits: every request costs its bits, also one that comes to nothing."""
        for peer in (target.peer for target in wanted.targets(self.node)):
            if peer in self._away:
                raise QedgeError("peer.unreachable", f"The key store of {peer} does not answer.", fix="Try again soon.")

    def _lost_contact(self, peer: str) -> None:
        self._away.add(peer)
        self._tend(peer).meet()

    def _note_reach(self, peer: str, away: bool) -> None:
        if away:
            self._away.add(peer)
        else:
            self._away.discard(peer)

    def _tend(self, peer: str) -> Tending:
        if peer not in self._tending:
            deadline_s = self._config.peer_deadline_s
            tending = Tending(peer, self._peers, self._journal, deadline_s=deadline_s, away=self._note_reach)
            self._tending[peer] = tending
            if self._running:
                self._spawn(tending.run())
        return self._tending[peer]

    async def _take_over(self, peer: str, message: KeyReserve) -> KeyReserved:
        return await self._journal.do(partial(exchange.take_over, peer=peer, message=message))

    async def _void(self, peer: str, message: KeyVoid) -> KeyVoided:
        done = await self._journal.do(partial(exchange.void_for, peer=peer, message=message), accepted=True)
        self._wake_all()  # what was passed on is recalled further on
        return done

    async def _compare(self, peer: str, message: KeyBlocks) -> KeyBlocksCompared:
        return await self._journal.do(partial(exchange.compare, peer=peer, message=message))

    def _changed(self, statuses: Sequence[StoredStatus]) -> None:
        for status in statuses:
            known = self._links.get(status.link)
            if known == status:
                continue
            self._links[status.link] = status
            for place in PLACES:
                self._metrics.set("qedge_qkd_key_bits", getattr(status.account, place), (status.link, place))
            lost = status.account.discarded - (known.account.discarded if known is not None else 0)
            if known is not None and lost:
                _LOG.warning("keys.discarded", link=status.link, bits=lost)
        self._change.set()
        self._change = asyncio.Event()

    def _spawn(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it sees it; nobody else has to

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._journal.settle()


def _give_up_all(ledger: Ledger, grant_ids: frozenset[bytes]) -> None:
    for grant_id in grant_ids:
        ledger.give_up(grant_id)


def limits_of(config: KeyStoreConfig) -> Limits:
    """Return the settings as the ledger counts."""
    return Limits(
        capacity_bits=config.max_stored_mbit * 1_000_000,
        reserve_bits=config.reserve_kbit * 1000,
        block_max_age_ns=round(config.block_max_age_s * 1e9),
        key_max_age_ns=round(config.key_max_age_s * 1e9),
        block_wait_ns=round(config.block_wait_s * 1e9),
        tombstone_ns=round(config.tombstone_s * 1e9),
        max_tombstones=config.max_tombstones,
        relays=config.relay,
    )
