"""What key delivery needs from the store that holds the keys; `fake.py` has one for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

ROUTES: Final = ("direct", "relayed", "hybrid", "computational")
"""How a key came to both ends; only the first two are information-theoretic, given their nodes and epsilons."""


@dataclass(frozen=True, slots=True)
class Holder:
    """An application that may collect a key, and the node whose store keeps its copy."""

    sae: str
    node: str


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a caller wants of its keys; an empty one takes any.

    `routes` are acceptable values of `Provenance.route` (empty: all); `max_hops` and `max_age_s` are 0 where they do
    not matter.
    """

    routes: frozenset[str] = frozenset()
    max_hops: int = 0
    max_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A request for `number` fresh keys of `size_bits` bits that `master` gets now and every slave may collect once."""

    master: str
    slaves: tuple[Holder, ...]
    number: int
    size_bits: int
    constraints: Constraints = Constraints()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the nodes of the slaves in order, each once."""
        return tuple(dict.fromkeys(slave.node for slave in self.slaves))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a key came from. Epsilons are failure probabilities; `age_s` counts from distillation to hand-over."""

    route: str = "direct"
    hops: int = 1
    links: tuple[str, ...] = ()
    protocol: str = ""
    epsilon: float = 0.0
    simulated: bool = True
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeliverableKey:
    """A key that leaves: `key_id` is a UUIDv4 in lower case, `key` the secret bytes."""

    key_id: str
    key: bytes
    provenance: Provenance = Provenance()

    def __repr__(self) -> str:
        return f"DeliverableKey({self.key_id})"


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """What one pair may have now: `bits` that this node may hand out as master, and facts for the extension."""

    bits: int
    simulated: bool = True
    route: str = "direct"
    hops: int = 1


class KeyVault(Protocol):
    """The key store of this node. Every hand-over is journalled before it returns: a lost answer burns the key.

    Every method raises `peer.unreachable`, `qkd.no_link` where the peer's store does not answer, and `store.*`.
    """

    async def status(self, master: str, slave: Holder) -> StoredStatus:
        """Tell what is there for a pair; changes nothing."""
        ...

    async def reserve(self, order: KeyOrder) -> tuple[DeliverableKey, ...]:
        """Hand `order.number` keys to the master, all or none, once the stores of all slaves have confirmed them.

        Raises `qkd.too_few_bits` where the pool does not reach, `qkd.unmeetable` where keys are there but none that
        satisfy `order.constraints`.
        """
        ...

    async def collect(self, slave: str, master: str, key_ids: tuple[str, ...]) -> tuple[DeliverableKey, ...]:
        """Hand a slave its copies, in the order of `key_ids` (distinct, lower case), all or none.

        Raises `qkd.key_not_yours` where the slave is not among those named for any one of the ids, tombstones of keys
        that are gone included; then `qkd.key_not_found` where one is unknown, collected, expired, or was ordered by
        another master. A key that is still on its way is waited for, 2 s at most.
        """
        ...
