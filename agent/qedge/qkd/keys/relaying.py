"""Keys of other nodes that pass this one: how far it can pass them, and doing so. Within one transaction.

A key that crosses several links is drawn by the node of its master. On each link it travels under a one-time pad of
that link's key, authenticated by more of it; the node in between takes the pad off and puts the next one on within one
transaction, and keeps nothing. What it takes of its own link is journalled before it leaves, as its own keys are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.errors import QedgeError
from qedge.qkd.keys.commitment import CHECK_BYTES
from qedge.qkd.keys.composition import Source
from qedge.qkd.keys.drafting import covered, plan_leg, sources, tags_of, take
from qedge.qkd.keys.exchange import OUT_OF_STEP, ids_of, note, unpack
from qedge.qkd.keys.grants import MASTER, SLAVE, Grant
from qedge.qkd.keys.ledger import Ledger, onward_id
from qedge.qkd.keys.model import RELAY_SAE, KeyState, Wanted
from qedge.wire.keys import KeyGrant, KeyRelay, RelayHop

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_SLACK: Final = 1 + 1e-9
"""Sums of the same numbers in another order may differ in their last digits."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Keys that are to go to the next node now, or were there before (`grant` None)."""

    onward: tuple[RelayHop, ...]
    grant: KeyGrant | None


def offer(ledger: Ledger, peer: str, num_bytes: int) -> tuple[RelayHop, int]:
    """Say what a hop over a link from here would cost, and how many bits the link has; raises as `drafting` does.

    Which blocks it will be cut from is not known yet: the promise is the worst of the link's for one block more.
    """
    leg = plan_leg(ledger, _wanted(peer, num_bytes), peer, num_bytes + CHECK_BYTES)
    row = ledger.link_of(leg)
    blocks = 1 + len({cut.block for cut in leg.cuts})
    pool = [block.provenance for block in ledger.shelf.pool(row.name)]

    def worst(values: Sequence[float]) -> float:
        return min(1.0, blocks * max(values))

    hop = RelayHop(
        peer,
        "+".join(sorted({each.protocol for each in pool}))[:200],
        worst([each.eps_cor for each in pool]),
        worst([each.eps_sec for each in pool]),
        worst([each.eps_auth for each in pool]),
        worst([each.eps_total for each in pool]),
        any(each.simulated for each in pool),
    )
    return hop, max(0, row.counters["own"] - ledger.limits.reserve_bits)


def pass_on(ledger: Ledger, peer: str, message: KeyRelay) -> Passage:
    """Take keys that a peer sends to a node further on, and make what goes to the next one.

    Raises `qkd.unmeetable` where this node passes nothing on, `qkd.out_of_step`, and what `drafting` raises where the
    next link has too little key; nothing is taken then.
    """
    if not ledger.limits.relays:
        raise QedgeError("qkd.unmeetable", f"{ledger.node} passes no keys of other nodes on.")
    grant, hop = message.grant, message.onward[0]
    digest = hashlib.sha256(_ENCODE(message)).digest()
    known, sent = ledger.book.find(grant.id), ledger.book.find(onward_id(grant.id))
    if known is not None:
        same = known.role == SLAVE and known.peer == peer and known.digest == digest
        if same and sent is not None and sent.state is KeyState.CONSUMED:
            return Passage(message.onward, None)
        raise _out_of_step()
    size = len(ids_of(grant)) * grant.key_bytes
    leg = plan_leg(ledger, _wanted(hop.node, size), hop.node, size + CHECK_BYTES)
    if not grant.pad or sent is not None or not _keeps(hop, sources(ledger, [leg])):
        raise _out_of_step()
    keys = unpack(ledger, peer, grant, digest, passes=True)
    if keys is None:
        # Where its tag was wrong the bits are gone, and it is noted: that stays, so this is an answer and no error.
        return Passage((), None)
    note(ledger, peer, grant, KeyState.CONSUMED, digest, 0)
    tags, material = tags_of(ledger, leg), take(ledger, leg)
    onward = msgspec.structs.replace(
        grant, id=onward_id(grant.id), link=leg.link, cuts=leg.cuts, tags=tags, pad=b"", mac=b""
    )
    ledger.book.insert(
        Grant(
            number=0,
            id=onward.id,
            role=MASTER,
            state=KeyState.IN_RELAY,
            peer=hop.node,
            link=leg.link,
            master=RELAY_SAE,
            slaves=(),
            legs=(leg,),
            digest=b"",
            provenance=grant.provenance,
            bits=8 * size,
            open=0,
        ),
        ledger.moment.key_ns,
    )
    return Passage(message.onward, covered(onward, keys, material))


def _keeps(hop: RelayHop, cut_from: Sequence[Source]) -> bool:
    """Say whether the blocks that are cut now are as good as was promised."""
    records = [record for _, _, record in cut_from]
    return (
        sum(each.eps_cor for each in records) <= hop.eps_cor * _SLACK
        and sum(each.eps_sec for each in records) <= hop.eps_sec * _SLACK
        and sum(each.eps_auth for each in records) <= hop.eps_auth * _SLACK
        and sum(each.eps_total for each in records) <= hop.eps_total * _SLACK
        and (hop.simulated or not any(each.simulated for each in records))
    )


def _wanted(peer: str, num_bytes: int) -> Wanted:
    return Wanted(peer, RELAY_SAE, (), 1, num_bytes)


def _out_of_step() -> QedgeError:
    return QedgeError(OUT_OF_STEP, "The keys cannot be passed on as they were sent.", fix="Ask again.")
