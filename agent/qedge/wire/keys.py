"""What the key stores at the two ends of a QKD link say to each other, and the record that goes with every key."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from qedge.wire.mesh import Name, Short

MAX_GRANTS: Final = 256
MAX_NOTES: Final = 1024
MAX_KEY_BYTES: Final = 65536
MAX_HOPS: Final = 8
"""Links that a relayed key crosses at most."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]
GrantId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Tag = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Origin(StrEnum):
    """How a key came to be, the best kind first."""

    DIRECT = "direct"
    RELAYED = "relayed"
    HYBRID = "hybrid"
    COMPUTATIONAL = "computational"


class BlockProvenance(msgspec.Struct, frozen=True):
    """What distillation says of a block; immutable. The epsilons are those of the block and of each part of it."""

    protocol: Short
    eps_cor: Chance
    eps_sec: Chance
    eps_auth: Chance
    eps_total: Chance
    simulated: bool
    qber: Chance = 0.0
    sifted_bits: Count = 0
    leaked_bits: Count = 0
    created_utc_ns: Count = 0


class KeyProvenance(msgspec.Struct, frozen=True):
    """What is known of a key, made once by the node that cut it and the same at all ends; immutable.

    `link_blocks` are `link/number` of the blocks of the first node's links that it was cut from or sent under; `hops`
    counts the nodes that passed it on, `trusted_nodes` are all that saw it in plain. The epsilons are sums over
    `link_blocks`, and over what later links of `path` cost at most. `bits` and the times are of the key; times are for
    display.
    """

    origin: Origin
    protocol: Short
    bits: Count
    link_blocks: Annotated[tuple[Short, ...], msgspec.Meta(max_length=64)]
    hops: Count
    path: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)]
    trusted_nodes: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)]
    eps_cor: Chance
    eps_sec: Chance
    eps_auth: Chance
    eps_total: Chance
    simulated: bool
    master: Short
    slaves: Annotated[tuple[Short, ...], msgspec.Meta(max_length=64)]
    created_utc_ns: Count
    expires_utc_ns: Count
    paths_xored: Count = 1
    mix: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] = ()


class Cut(msgspec.Struct, frozen=True, array_like=True):
    """Bytes `start` to `start + size` of a block."""

    block: Count
    start: Annotated[int, msgspec.Meta(ge=0, le=2**32)]
    size: Annotated[int, msgspec.Meta(gt=0, le=2**32)]


class KeyGrant(msgspec.Struct, frozen=True):
    """Keys that one application asked for at once: where they are cut from, their ids, and who may have them.

    `ids` are the UUIDs of the keys, 16 bytes each; every key has `key_bytes`. `slaves` are applications at the node
    that reads this; none: the bits are to be destroyed there. Where `pad` is not empty, the keys come from elsewhere:
    the cut bits are the one-time pad under which they stand in it, followed by the 32 bytes of the key of `mac`.
    """

    id: GrantId
    link: Name
    cuts: Annotated[tuple[Cut, ...], msgspec.Meta(min_length=1, max_length=64)]
    tags: Annotated[tuple[Tag, ...], msgspec.Meta(max_length=64)]
    key_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_KEY_BYTES)]
    ids: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16 * 1024)]
    master: Short
    slaves: Annotated[tuple[Short, ...], msgspec.Meta(max_length=63)]
    provenance: KeyProvenance
    pad: bytes = b""
    mac: Annotated[bytes, msgspec.Meta(max_length=16)] = b""


class KeyReserve(msgspec.Struct, frozen=True, tag_field="type", tag="key-reserve/1"):
    """Keys are about to be handed over at the sender: keep the other copy. The same grant may come again."""

    grants: Annotated[tuple[KeyGrant, ...], msgspec.Meta(max_length=MAX_GRANTS)]


class KeyReserved(msgspec.Struct, frozen=True, tag_field="type", tag="key-reserved/1"):
    """For each grant: nothing where its copy is on the disk, or the code of the error."""

    outcomes: Annotated[tuple[Short, ...], msgspec.Meta(max_length=MAX_GRANTS)]


class RelayHop(msgspec.Struct, frozen=True):
    """A link that a key crosses on its way: to `node`, with epsilons that are those of its key there at most."""

    node: Name
    protocol: Short
    eps_cor: Chance
    eps_sec: Chance
    eps_auth: Chance
    eps_total: Chance
    simulated: bool


class KeyReach(msgspec.Struct, frozen=True, tag_field="type", tag="key-reach/1"):
    """Which links lead on to `target`, with `num_bytes` of key on each? At most `hops` of them, and not over `path`."""

    target: Name
    num_bytes: Annotated[int, msgspec.Meta(ge=1, le=2**20)]
    path: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_HOPS)]
    hops: Annotated[int, msgspec.Meta(ge=1, le=MAX_HOPS)]


class KeyReached(msgspec.Struct, frozen=True, tag_field="type", tag="key-reached/1"):
    """The links, from the sender to the target, and the bits that the poorest of them has; none: there is no way."""

    hops: Annotated[tuple[RelayHop, ...], msgspec.Meta(max_length=MAX_HOPS)] = ()
    bits: Count = 0


class KeyRelay(msgspec.Struct, frozen=True, tag_field="type", tag="key-relay/1"):
    """Keys for a node further on: pass them over these links. The slaves of `grant` are at the last node.

    The answer is a `KeyReserved` of one outcome, given once the last node has its copy on the disk.
    """

    grant: KeyGrant
    onward: Annotated[tuple[RelayHop, ...], msgspec.Meta(min_length=1, max_length=MAX_HOPS)]


class VoidGrant(msgspec.Struct, frozen=True):
    """A grant that came to nothing, and its bits."""

    id: GrantId
    link: Name
    cuts: Annotated[tuple[Cut, ...], msgspec.Meta(max_length=64)]


class KeyVoid(msgspec.Struct, frozen=True, tag_field="type", tag="key-void/1"):
    """These grants were not handed over at the sender and never will be: destroy their bits and their keys."""

    grants: Annotated[tuple[VoidGrant, ...], msgspec.Meta(max_length=MAX_GRANTS)]


class KeyVoided(msgspec.Struct, frozen=True, tag_field="type", tag="key-voided/1"):
    """That is done, and on the disk."""


class BlockNote(msgspec.Struct, frozen=True, array_like=True):
    """A block that the sender holds: `tag` shows what is in it to who has the same, and tells nobody else anything."""

    number: Count
    size: Count
    tag: Tag


class KeyBlocks(msgspec.Struct, frozen=True, tag_field="type", tag="key-blocks/1"):
    """Blocks of a link that the sender holds. From `first` to `until` it holds no others, and never will again.

    Of the blocks in `busy` nothing is said: a grant that is under way may have the last of their bits.
    """

    link: Name
    notes: Annotated[tuple[BlockNote, ...], msgspec.Meta(max_length=MAX_NOTES)]
    first: Count
    until: Count
    busy: Annotated[tuple[Count, ...], msgspec.Meta(max_length=65536)] = ()


class Verdict(StrEnum):
    """What the other end says of a block: `LATER` it cannot say yet, `GONE` it does not have it any more."""

    SAME = "same"
    LATER = "later"
    GONE = "gone"


class KeyBlocksCompared(msgspec.Struct, frozen=True, tag_field="type", tag="key-blocks-compared/1"):
    """One verdict for each note, in their order."""

    verdicts: Annotated[tuple[Verdict, ...], msgspec.Meta(max_length=MAX_NOTES)]
