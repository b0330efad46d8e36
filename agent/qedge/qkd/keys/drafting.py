"""How a request becomes a grant: which links, which bits, and what each node is told. Within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from qedge.base.errors import QedgeError
from qedge.qkd.keys.accounts import LinkRow, no_link
from qedge.qkd.keys.commitment import CHECK_BYTES, authenticate, mask
from qedge.qkd.keys.composition import Source, compose
from qedge.qkd.keys.cutting import cut_bytes, plan_cuts
from qedge.qkd.keys.grants import MASTER, Grant
from qedge.qkd.keys.ledger import Ledger, leg_id
from qedge.qkd.keys.model import INTERNAL_SAES, KEY_STATES, Draft, KeyEvent, KeyState, Leg, Target, Wanted
from qedge.wire.keys import Cut, KeyGrant, Origin


def reserve(ledger: Ledger, wanted: Wanted) -> Draft:
    """Take the bits of a request from the pools and journal it; nobody has the keys yet.

    Raises `qkd.no_link`, `qkd.too_few_bits`, `qkd.unmeetable`.
    """
    targets = wanted.targets(ledger.node)
    _check_constraints(wanted, targets)
    need = wanted.number * wanted.key_bytes
    # A key that crosses several links is of this node's own dice: each link hides it, none of them is it.
    dice = any(target.onward for target in targets)
    taken = [
        # one after the other: several ways may begin with the same link
        _take(ledger, wanted, target.peer, need + CHECK_BYTES * (dice or place > 0))
        for place, target in enumerate(targets)
    ]
    cut_from = list({source[:2]: source for each in taken for source in each.sources}.values())
    provenance = compose(wanted, ledger.node, cut_from, ledger.moment.utc_ns, ledger.limits.key_max_age_ns)
    bits = ledger.random_bytes(need) if dice else taken[0].material
    ids = tuple(ledger.new_id() for _ in range(wanted.number))
    is_sent_on = dice or len(targets) > 1
    state = KEY_STATES.next(KeyState.RESERVED, KeyEvent.SENT_ON) if is_sent_on else KeyState.RESERVED
    own_slaves = tuple(dict.fromkeys(dict(wanted.elsewhere).get(ledger.node, ())))
    grant = Grant(
        number=0,
        id=ledger.random_bytes(16),
        role=MASTER,
        state=state,
        peer=wanted.peer,
        link=taken[0].leg.link,
        master=wanted.master,
        slaves=own_slaves,
        legs=tuple(each.leg for each in taken),
        digest=b"",
        provenance=provenance,
        bits=8 * need,
        open=0,
    )
    ledger.book.insert(grant, ledger.moment.key_ns)
    size = wanted.key_bytes
    keys = tuple((key_id, bits[place * size : (place + 1) * size]) for place, key_id in enumerate(ids))
    messages = []
    for place, (target, each) in enumerate(zip(targets, taken, strict=True)):
        told = KeyGrant(
            leg_id(grant.id, place),
            each.leg.link,
            each.leg.cuts,
            each.tags,
            size,
            b"".join(ids),
            wanted.master,
            target.slaves,
            provenance,
        )
        is_covered = dice or place > 0
        messages.append((target.peer, covered(told, bits, each.material) if is_covered else told, target.onward))
    return Draft(grant.id, tuple(messages), keys, provenance, own_slaves, grant.link)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Bits that were taken for one target, what shows which they are, and the blocks that they come from."""

    leg: Leg
    tags: tuple[bytes, ...]
    sources: list[Source]
    material: bytes


def _take(ledger: Ledger, wanted: Wanted, peer: str, need: int) -> _Taken:
    leg = plan_leg(ledger, wanted, peer, need)
    tags, cut_from = tags_of(ledger, leg), sources(ledger, [leg])
    return _Taken(leg, tags, cut_from, take(ledger, leg))


def covered(grant: KeyGrant, keys: bytes, material: bytes) -> KeyGrant:
    """Put keys into a grant under a one-time pad, and authenticate it: `material` is the pad and the key of the tag."""
    pad, key = material[: len(keys)], material[len(keys) :]
    return authenticate(msgspec.structs.replace(grant, pad=mask(keys, pad)), key)


def _check_constraints(wanted: Wanted, targets: Sequence[Target]) -> None:
    """Every key of this store is direct or relayed, and as secure as information theory allows."""
    limits, hops = wanted.constraints, [hop for target in targets for hop in target.onward]
    origin = Origin.RELAYED if hops or len(targets) > 1 else Origin.DIRECT
    if limits.route not in ("any", origin.value) or limits.min_security not in ("", "its", "hybrid"):
        raise QedgeError("qkd.unmeetable", f"A key that is {limits.route} {limits.min_security} cannot be had.")
    most = 1 + max(len(target.onward) for target in targets)
    if limits.max_hops and most > limits.max_hops:
        raise QedgeError("qkd.unmeetable", f"The key would cross {most} links.")
    if not limits.allow_simulated and any(hop.simulated for hop in hops):
        raise QedgeError("qkd.unmeetable", "The key would cross a link of simulated hardware.")


def plan_leg(ledger: Ledger, wanted: Wanted, peer: str, need: int) -> Leg:
    """Choose the link to a peer that holds most, and the cuts."""
    links = ledger.accounts.towards(peer)
    if not links:
        raise no_link(peer)
    row = max(links, key=lambda each: each.counters["own"])
    floor = 0 if wanted.master in INTERNAL_SAES else ledger.limits.reserve_bits
    if row.counters["own"] - floor < 8 * need:
        raise _too_few(peer)
    return Leg(peer, row.name, _cuts(ledger, row, need, wanted))


def _cuts(ledger: Ledger, row: LinkRow, need: int, wanted: Wanted) -> tuple[Cut, ...]:
    limits = wanted.constraints
    oldest_ns = ledger.moment.key_ns - round(limits.max_age_s * 1e9)
    cuts = plan_cuts(
        (
            (block.number, block.size, block.spent)
            for block in ledger.shelf.pool(row.name)
            if not (limits.max_age_s and block.born_ns < oldest_ns)
            and (limits.allow_simulated or not block.provenance.simulated)
        ),
        need,
    )
    if cuts is not None:
        return cuts
    if limits.max_age_s or not limits.allow_simulated:
        raise QedgeError("qkd.unmeetable", "The link holds too little key that is as the request demands.")
    raise _too_few(row.peer)


def sources(ledger: Ledger, legs: Sequence[Leg]) -> list[Source]:
    """Return the blocks that legs are cut from."""
    named = dict.fromkeys((leg.link, cut.block) for leg in legs for cut in leg.cuts)
    found = ((link, number, ledger.shelf.find(link, number)) for link, number in named)
    return [(link, number, block.provenance) for link, number, block in found if block is not None]


def tags_of(ledger: Ledger, leg: Leg) -> tuple[bytes, ...]:
    """Return what shows to the other end that the same blocks are meant."""
    found = (ledger.shelf.find(leg.link, number) for number in dict.fromkeys(cut.block for cut in leg.cuts))
    return tuple(block.tag for block in found if block is not None)


def take(ledger: Ledger, leg: Leg) -> bytes:
    """Spend the bits of a leg and return them."""
    ledger.accounts.move(ledger.link_of(leg), "own", "in_flight", 8 * cut_bytes(leg.cuts))
    return ledger.shelf.take(leg.link, leg.cuts)


def _too_few(peer: str) -> QedgeError:
    return QedgeError(
        "qkd.too_few_bits",
        f"The link to {peer} holds too little key for this request.",
        fix="Try again later, or ask for less; `qedge keys status` shows the rate.",
    )
