"""The nouns of the key store: blocks, keys, what may become of them, and what applications and distillation hand in.

Sizes inside the store are whole bytes; accounts are in bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

import msgspec

from qedge.base.machine import StateTable
from qedge.wire.keys import BlockProvenance, Cut, KeyGrant, KeyProvenance, RelayHop

SESSION_SAE: Final = "@session"
"""The consumer within both nodes for which keys of peer sessions are cut; `@` keeps it apart from applications."""

AUTHENTICATION_SAE: Final = "@authentication"
"""The consumer of keys that authenticate the classical channel of distillation."""

RELAY_SAE: Final = "@relay"
"""Under this name it is metered what keys of other nodes cost the links of this one."""

INTERNAL_SAES: Final = frozenset({SESSION_SAE, AUTHENTICATION_SAE})
"""These alone may cut into a link's reserve; an application whose name begins with `@` has to be refused."""


class BlockState(StrEnum):
    """A block of finished key at one end. `VERIFIED`: distilled here; `STORED`: the other end has the same one."""

    VERIFIED = "verified"
    STORED = "stored"
    CONSUMED = "consumed"
    DISCARDED = "discarded"
    EXPIRED = "expired"
    QUARANTINED = "quarantined"


class BlockEvent(StrEnum):
    """What happens to a block."""

    MATCHED = "matched"
    SPENT = "spent"
    MISSING_AT_PEER = "missing at peer"
    AGED = "aged"
    ALARMED = "alarmed"


BLOCK_STATES: Final = StateTable(
    "key block",
    BlockState.VERIFIED,
    frozenset({BlockState.CONSUMED, BlockState.DISCARDED, BlockState.EXPIRED, BlockState.QUARANTINED}),
    {
        (BlockState.VERIFIED, BlockEvent.MATCHED): BlockState.STORED,
        (BlockState.STORED, BlockEvent.SPENT): BlockState.CONSUMED,
        **{
            (state, event): after
            for state in (BlockState.VERIFIED, BlockState.STORED)
            for event, after in (
                (BlockEvent.MISSING_AT_PEER, BlockState.DISCARDED),
                (BlockEvent.AGED, BlockState.EXPIRED),
                (BlockEvent.ALARMED, BlockState.QUARANTINED),
            )
        },
    },
)


class KeyState(StrEnum):
    """A key at one end; it only moves forward. A final state keeps id, time and who was allowed, and no bits.

    `RESERVED`: its bits are taken from the pool; `IN_RELAY`: it is under way to further nodes as well.
    """

    RESERVED = "reserved"
    IN_RELAY = "in relay"
    DELIVERED_MASTER = "delivered to master"
    DELIVERED_SLAVE = "delivered to slave"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    VOIDED = "voided"
    QUARANTINED = "quarantined"


class KeyEvent(StrEnum):
    """What happens to a key."""

    SENT_ON = "sent on"
    HANDED_OVER = "handed over"
    COLLECTED = "collected"
    ERASED = "erased"
    AGED = "aged"
    GIVEN_UP = "given up"
    ALARMED = "alarmed"


_HELD: Final = (KeyState.RESERVED, KeyState.IN_RELAY, KeyState.DELIVERED_MASTER, KeyState.DELIVERED_SLAVE)

KEY_STATES: Final = StateTable(
    "key",
    KeyState.RESERVED,
    frozenset({KeyState.CONSUMED, KeyState.EXPIRED, KeyState.VOIDED, KeyState.QUARANTINED}),
    {
        (KeyState.RESERVED, KeyEvent.SENT_ON): KeyState.IN_RELAY,
        (KeyState.RESERVED, KeyEvent.HANDED_OVER): KeyState.DELIVERED_MASTER,
        (KeyState.IN_RELAY, KeyEvent.HANDED_OVER): KeyState.DELIVERED_MASTER,
        (KeyState.RESERVED, KeyEvent.COLLECTED): KeyState.DELIVERED_SLAVE,
        (KeyState.DELIVERED_MASTER, KeyEvent.COLLECTED): KeyState.DELIVERED_SLAVE,
        (KeyState.DELIVERED_MASTER, KeyEvent.ERASED): KeyState.CONSUMED,
        (KeyState.DELIVERED_SLAVE, KeyEvent.ERASED): KeyState.CONSUMED,
        (KeyState.RESERVED, KeyEvent.GIVEN_UP): KeyState.VOIDED,
        (KeyState.IN_RELAY, KeyEvent.GIVEN_UP): KeyState.VOIDED,
        (KeyState.DELIVERED_SLAVE, KeyEvent.GIVEN_UP): KeyState.VOIDED,
        **{(state, KeyEvent.AGED): KeyState.EXPIRED for state in _HELD},
        **{(state, KeyEvent.ALARMED): KeyState.QUARANTINED for state in _HELD},
    },
)


@dataclass(frozen=True, slots=True)
class FinishedBlock:
    """What distillation hands over at both ends: identical bytes, little-endian bits, `block_id` rising per link.

    `link` is the name under which both ends know the link.
    """

    link: str
    block_id: int
    bits: bytes = field(repr=False)
    provenance: BlockProvenance


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a request demands of its keys. `max_age_s` 0, `max_hops` 0: any; `route` is an `Origin` or `any`."""

    route: str = "any"
    max_hops: int = 0
    max_age_s: float = 0.0
    min_security: str = ""
    allow_simulated: bool = True


ANY: Final = Constraints()


@dataclass(frozen=True, slots=True)
class Target:
    """A node whose applications get copies: `peer`, or with `onward` the last node over these links beyond `peer`."""

    peer: str
    slaves: tuple[str, ...]
    onward: tuple[RelayHop, ...] = ()

    @property
    def node(self) -> str:
        """Return the name of the node."""
        return self.onward[-1].node if self.onward else self.peer


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for keys. `elsewhere`: further nodes and their applications; this node's own name may be one.

    With `onward` no link leads to the slaves' node: `peer` passes the keys on over these links, to the last of them.
    `relayed` are further nodes to which no link leads.
    """

    peer: str
    master: str
    slaves: tuple[str, ...]
    number: int
    key_bytes: int
    constraints: Constraints = ANY
    elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    onward: tuple[RelayHop, ...] = ()
    relayed: tuple[Target, ...] = ()

    def targets(self, node: str) -> tuple[Target, ...]:
        """Return all nodes but `node` itself that need bits, that of `peer` first, each once."""
        slaves = dict(self.elsewhere)
        first = self.slaves if self.onward else (*self.slaves, *slaves.pop(self.peer, ()))
        direct = (Target(name, tuple(dict.fromkeys(group))) for name, group in slaves.items() if name != node)
        return (Target(self.peer, tuple(dict.fromkeys(first)), self.onward), *direct, *self.relayed)


@dataclass(frozen=True, slots=True)
class DeliverableKey:
    """A key at the moment of its delivery; it is nowhere else in this node any more."""

    key_id: str
    key: bytes = field(repr=False)
    provenance: KeyProvenance


class Leg(msgspec.Struct, frozen=True):
    """A node that a grant needs, over which link, and the bits it costs there."""

    peer: str
    link: str
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A grant whose bits are taken and journalled, and that is not handed over yet. `keys` exist in memory alone.

    `messages` are for peers, which pass them on over the links that follow where there are any.
    """

    grant_id: bytes
    messages: tuple[tuple[str, KeyGrant, tuple[RelayHop, ...]], ...]
    keys: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    provenance: KeyProvenance
    own_slaves: tuple[str, ...]
    link: str


@dataclass(frozen=True, slots=True)
class Account:
    """Where every bit of a link has gone; `added` is the sum of all others. `own`: this end cuts keys from them."""

    added: int = 0
    checks: int = 0
    waiting: int = 0
    own: int = 0
    theirs: int = 0
    in_flight: int = 0
    delivered: int = 0
    voided: int = 0
    discarded: int = 0
    expired: int = 0
    quarantined: int = 0

    @property
    def balanced(self) -> bool:
        """Whether no bit is missing or there twice."""
        return self.added == sum(int(getattr(self, place)) for place in PLACES)


PLACES: Final = tuple(each.name for each in fields(Account) if each.name != "added")
"""Where a bit of a link can be."""


def is_full(account: Account, capacity_bits: int) -> bool:
    """Say whether a link holds as much key as it may.

    It does not while one direction has most of the room and the other one little key: where programs at one end alone
    ask for keys, the half of the other end fills up, and would keep them from any further key until it is too old. Its
    oldest blocks make room then.
    """
    less, more = sorted((account.own, account.theirs))
    is_lopsided = 4 * less < capacity_bits < 2 * more
    return account.waiting + less + more >= capacity_bits and not is_lopsided


@dataclass(frozen=True, slots=True)
class StoredStatus:
    """What one link holds. `deliverable_bits`: applications may have them here; the reserve is not among them."""

    link: str
    peer: str
    deliverable_bits: int
    capacity_bits: int
    reserve_bits: int
    account: Account
    highest_block: int
    simulated: bool = True

    @property
    def full(self) -> bool:
        """Whether distillation has to stop: another block may not find room."""
        return is_full(self.account, self.capacity_bits)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one consumer had from one link. `role`: `master` or `slave`."""

    link: str
    consumer: str
    role: str
    keys: int
    bits: int
