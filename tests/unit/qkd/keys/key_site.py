"""Key stores without threads, tasks or networks: two or three nodes whose ledgers a test drives step by step."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from qedge.base.clock import ManualClock
from qedge.qkd.keys import drafting, exchange, upkeep
from qedge.qkd.keys.ledger import Ledger, Limits, Moment
from qedge.qkd.keys.model import DeliverableKey, Draft, FinishedBlock, StoredStatus, Wanted
from qedge.qkd.keys.vault import Vault
from qedge.store.schema import KEY_SCHEMA
from qedge.wire.keys import BlockProvenance, KeyBlocks, KeyReserve, KeyVoid

T = TypeVar("T")
PROVENANCE = BlockProvenance("bb84-decoy", 1e-15, 1e-10, 1e-12, 1.1e-10, simulated=True)
SMALL = Limits(capacity_bits=10_000_000, reserve_bits=0)


class LedgerNode:
    """One node: its database in memory, and each operation in a transaction of its own."""

    def __init__(self, name: str, clock: ManualClock, *, limits: Limits = SMALL, seed: int = 1) -> None:
        self.name = name
        self.clock = clock
        self.limits = limits
        self.dice = random.Random(f"{name} {seed}")
        self.vault = Vault(self.dice.randbytes(32))
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        for pragma in KEY_SCHEMA.pragmas:
            self.connection.execute(f"PRAGMA {pragma}")
        for statements in KEY_SCHEMA.migrations:
            for statement in statements:
                self.connection.execute(statement)

    def do(self, work: Callable[[Ledger], T]) -> T:
        """Run one transaction; where `work` raises, it is rolled back."""
        moment = Moment(self.clock.now_ns(), self.clock.utc_ns())
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            ledger = Ledger(self.connection, self.name, self.vault, self.limits, moment, self.dice.randbytes)
            result = work(ledger)
            ledger.flush()
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return result

    def add(self, link: str, peer: str, number: int, bits: bytes) -> None:
        """Take a block."""
        self.do(lambda ledger: ledger.add_block(FinishedBlock(link, number, bits, PROVENANCE), peer))

    def reserve(self, wanted: Wanted) -> Draft:
        """Take bits for a request."""
        return self.do(lambda ledger: drafting.reserve(ledger, wanted))

    def hand_over(self, draft: Draft) -> list[DeliverableKey]:
        """Give the keys of a draft to their master."""
        return self.do(lambda ledger: ledger.hand_over(draft))

    def collect(self, slave: str, master: str, *ids: str) -> list[DeliverableKey]:
        """Give copies to a slave."""
        return self.do(lambda ledger: ledger.collect(slave, master, ids))

    def expire(self) -> None:
        """Let time do its work."""
        self.do(upkeep.expire)

    def status(self, link: str = "ab") -> StoredStatus:
        """Describe a link."""
        return next(each for each in self.do(lambda ledger: ledger.statuses()) if each.link == link)

    def dump(self) -> bytes:
        """Return all that is in the database."""
        return self.connection.serialize()


def tell_blocks(sender: LedgerNode, receiver: LedgerNode, link: str = "ab", first: int = 0) -> None:
    """Let one node tell the other which blocks it has, and learn the answer."""
    said = sender.do(lambda ledger: exchange.notes(ledger, link, first))
    compare(sender, receiver, said)


def compare(sender: LedgerNode, receiver: LedgerNode, said: KeyBlocks) -> None:
    """Carry what a node said of its blocks, and the answer."""
    answer = receiver.do(lambda ledger: exchange.compare(ledger, sender.name, said))
    sender.do(lambda ledger: exchange.learn(ledger, receiver.name, said, answer))


def carry(draft: Draft, sender: LedgerNode, *receivers: LedgerNode) -> list[str]:
    """Carry a draft to the nodes that it needs; returns their outcomes."""
    nodes = {each.name: each for each in receivers}
    return [
        nodes[peer].do(partial(exchange.take_over, peer=sender.name, message=KeyReserve((grant,)))).outcomes[0]
        for peer, grant, _ in draft.messages
    ]


def tell_voids(sender: LedgerNode, receiver: LedgerNode) -> None:
    """Carry what a node owes another to know of grants that came to nothing."""
    owed = sender.do(lambda ledger: ledger.book.owed_voids(receiver.name, 1000))
    receiver.do(lambda ledger: exchange.void_for(ledger, sender.name, KeyVoid(owed)))
    sender.do(lambda ledger: ledger.book.void_told(receiver.name, owed))


class LedgerPair:
    """Nodes `a` and `b` with the link `ab`; `a` cuts from even blocks."""

    def __init__(self, *, blocks: int = 0, size: int = 1000, limits: Limits = SMALL, seed: int = 1) -> None:
        self.clock = ManualClock()
        self.dice = random.Random(seed)
        self.a = LedgerNode("a", self.clock, limits=limits, seed=seed)
        self.b = LedgerNode("b", self.clock, limits=limits, seed=seed)
        self.bits: dict[int, bytes] = {}
        self.next = 0
        for _ in range(blocks):
            self.grow(size)

    def grow(self, size: int = 1000) -> int:
        """Give both ends one more block, and let them find that it is the same; `size` in usable bytes."""
        number = self.next
        self.next += 1
        self.bits[number] = self.dice.randbytes(size + 32)
        self.a.add("ab", "b", number, self.bits[number])
        self.b.add("ab", "a", number, self.bits[number])
        tell_blocks(self.a, self.b)
        return number
