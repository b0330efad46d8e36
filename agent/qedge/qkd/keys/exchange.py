"""What one key store does when the other end speaks. Within one transaction; messages may come late, twice or never.

Everything said here stays true: a block that is gone never comes back, a grant that was voided is never taken over.
So it does not matter in which order the messages of a peer arrive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from qedge.qkd.keys.accounts import LinkRow
from qedge.qkd.keys.commitment import CHECK_BYTES, is_authentic, mask
from qedge.qkd.keys.composition import NO_KEY
from qedge.qkd.keys.cutting import MAX_GRANT_BYTES, cut_bytes, is_own
from qedge.qkd.keys.grants import SLAVE, Grant
from qedge.qkd.keys.ledger import Ledger
from qedge.qkd.keys.model import BlockEvent, BlockState, KeyEvent, KeyState
from qedge.qkd.keys.shelf import Block
from qedge.wire.keys import (
    MAX_NOTES,
    BlockNote,
    KeyBlocks,
    KeyBlocksCompared,
    KeyGrant,
    KeyReserve,
    KeyReserved,
    KeyVoid,
    KeyVoided,
    Verdict,
    VoidGrant,
)

OUT_OF_STEP: Final = "qkd.out_of_step"
_ENCODE: Final = msgspec.msgpack.Encoder().encode


# Grants


def take_over(ledger: Ledger, peer: str, message: KeyReserve) -> KeyReserved:
    """Keep the copies of keys that a peer is about to hand over; what cannot be kept is refused, grant by grant."""
    return KeyReserved(tuple(_take_over_one(ledger, peer, grant) for grant in message.grants))


def _take_over_one(ledger: Ledger, peer: str, message: KeyGrant) -> str:
    digest = hashlib.sha256(_ENCODE(message)).digest()
    known = ledger.book.find(message.id)
    if known is not None:
        same = known.role == SLAVE and known.peer == peer and known.digest == digest
        return "" if same and known.state is not KeyState.VOIDED else OUT_OF_STEP
    material = unpack(ledger, peer, message, digest)
    if material is None:
        return OUT_OF_STEP
    ids = ids_of(message)
    state = KeyState.RESERVED if message.slaves else KeyState.CONSUMED
    number = note(ledger, peer, message, state, digest, len(ids) if message.slaves else 0)
    if message.slaves:
        length = message.key_bytes
        keys = [(key_id, material[place * length : (place + 1) * length]) for place, key_id in enumerate(ids)]
        ledger.book.insert_keys(number, message.id, state, len(message.slaves), keys)
    return ""


def unpack(ledger: Ledger, peer: str, message: KeyGrant, digest: bytes, *, passes: bool = False) -> bytes | None:
    """Spend the bits of a grant that is new here and return its keys; None where it cannot be taken over.

    Where the keys pass this node (`passes`), another copy of them may be for its own applications.
    """
    row, ids = ledger.accounts.find(message.link), ids_of(message)
    if row is None or row.peer != peer or not _is_sound(message, ids):
        return None
    if not passes and any(ledger.book.find_key(key_id) for key_id in ids):
        return None
    blocks = _match_cut_blocks(ledger, row, message)
    if not blocks or not ledger.shelf.can_take(message.link, message.cuts):
        return None
    size = cut_bytes(message.cuts)
    ledger.accounts.move(row, "theirs", "delivered", 8 * size)
    material = ledger.shelf.take(message.link, message.cuts)
    if message.pad:
        key, material = material[len(message.pad) :], mask(message.pad, material[: len(message.pad)])
        if not is_authentic(message, key):
            note(ledger, peer, message, KeyState.VOIDED, digest, 0)
            ledger.accounts.move(row, "delivered", "voided", 8 * size)
            return None
    return material


def ids_of(message: KeyGrant) -> list[bytes]:
    """Return the ids of the keys of a grant."""
    return [message.ids[place : place + 16] for place in range(0, len(message.ids), 16)]


def _is_sound(message: KeyGrant, ids: Sequence[bytes]) -> bool:
    """Say whether the sizes of a grant fit together, and nothing is named twice."""
    size = len(ids) * message.key_bytes
    padded = size + CHECK_BYTES if message.pad else size
    return (
        len(message.ids) % 16 == 0
        and size <= MAX_GRANT_BYTES
        and cut_bytes(message.cuts) == padded
        and len(message.pad) in (0, size)
        and len(set(ids)) == len(ids)
        and len(set(message.slaves)) == len(message.slaves)
    )


def _match_cut_blocks(ledger: Ledger, row: LinkRow, message: KeyGrant) -> bool:
    """See that the peer may cut from these blocks, and that it means the same ones.

    A peer that cuts from a block has seen that this end holds it, even where its answer got lost on the way.
    """
    numbers = list(dict.fromkeys(cut.block for cut in message.cuts))
    if len(numbers) != len(message.tags) or any(is_own(ledger.node, row.peer, number) for number in numbers):
        return False
    blocks = [ledger.shelf.find(row.name, number) for number in numbers]
    if any(block is None or block.tag != tag for block, tag in zip(blocks, message.tags, strict=True)):
        return False
    for block in blocks:
        if block is not None and block.state is BlockState.VERIFIED:
            _match(ledger, row, block)
    return True


def note(ledger: Ledger, peer: str, message: KeyGrant, state: KeyState, digest: bytes, left_open: int) -> int:
    """Journal a grant of a peer; returns its number."""
    return ledger.book.insert(
        Grant(
            number=0,
            id=message.id,
            role=SLAVE,
            state=state,
            peer=peer,
            link=message.link,
            master=message.master,
            slaves=message.slaves,
            legs=(),
            digest=digest,
            provenance=message.provenance,
            bits=8 * cut_bytes(message.cuts),
            open=left_open,
        ),
        ledger.moment.key_ns,
    )


def void_for(ledger: Ledger, peer: str, message: KeyVoid) -> KeyVoided:
    """Destroy what a peer has given up. A grant that comes only now, late, will find that it was voided."""
    for void in message.grants:
        row = ledger.accounts.find(void.link)
        if row is None or row.peer != peer:
            continue
        known = ledger.book.find(void.id)
        if known is None:
            _burn(ledger, row, void)
        elif (known.role, known.peer, known.link) == (SLAVE, peer, void.link) and known.state is not KeyState.VOIDED:
            ledger.book.end_keys(known, KeyEvent.GIVEN_UP, ledger.moment.key_ns)
            # The keys keep the states they ended in; of the grant it is remembered that it was voided.
            ledger.book.settle(known, KeyState.VOIDED, ledger.moment.key_ns, 0)
            ledger.accounts.move(row, "delivered", "voided", known.bits)
            ledger.recall(void.id)
    return KeyVoided()


def _burn(ledger: Ledger, row: LinkRow, void: VoidGrant) -> None:
    """Destroy bits of a grant that never came, and remember that it was voided."""
    theirs = [cut for cut in void.cuts if not is_own(ledger.node, row.peer, cut.block)]
    for cut in theirs:
        block = ledger.shelf.find(row.name, cut.block)
        if block is not None and block.state is BlockState.VERIFIED:
            _match(ledger, row, block)
    burnt = 8 * ledger.shelf.burn(row.name, theirs)
    ledger.accounts.move(row, "theirs", "voided", burnt)
    empty = KeyGrant(void.id, void.link, void.cuts, (), 1, b"", "", (), NO_KEY)
    note(ledger, row.peer, empty, KeyState.VOIDED, b"", 0)


# Blocks


def notes(ledger: Ledger, link: str, first: int) -> KeyBlocks:
    """Describe blocks of a link from number `first` on, as many as one message holds."""
    row = ledger.accounts.find(link)
    blocks = ledger.shelf.all_blocks(link, first, MAX_NOTES)
    newest = row.highest if row is not None else -1
    until = blocks[-1].number if len(blocks) == MAX_NOTES else newest
    said = tuple(BlockNote(block.number, block.size, block.tag) for block in blocks)
    # `first` after `until`: nothing is said about other blocks.
    if until < first:
        return KeyBlocks(link, said, 1, 0)
    busy = tuple(sorted(number for number in _under_way(ledger, link) if first <= number <= until))
    return KeyBlocks(link, said, first, until, busy)


def waiting_notes(ledger: Ledger, link: str) -> KeyBlocks | None:
    """Describe the blocks that the peer is not known to have; None: there are none."""
    waiting = (block for block in ledger.shelf.all_blocks(link, 0, 1 << 20) if block.state is BlockState.VERIFIED)
    blocks = list(islice(waiting, MAX_NOTES))
    if not blocks:
        return None
    return KeyBlocks(link, tuple(BlockNote(each.number, each.size, each.tag) for each in blocks), 1, 0)


def compare(ledger: Ledger, peer: str, message: KeyBlocks) -> KeyBlocksCompared:
    """Compare a peer's blocks with those here; what both have may be used from now on, the rest is destroyed."""
    row = ledger.accounts.of_peer(peer, message.link)
    busy = _under_way(ledger, message.link)
    verdicts = tuple(_verdict(ledger, row, note, busy) for note in message.notes)
    if message.first <= message.until:
        named = {*message.busy, *(note.number for note in message.notes)}
        for block in _between(ledger, message.link, message.first, message.until):
            if block.number not in named:
                _discard(ledger, row, block)
    return KeyBlocksCompared(verdicts)


def learn(ledger: Ledger, peer: str, sent: KeyBlocks, answer: KeyBlocksCompared) -> None:
    """Act on what the peer said of the blocks here."""
    row = ledger.accounts.of_peer(peer, sent.link)
    for note, verdict in zip(sent.notes, answer.verdicts, strict=False):
        block = ledger.shelf.find(sent.link, note.number)
        if block is None:
            continue
        if verdict is Verdict.GONE:
            _discard(ledger, row, block)
        elif verdict is Verdict.SAME and block.state is BlockState.VERIFIED:
            _match(ledger, row, block)


def _under_way(ledger: Ledger, link: str) -> set[int]:
    """Return the blocks of which grants are under way: they may be used up here and not yet at the peer."""
    legs = (leg for grant in ledger.book.unfinished() for leg in grant.legs if leg.link == link)
    return {cut.block for leg in legs for cut in leg.cuts}


def _verdict(ledger: Ledger, row: LinkRow, note: BlockNote, busy: set[int]) -> Verdict:
    block = ledger.shelf.find(row.name, note.number)
    if block is None:
        return Verdict.GONE if note.number <= row.highest and note.number not in busy else Verdict.LATER
    if (block.size, block.tag) != (note.size, note.tag):
        _discard(ledger, row, block)
        return Verdict.GONE
    if block.state is BlockState.VERIFIED:
        _match(ledger, row, block)
    return Verdict.SAME


def _between(ledger: Ledger, link: str, first: int, until: int) -> Iterator[Block]:
    while blocks := ledger.shelf.all_blocks(link, first, MAX_NOTES):
        for block in blocks:
            if block.number > until:
                return
            yield block
        first = blocks[-1].number + 1


def _match(ledger: Ledger, row: LinkRow, block: Block) -> None:
    ledger.shelf.move(block, BlockEvent.MATCHED)
    ledger.accounts.move(row, "waiting", "own" if block.own else "theirs", 8 * block.left)


def _discard(ledger: Ledger, row: LinkRow, block: Block) -> None:
    ledger.drop(row, block, BlockEvent.MISSING_AT_PEER)
