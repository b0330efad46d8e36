"""A key store for tests: any number of nodes in one process, every pair of them on a link without end or with little.

Keys really are equal at both ends, handed over at most once per holder, and leave tombstones. Nothing survives.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.qkd.delivery.ports import DeliverableKey, Holder, KeyOrder, Provenance, StoredStatus


@dataclass(slots=True)
class _Kept:
    """One key with its remaining copies; the tombstone keeps `holders` and `master`."""

    master: str
    key: bytes
    holders: frozenset[str]
    waiting: set[str]
    made_ns: int
    expires_ns: int
    provenance: Provenance


@dataclass(slots=True)
class FakeLinks:
    """What all ends share: the pools by pair of nodes and direction, and the keys that were handed out.

    `bits` is what every pool starts with, `lifetime_s` how long a key waits to be collected. A test sets `pools`,
    `provenance` of everything distilled, and `cut` nodes whose stores do not answer.
    """

    clock: Clock
    random_bytes: RandomBytes
    bits: int = 1 << 40
    lifetime_s: float = 3600.0
    provenance: Provenance = field(default_factory=lambda: Provenance(links=("fake",), protocol="fake", epsilon=1e-10))
    pools: dict[tuple[str, str], int] = field(default_factory=dict)
    kept: dict[str, _Kept] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)

    def pool(self, here: str, there: str) -> int:
        """Return the bits that `here` may hand out with `there`."""
        return self.pools.setdefault((here, there), self.bits)


class FakeVault:
    """The end of one node; implements `KeyVault`."""

    def __init__(self, node: str, links: FakeLinks) -> None:
        self.node = node
        self.links = links
        self.after_reserve: Callable[[], None] = lambda: None

    async def status(self, master: str, slave: Holder) -> StoredStatus:
        """Tell what the pool holds."""
        self._reach((slave.node,))
        source = self.links.provenance
        return StoredStatus(self.links.pool(self.node, slave.node), source.simulated, source.route, source.hops)

    async def reserve(self, order: KeyOrder) -> tuple[DeliverableKey, ...]:
        """Take from the pools of all slaves' nodes."""
        self._reach(order.nodes)
        if not self._meets(order):
            raise QedgeError("qkd.unmeetable", "No key is there that was made so.", fix="Ask with other extensions.")
        need = order.number * order.size_bits
        if any(self.links.pool(self.node, node) < need for node in order.nodes):
            raise QedgeError("qkd.too_few_bits", "Too few keys are stored.", fix="Try again later.")
        for node in order.nodes:
            self.links.pools[self.node, node] -= need
        keys = tuple(self._make(order) for _ in range(order.number))
        self.after_reserve()
        return keys

    async def collect(self, slave: str, master: str, key_ids: tuple[str, ...]) -> tuple[DeliverableKey, ...]:
        """Hand out copies, all or none."""
        found = [self.links.kept.get(key_id) for key_id in key_ids]
        if any(kept is not None and slave not in kept.holders for kept in found):
            raise QedgeError("qkd.key_not_yours", "A key is for others.")
        now_ns = self.links.clock.now_ns()
        ready = [
            kept
            for kept in found
            if kept is not None and slave in kept.waiting and kept.master == master and now_ns < kept.expires_ns
        ]
        if len(ready) < len(key_ids):
            raise QedgeError("qkd.key_not_found", "A key is not there.")
        keys = tuple(
            DeliverableKey(key_id, kept.key, kept.provenance) for key_id, kept in zip(key_ids, ready, strict=True)
        )
        for kept in ready:
            kept.waiting.discard(slave)
            kept.key = kept.key if kept.waiting else b""
        return keys

    def _make(self, order: KeyOrder) -> DeliverableKey:
        links, now_ns = self.links, self.links.clock.now_ns()
        key_id = str(uuid.UUID(bytes=links.random_bytes(16), version=4))
        key = links.random_bytes(order.size_bits // 8)
        holders = frozenset(slave.sae for slave in order.slaves)
        expires_ns = now_ns + round(links.lifetime_s * 1e9)
        links.kept[key_id] = _Kept(order.master, key, holders, set(holders), now_ns, expires_ns, links.provenance)
        return DeliverableKey(key_id, key, links.provenance)

    def _meets(self, order: KeyOrder) -> bool:
        wanted, source = order.constraints, self.links.provenance
        return (
            (not wanted.routes or source.route in wanted.routes)
            and (not wanted.max_hops or source.hops <= wanted.max_hops)
            and (not wanted.max_age_s or source.age_s <= wanted.max_age_s)
        )

    def _reach(self, nodes: tuple[str, ...]) -> None:
        if self.links.cut & set(nodes):
            raise QedgeError("peer.unreachable", "The peer's key store does not answer.", fix="Try again later.")
