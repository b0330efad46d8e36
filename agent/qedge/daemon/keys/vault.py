"""Fills the port of key delivery with the key store of this node."""

from __future__ import annotations

from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.qkd.delivery.extensions import ITS_ROUTES
from qedge.qkd.delivery.ports import Constraints, DeliverableKey, Holder, KeyOrder, Provenance, StoredStatus
from qedge.qkd.keys.model import Constraints as StoreConstraints
from qedge.qkd.keys.model import DeliverableKey as StoreKey
from qedge.qkd.keys.ports import Keys

_HYBRID: Final = ITS_ROUTES | {"hybrid"}


class StoreVault:
    """Implements `KeyVault` over `Keys`."""

    def __init__(self, store: Keys, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def status(self, master: str, slave: Holder) -> StoredStatus:
        """Tell what the link to the slave's node holds, or the poorest one of the way there."""
        stored = self._store.status(slave.node)
        if stored is not None:
            return StoredStatus(stored.deliverable_bits, stored.simulated)
        reached = await self._store.reach(slave.node)
        if reached is None:
            raise QedgeError("qkd.no_link", f"No QKD link leads to {slave.node}.", fix="`qedge link list` has all.")
        way, hops = reached
        return StoredStatus(way.deliverable_bits, way.simulated, "relayed", 1 + hops)

    async def reserve(self, order: KeyOrder) -> tuple[DeliverableKey, ...]:
        """Take fresh keys from the store."""
        by_node = {node: [each.sae for each in order.slaves if each.node == node] for node in order.nodes}
        first = order.nodes[0]
        keys = await self._store.reserve(
            first,
            order.master,
            by_node.pop(first),
            order.number,
            order.size_bits,
            _constraints(order.constraints),
            by_node,
        )
        return tuple(map(self._key, keys))

    async def collect(self, slave: str, master: str, key_ids: tuple[str, ...]) -> tuple[DeliverableKey, ...]:
        """Collect from the store."""
        return tuple(map(self._key, await self._store.collect(slave, master, key_ids)))

    def _key(self, key: StoreKey) -> DeliverableKey:
        source = key.provenance
        age_s = max(0.0, (self._clock.utc_ns() - source.created_utc_ns) / 1e9)
        links = tuple(dict.fromkeys(block.rpartition("/")[0] for block in source.link_blocks))
        made = Provenance(
            source.origin, 1 + source.hops, links, source.protocol, source.eps_total, source.simulated, round(age_s)
        )
        return DeliverableKey(key.key_id, key.key, made)


def _constraints(wanted: Constraints) -> StoreConstraints:
    route, security = "any", ""
    if wanted.routes == ITS_ROUTES:
        security = "its"
    elif wanted.routes == _HYBRID:
        security = "hybrid"
    elif wanted.routes:
        (route,) = wanted.routes
    return StoreConstraints(route, wanted.max_hops, wanted.max_age_s, security)
