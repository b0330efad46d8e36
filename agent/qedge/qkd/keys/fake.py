"""Key stores for the tests of other rooms: the true rules on databases in memory, the nodes joined by direct calls."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.qkd.keys import drafting, exchange, upkeep
from qedge.qkd.keys.cutting import check_size
from qedge.qkd.keys.ledger import Ledger, Limits, Moment
from qedge.qkd.keys.model import ANY, Constraints, DeliverableKey, FinishedBlock, StoredStatus, Usage, Wanted
from qedge.qkd.keys.vault import Vault
from qedge.store.schema import KEY_SCHEMA
from qedge.wire.keys import BlockProvenance, KeyReserve, KeyVoid, VoidGrant

T = TypeVar("T")
FAKE_BLOCK = BlockProvenance("fake", 1e-15, 1e-10, 1e-12, 1.1e-10, simulated=True)


class FakeKeyFleet:
    """All nodes of a test. `join` makes one, `grow` gives both ends of a link more key."""

    def __init__(self, clock: Clock, random_bytes: RandomBytes, *, limits: Limits | None = None) -> None:
        self.clock = clock
        self.random_bytes = random_bytes
        self.limits = limits or Limits(reserve_bits=0)
        self.nodes: dict[str, FakeKeyStore] = {}
        self.unreachable: set[str] = set()
        """Nodes that do not answer their peers now."""

    def join(self, node: str) -> FakeKeyStore:
        """Make the key store of a node."""
        made = self.nodes[node] = FakeKeyStore(self, node)
        return made

    async def grow(self, one: str, other: str, num_bytes: int = 4096, *, blocks: int = 2) -> None:
        """Add blocks of this many usable bytes to the link `ONE-OTHER`; an even number gives both directions some."""
        link = "-".join(sorted((one, other)))
        for _ in range(blocks):
            number = 1 + max(await self.nodes[one].open_link(link, other), await self.nodes[other].open_link(link, one))
            block = FinishedBlock(link, number, self.random_bytes(num_bytes + 32), FAKE_BLOCK)
            await self.nodes[one].add_block(block)
            await self.nodes[other].add_block(block)

    def reach(self, node: str) -> FakeKeyStore:
        """Return a node that answers; raises `peer.unreachable`."""
        if node in self.unreachable or node not in self.nodes:
            raise QedgeError("peer.unreachable", f"{node} cannot be reached.")
        return self.nodes[node]


class FakeKeyStore:
    """Implements `Keys`. `failure` is raised by the next operation on its database, as a full disk would."""

    def __init__(self, fleet: FakeKeyFleet, node: str) -> None:
        self.node = node
        self.failure: QedgeError | None = None
        self._fleet = fleet
        self._vault = Vault(fleet.random_bytes(32))
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for statements in KEY_SCHEMA.migrations:
            for statement in statements:
                self._connection.execute(statement)
        self._change = asyncio.Event()

    def do(self, work: Callable[[Ledger], T]) -> T:
        """Run one transaction."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        fleet = self._fleet
        moment = Moment(fleet.clock.now_ns(), fleet.clock.utc_ns())
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            ledger = Ledger(self._connection, self.node, self._vault, fleet.limits, moment, fleet.random_bytes)
            result = work(ledger)
            ledger.flush()
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
        self._change.set()
        self._change = asyncio.Event()
        return result

    async def open_link(self, link: str, peer: str) -> int:
        """Make a link known; returns the number of its newest block, −1 for none."""
        return self.do(lambda ledger: ledger.open_link(link, peer))

    async def add_block(self, block: FinishedBlock) -> None:
        """Take a block, and compare with the other end."""
        peer = next(status.peer for status in self.links() if status.link == block.link)
        self.do(lambda ledger: ledger.add_block(block, peer))
        said = self.do(lambda ledger: exchange.notes(ledger, block.link, 0))
        answer = self._fleet.reach(peer).do(partial(exchange.compare, peer=self.node, message=said))
        self.do(partial(exchange.learn, peer=peer, sent=said, answer=answer))

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
        """Give keys to a master; see `Keys`."""
        key_bytes = check_size(number, size_bits)
        further = {node: tuple(slaves) for node, slaves in (elsewhere or {}).items()}
        slaves = tuple(slave_saes)
        if peer_node == self.node:
            further[self.node] = (*further.get(self.node, ()), *slaves)
            best = self.status(self.node)
            if best is None:
                raise QedgeError("qkd.no_link", "This node has no QKD link.")
            slaves, peer_node = (), best.peer
        wanted = Wanted(peer_node, master_sae, slaves, number, key_bytes, constraints, tuple(further.items()))
        draft = self.do(lambda ledger: drafting.reserve(ledger, wanted))
        try:
            for peer, grant, _ in draft.messages:
                take_over = partial(exchange.take_over, peer=self.node, message=KeyReserve((grant,)))
                if self._fleet.reach(peer).do(take_over).outcomes[0]:
                    raise QedgeError("qkd.out_of_step", f"{peer} does not have the same key bits.")
            return self.do(lambda ledger: ledger.hand_over(draft))
        except QedgeError:
            self._give_up(draft.grant_id, [peer for peer, _, _ in draft.messages])
            raise

    async def collect(self, slave_sae: str, master_sae: str, key_ids: Sequence[str]) -> list[DeliverableKey]:
        """Give copies to a slave, all or none, each once."""
        return self.do(lambda ledger: ledger.collect(slave_sae, master_sae, tuple(key_ids)))

    def expire(self) -> None:
        """Do what is due by time."""
        self.do(upkeep.expire)

    def status(self, peer_node: str) -> StoredStatus | None:
        """Describe the link to a node from which its next keys come."""
        links = [status for status in self.links() if peer_node in (status.peer, self.node)]
        return max(links, key=lambda status: status.deliverable_bits, default=None)

    async def reach(self, peer_node: str, num_bytes: int = 32) -> tuple[StoredStatus, int] | None:
        """Find no way over other nodes."""
        return None

    def links(self) -> tuple[StoredStatus, ...]:
        """Describe all links."""
        return tuple(self.do(lambda ledger: ledger.statuses()))

    async def usage(self) -> list[Usage]:
        """Say what every consumer had."""
        return self.do(lambda ledger: ledger.accounts.usages())

    async def watch(self) -> AsyncIterator[tuple[StoredStatus, ...]]:
        """Give the state of all links now and after each change."""
        while True:
            links = self.links()
            change = self._change
            yield links
            await change.wait()

    def _give_up(self, grant_id: bytes, peers: Sequence[str]) -> None:
        self.do(lambda ledger: ledger.give_up(grant_id))
        for peer in peers:
            if peer not in self._fleet.unreachable:
                owed = self.do(partial(_owed, peer=peer))
                self._fleet.reach(peer).do(partial(exchange.void_for, peer=self.node, message=KeyVoid(owed)))
                self.do(partial(_told, peer=peer, owed=owed))


def _owed(ledger: Ledger, peer: str) -> tuple[VoidGrant, ...]:
    return ledger.book.owed_voids(peer, 256)


def _told(ledger: Ledger, peer: str, owed: tuple[VoidGrant, ...]) -> None:
    ledger.book.void_told(peer, owed)
