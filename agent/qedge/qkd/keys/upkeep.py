"""What time and alarms do to stored keys. Within one transaction."""

from __future__ import annotations

from typing import Final

from qedge.qkd.keys.ledger import Ledger
from qedge.qkd.keys.model import BlockEvent, BlockState, KeyEvent

AT_ONCE: Final = 5000
"""So many old grants are looked at in one transaction, so that none takes long."""


def expire(ledger: Ledger) -> int:
    """Destroy what is too old, and blocks that the peer did not get in time; returns how many blocks and grants."""
    now_ns, limits = ledger.moment.key_ns, ledger.limits
    late = ledger.shelf.older(BlockState.VERIFIED, now_ns - limits.block_wait_ns)
    aged = ledger.shelf.older(BlockState.STORED, now_ns - limits.block_max_age_ns)
    for event, blocks in ((BlockEvent.MISSING_AT_PEER, late), (BlockEvent.AGED, aged)):
        for block in blocks:
            row = ledger.accounts.find(block.link)
            if row is not None:
                ledger.drop(row, block, event)
    grants = ledger.book.older(now_ns - limits.key_max_age_ns, AT_ONCE)
    for grant in grants:
        ledger.book.end_keys(grant, KeyEvent.AGED, now_ns)
    return len(late) + len(aged) + len(grants)


def quarantine(ledger: Ledger, link: str) -> int:
    """Destroy all key of a link that nobody has yet: its device or its line is not trusted any more; returns bits."""
    row = ledger.accounts.find(link)
    if row is None:
        return 0
    before = row.counters["quarantined"]
    for block in ledger.shelf.all_blocks(link, 0, 1 << 30):
        ledger.drop(row, block, BlockEvent.ALARMED)
    for grant in ledger.book.unfinished():
        if any(leg.link == link for leg in grant.legs):
            ledger.give_up(grant.id)  # nobody has these keys yet either
    for grant in ledger.book.open_of_link(link):
        ledger.book.end_keys(grant, KeyEvent.ALARMED, ledger.moment.key_ns)
    return row.counters["quarantined"] - before


def forget(ledger: Ledger) -> int:
    """Drop tombstones that are too old or too many; returns how many."""
    limits = ledger.limits
    return ledger.book.forget(ledger.moment.key_ns - limits.tombstone_ns, limits.max_tombstones, AT_ONCE)


def spoil(ledger: Ledger, key_ids: tuple[bytes, ...]) -> None:
    """End keys that wait here although the other end cannot have them any more."""
    for key_id in key_ids:
        kept = ledger.book.find_key(key_id)
        if kept is not None and kept.waiting:
            ledger.book.spoil(kept, ledger.moment.key_ns)
