"""The key store within one transaction: every rule of handing keys out, and nothing about networks, tasks or threads.

A ledger is made for one transaction, does any number of operations one after the other, and is flushed before the
commit. An operation checks everything before it changes anything, so one that raises `QedgeError` leaves the others
of its transaction alone. Time is the key clock's (`key_clock`); `utc_ns` is for display.
"""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.qkd.keys.accounts import Accounts, Bucket, LinkRow
from qedge.qkd.keys.commitment import CHECK_BYTES, commit
from qedge.qkd.keys.cutting import cut_bytes, is_own
from qedge.qkd.keys.grants import MASTER, SLAVE, GrantBook
from qedge.qkd.keys.intervals import Intervals
from qedge.qkd.keys.model import (
    KEY_STATES,
    BlockEvent,
    BlockState,
    DeliverableKey,
    Draft,
    FinishedBlock,
    KeyEvent,
    KeyState,
    Leg,
    StoredStatus,
    is_full,
)
from qedge.qkd.keys.shelf import Block, Shelf
from qedge.qkd.keys.vault import Vault
from qedge.wire.keys import VoidGrant

_WHERE_TO: Final[dict[BlockEvent, Bucket]] = {
    BlockEvent.MISSING_AT_PEER: "discarded",
    BlockEvent.AGED: "expired",
    BlockEvent.ALARMED: "quarantined",
}
MIN_BLOCK_BYTES: Final = 2 * CHECK_BYTES
MAX_BLOCK_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What of the settings the rules need. Times in nanoseconds, amounts in bits."""

    capacity_bits: int = 256_000_000
    reserve_bits: int = 16_000
    block_max_age_ns: int = 604_800_000_000_000
    key_max_age_ns: int = 86_400_000_000_000
    block_wait_ns: int = 120_000_000_000
    tombstone_ns: int = 86_400_000_000_000
    max_tombstones: int = 1_000_000
    relays: bool = True


@dataclass(frozen=True, slots=True)
class Moment:
    """When a transaction takes place, by the key clock and by the wall clock."""

    key_ns: int
    utc_ns: int


class Ledger:
    """One transaction of the key store of `node`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        node: str,
        vault: Vault,
        limits: Limits,
        moment: Moment,
        random_bytes: RandomBytes,
    ) -> None:
        self.node = node
        self.limits = limits
        self.moment = moment
        self.accounts = Accounts(connection)
        self.shelf = Shelf(connection, vault, random_bytes)
        self.book = GrantBook(connection, vault)
        self.random_bytes = random_bytes

    def flush(self) -> None:
        """Write what was changed; the last thing before the commit."""
        self.shelf.flush()
        self.accounts.flush()

    # Blocks

    def add_block(self, block: FinishedBlock, peer: str) -> None:
        """Take a finished block; raises `qkd.bad_block`, and `qkd.store_full` where distillation has to wait."""
        if not MIN_BLOCK_BYTES <= len(block.bits) <= MAX_BLOCK_BYTES:
            raise QedgeError("qkd.bad_block", f"A block of {len(block.bits)} bytes cannot be stored.")
        row = self.accounts.open(block.link, peer)
        if block.block_id <= row.highest:
            raise QedgeError(
                "qkd.bad_block",
                f"Block {block.block_id} of {block.link} comes after block {row.highest}.",
                fix="Number the blocks of a link upwards, also over restarts.",
            )
        if is_full(row.account, self.limits.capacity_bits):
            raise QedgeError(
                "qkd.store_full",
                f"{block.link} holds as much key as it may.",
                fix="Use keys, or raise qkd.keys.max_stored_mbit.",
            )
        self._make_room(row)
        usable, tag = commit(block.link, block.block_id, block.bits)
        row.highest = block.block_id
        own = is_own(self.node, peer, block.block_id)
        self.shelf.add(
            Block(
                block.link,
                block.block_id,
                own,
                BlockState.VERIFIED,
                len(usable),
                tag,
                Intervals(),
                block.provenance,
                self.moment.key_ns,
            ),
            usable,
        )
        self.accounts.add(row, 8 * len(usable), 8 * CHECK_BYTES)

    def _make_room(self, row: LinkRow) -> None:
        """Destroy the oldest blocks of a direction that has nearly all room; the other end does the same, or learns."""
        while row.held_bits >= self.limits.capacity_bits:
            own = row.counters["own"] > row.counters["theirs"]
            block = self.shelf.oldest(row.name, own=own)
            if block is None:
                return
            self.drop(row, block, BlockEvent.AGED)

    def open_link(self, link: str, peer: str) -> int:
        """Make a link known; returns the number of its newest block, −1 for none."""
        return self.accounts.open(link, peer).highest

    # The master's side, after `drafting.reserve`

    def hand_over(self, draft: Draft) -> list[DeliverableKey]:
        """Journal that the master gets the keys; after the commit they may leave. Raises `qkd.out_of_step`."""
        grant = self.book.find(draft.grant_id)
        if grant is None or grant.state not in (KeyState.RESERVED, KeyState.IN_RELAY):
            raise QedgeError("qkd.out_of_step", "The keys were given up before all nodes had them.", fix="Ask again.")
        state = KEY_STATES.next(grant.state, KeyEvent.HANDED_OVER)
        slaves = len(draft.own_slaves)
        key_state = state if slaves else KEY_STATES.next(state, KeyEvent.ERASED)
        self.book.insert_keys(grant.number, grant.id, key_state, slaves, draft.keys)
        self.book.settle(grant, state, self.moment.key_ns, len(draft.keys) if slaves else 0)
        for leg in grant.legs:
            self.accounts.move(self.link_of(leg), "in_flight", "delivered", 8 * cut_bytes(leg.cuts))
        self.accounts.use(grant.link, grant.master, MASTER, len(draft.keys), grant.bits)
        return [DeliverableKey(id_text(key_id), key, draft.provenance) for key_id, key in draft.keys]

    def give_up(self, grant_id: bytes) -> None:
        """Void a grant that was not handed over; its bits are lost, and its peers will be told."""
        grant = self.book.find(grant_id)
        if grant is None or grant.state not in (KeyState.RESERVED, KeyState.IN_RELAY):
            return
        self.book.end_keys(grant, KeyEvent.GIVEN_UP, self.moment.key_ns)
        for place, leg in enumerate(grant.legs):
            self.accounts.move(self.link_of(leg), "in_flight", "voided", 8 * cut_bytes(leg.cuts))
            self.book.owe_void(leg.peer, VoidGrant(leg_id(grant.id, place), leg.link, leg.cuts))

    def give_up_all_but(self, alive: frozenset[bytes]) -> int:
        """Void all grants that nobody works at, after a restart for instance; returns how many."""
        lost = [grant for grant in self.book.unfinished() if grant.id not in alive]
        for grant in lost:
            self.give_up(grant.id)
        return len(lost)

    # A node in between, see `relaying`

    def passed_on(self, grant_id: bytes) -> None:
        """Note that keys of another node have arrived where this one sent them; raises `qkd.out_of_step`."""
        grant = self.book.find(grant_id)
        if grant is None or grant.state is not KeyState.IN_RELAY:
            raise QedgeError("qkd.out_of_step", "The keys were given up on their way.", fix="Ask again.")
        state = KEY_STATES.next(KEY_STATES.next(grant.state, KeyEvent.HANDED_OVER), KeyEvent.ERASED)
        self.book.settle(grant, state, self.moment.key_ns, 0)
        for leg in grant.legs:
            self.accounts.move(self.link_of(leg), "in_flight", "delivered", 8 * cut_bytes(leg.cuts))
        self.accounts.use(grant.link, grant.master, MASTER, 1, grant.bits)

    def recall(self, grant_id: bytes) -> None:
        """Void what was passed on of a grant that its sender has voided, as far as it went."""
        grant = self.book.find(onward_id(grant_id))
        if grant is None or grant.role != MASTER:
            return
        if grant.state is KeyState.IN_RELAY:
            self.give_up(grant.id)
        elif grant.state is KeyState.CONSUMED:
            self.book.settle(grant, KeyState.VOIDED, self.moment.key_ns, 0)
            for leg in grant.legs:
                self.accounts.move(self.link_of(leg), "delivered", "voided", 8 * cut_bytes(leg.cuts))
                self.book.owe_void(leg.peer, VoidGrant(grant.id, leg.link, leg.cuts))

    # The slaves' side

    def collect(self, slave: str, master: str, key_ids: Sequence[str]) -> list[DeliverableKey]:
        """Give copies to a consumer, all or none, each once.

        Raises `qkd.key_not_yours` where it was not named for one of them, else `qkd.key_not_found`.
        """
        raw = [id_bytes(key_id) for key_id in key_ids]
        found = [self.book.find_key(key_id) if key_id else None for key_id in raw]
        if any(kept is not None and slave not in kept.grant.provenance.slaves for kept in found):
            raise QedgeError("qkd.key_not_yours", f"{slave} was not named as a receiver of all these keys.")
        given = []
        for kept in found:
            if kept is None or kept.grant.master != master or slave not in kept.grant.slaves:
                raise key_not_found()
            waiting = kept.waiting & ~(1 << kept.grant.slaves.index(slave))
            if kept.sealed is None or waiting == kept.waiting:
                raise key_not_found()
            given.append((kept, waiting, self.book.open_copy(kept)))
        if len(set(raw)) < len(raw):
            raise key_not_found()
        for kept, waiting, key in given:
            self.book.collected(kept, waiting, self.moment.key_ns)
            self.accounts.use(kept.grant.link, slave, SLAVE, 1, 8 * len(key))
        return [DeliverableKey(id_text(kept.id), key, kept.grant.provenance) for kept, _, key in given]

    # What is there

    def statuses(self) -> list[StoredStatus]:
        """Describe all links."""
        return [
            StoredStatus(
                row.name,
                row.peer,
                max(0, row.counters["own"] - self.limits.reserve_bits),
                self.limits.capacity_bits,
                self.limits.reserve_bits,
                row.account,
                row.highest,
                self.shelf.newest_is_simulated(row.name),
            )
            for row in self.accounts.all_links()
        ]

    def drop(self, row: LinkRow, block: Block, event: BlockEvent) -> None:
        """Destroy what is left of a block, for the reason that `event` gives."""
        source: Bucket = "waiting" if block.state is BlockState.VERIFIED else "own" if block.own else "theirs"
        self.accounts.move(row, source, _WHERE_TO[event], 8 * block.left)
        self.shelf.move(block, event)

    def link_of(self, leg: Leg) -> LinkRow:
        """Return the link that a leg is over."""
        return self.accounts.of_peer(leg.peer, leg.link)

    def new_id(self) -> bytes:
        """Make a UUIDv4 (RFC 9562 §5.4)."""
        value = int.from_bytes(self.random_bytes(16), "big")
        value = (value & ~(0xF << 76)) | (0x4 << 76)
        return ((value & ~(0x3 << 62)) | (0x2 << 62)).to_bytes(16, "big")


def leg_id(grant_id: bytes, place: int) -> bytes:
    """Return the id under which a grant goes over its leg number `place`: several may lead over the same nodes."""
    return hashlib.sha256(b"leg%d" % place + grant_id).digest()[:16] if place else grant_id


def onward_id(grant_id: bytes) -> bytes:
    """Return the id under which a grant is passed on to the next node: it follows from that under which it came."""
    return hashlib.sha256(b"onward" + grant_id).digest()[:16]


def id_text(key_id: bytes) -> str:
    """Return an id as applications know it."""
    return str(uuid.UUID(bytes=key_id))


def id_bytes(key_id: str) -> bytes:
    """Return an id as it is stored; nothing where it is no id, of which then no key can be found."""
    try:
        return uuid.UUID(key_id).bytes
    except ValueError:
        return b""


def key_not_found() -> QedgeError:
    """Make the error for a key that cannot be had, whatever the reason; ETSI GS QKD 014 tells no more either."""
    return QedgeError("qkd.key_not_found", "One of the keys is not here, or not any more.", fix="Ask for new keys.")
