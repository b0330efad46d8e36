"""What the two ends of a QKD link say to each other while they distil, and what they hand over when a block is done.

A `LinkFrame` carries one message of an engine; nodes pass frames on without reading them. Arrays are bytes: bits
little-endian (bit i is bit i & 7 of byte i >> 3), the codings are those of `qedge.qkd.sifting`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from qedge.wire.keys import Chance

MAX_DATA_BYTES: Final = 188 * 1024
"""Of the arrays of one message, so that a call with it goes in one message over MQTT as well (`mesh.carrier`)."""

MAX_DETECTIONS: Final = 1 << 18
MAX_ENTRIES: Final = 1 << 20
MAX_FRAMES: Final = 1024
"""Frames of one block: 2^27 bits."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Data = Annotated[bytes, msgspec.Meta(max_length=MAX_DATA_BYTES)]
Tag = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
HashKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
FrameNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_FRAMES)]
FrameNumbers = Annotated[tuple[FrameNumber, ...], msgspec.Meta(max_length=MAX_FRAMES)]
PerIntensity = Annotated[tuple[Count, ...], msgspec.Meta(max_length=8)]
Chances = Annotated[tuple[Chance, ...], msgspec.Meta(min_length=1, max_length=8)]
Reason = Annotated[str, msgspec.Meta(max_length=200)]
CodeName = Annotated[str, msgspec.Meta(max_length=64)]


class LinkFrame(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-frame/1"):
    """One message between two engines, or only a receipt (empty `body`).

    `epoch` grows whenever an end begins anew; within it, frames are numbered from 0, and `ack` is the next number that
    the sender expects.
    """

    epoch: Count
    number: Count
    ack: Count
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_DATA_BYTES + 4096)] = b""


# From Bob


class BobTerms(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-bob-terms/1"):
    """First message of an epoch: Bob's share of what both must know, and the first block number free at his end."""

    link: Annotated[str, msgspec.Meta(max_length=64)]
    z_probability: Chance
    next_block: Count


class Detections(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-detections/1"):
    """`count` detections in slots from `first_slot` to before `end_slot`: their slots and bases, no bits."""

    first_slot: Count
    end_slot: Count
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_DETECTIONS)]
    slots: Data
    bases: Data


class Announced(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-announced/1"):
    """The tag over everything announced for a block, made with the pads at place `index` of stock `stock`."""

    block: Count
    stock: Count
    index: Count
    tag: Tag


class CodeChosen(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-code/1"):
    """Bob wants syndromes of all frames of a block by this code."""

    block: Count
    code: CodeName


class RowsWanted(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-rows-wanted/1"):
    """These frames could not be decoded: Bob wants the further rows number `step` of them."""

    block: Count
    step: Annotated[int, msgspec.Meta(ge=1, le=16)]
    frames: FrameNumbers


class Corrected(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-corrected/1"):
    """Bob is done with correction; the frames in `dropped` are given up and Alice discloses them."""

    block: Count
    dropped: FrameNumbers


class FrameChecksWanted(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-checks-wanted/1"):
    """The check of the block failed: Bob wants one of each frame."""

    block: Count


class Verified(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-verified/1"):
    """Bob's bits are Alice's but for the frames in `dropped` (those of `Corrected` among them).

    Errors are exact counts per intensity over the whole block, disclosed frames included. `bits` is the length of the
    key as Bob computes it; with `refill` the first bytes of it become a stock for so many blocks.
    """

    block: Count
    dropped: FrameNumbers
    key_errors: PerIntensity
    test_errors: PerIntensity
    bits: Count
    refill: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0


class Accepted(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-accepted/1"):
    """The tag over what Bob said in the block after `Announced`: Bob holds the key and waits for `Committed`."""

    block: Count
    tag: Tag


# From Alice


class AliceTerms(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-alice-terms/1"):
    """First message of an epoch: Alice's share of what both must know, and the first block number free at her end.

    At `index` of stock `stock` are the first pads that she has not used.
    """

    link: Annotated[str, msgspec.Meta(max_length=64)]
    mean_photon_numbers: Annotated[tuple[float, ...], msgspec.Meta(min_length=1, max_length=8)]
    intensity_probabilities: Chances
    z_probability: Chance
    block_bits: Count
    epsilons: Annotated[tuple[Chance, ...], msgspec.Meta(min_length=3, max_length=3)]
    next_block: Count
    stock: Count
    index: Count


class BlockFull(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-block-full/1"):
    """The next `detections` detections make the block."""

    block: Count
    detections: Count


class SiftedPart(StrEnum):
    """What Alice tells of a block, in this order."""

    BASES = "bases"
    KEY_INTENSITIES = "key_intensities"
    TEST_INTENSITIES = "test_intensities"
    TEST_BITS = "test_bits"


class Sifted(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-sifted/1"):
    """A piece of Alice's answer: `count` entries of one part, coded, from the one after the last piece on.

    Bases are those of all detections of the block, the other parts belong to those in equal bases.
    """

    block: Count
    part: SiftedPart
    count: Annotated[int, msgspec.Meta(ge=0, le=MAX_ENTRIES)]
    data: Data


class Syndromes(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-syndromes/1"):
    """Syndromes of frames from `first` on, one after the other."""

    block: Count
    first: FrameNumber
    data: Data


class Rows(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-rows/1"):
    """Further rows of the frames that Bob named, in his order."""

    block: Count
    step: Annotated[int, msgspec.Meta(ge=1, le=16)]
    data: Data


class Disclosed(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-disclosed/1"):
    """All bits of one frame that is given up, so that its errors count."""

    block: Count
    frame: FrameNumber
    bits: Data


class Check(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-check/1"):
    """A universal hash of Alice's bits, frames that were dropped left out, and its key, drawn for this once."""

    block: Count
    key: HashKey
    tag: Tag


class FrameChecks(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-frame-checks/1"):
    """One hash of 16 bytes for each frame that is not dropped."""

    block: Count
    key: HashKey
    tags: Data


class Seed(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-seed/1"):
    """A piece of the seed of the hash that makes the key, drawn once the bits were fixed; `bits`: length of the key."""

    block: Count
    bits: Count
    data: Data


class Sealed(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-sealed/1"):
    """The tag over everything that Alice said in the block."""

    block: Count
    tag: Tag


class Committed(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-committed/1"):
    """Alice has handed the block over; `receipt` is a secret that only she could say."""

    block: Count
    receipt: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


# From either


class Dropped(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-dropped/1"):
    """The block yields nothing, for this reason."""

    block: Count
    reason: Reason


FromBob = (
    BobTerms
    | Detections
    | Announced
    | CodeChosen
    | RowsWanted
    | Corrected
    | FrameChecksWanted
    | Verified
    | Accepted
    | Dropped
)
FromAlice = (
    AliceTerms
    | BlockFull
    | Sifted
    | Syndromes
    | Rows
    | Disclosed
    | Check
    | FrameChecks
    | Seed
    | Sealed
    | Committed
    | Dropped
)


# What leaves an engine


class Provenance(msgspec.Struct, frozen=True):
    """Where a block comes from and how far it can be trusted; the epsilons are those of this block."""

    protocol: str
    eps_cor: float
    eps_sec: float
    eps_auth: float
    eps_total: float
    simulated: bool
    qber: float
    sifted_bits: int
    leaked_bits: int
    created_utc_ns: int = 0


class FinishedBlock(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-finished-block/1"):
    """Key that both ends hold, byte for byte; `block_id` grows along a link and is the same at both ends."""

    link: str
    block_id: int
    bits: bytes
    provenance: Provenance

    def __repr__(self) -> str:
        return f"FinishedBlock({self.link!r}, {self.block_id}, {8 * len(self.bits)} bits)"


class BlockReport(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-block-report/1"):
    """How one block went. `outcome` is `key`, `dropped`, `quarantined`, `unequal` or `reset`; `reason` says why no key.

    `qber` is −1 where it was never counted; `wire_bits` are all bits both ends said, receipts and repeats left out;
    `reserved_bits` went into a stock for authentication, `burnt_bits` is what authentication has used so far. `gain`,
    in which Bob's end alone has a say, is clicks per pulse while the receiver could detect; −1 where it is not known.
    """

    block: int
    outcome: str
    reason: str = ""
    sifted_bits: int = 0
    qber: float = -1.0
    test_qber: float = -1.0
    frames: int = 0
    dropped_frames: int = 0
    leaked_bits: int = 0
    efficiency: float = 0.0
    key_bits: int = 0
    reserved_bits: int = 0
    burnt_bits: int = 0
    wire_bits: int = 0
    detections: int = 0
    quarantined: bool = False
    gain: float = -1.0


class Baseline(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-baseline/1"):
    """What the end that detects has learned of its link's counts from the first blocks that gave key.

    `terms` are the numbers that both ends agreed on then, and how often the link was commissioned: with others it is
    learned anew. `detections` in equal bases are of each intensity, largest first; `clicks` are all, of which so many
    were double, in `slots` in which the receiver could detect.
    """

    terms: tuple[float, ...]
    blocks: int
    slots: float
    clicks: float
    double_clicks: float
    detections: tuple[int, ...]


# Between the nodes of a link

RunId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
StockIds = Annotated[tuple[Count, ...], msgspec.Meta(max_length=64)]
LinkName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class LinkOpen(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-link-open/1", omit_defaults=True):
    """The node with the lower name begins a link anew; the seed comes of the session `session` and both nonces.

    `stocks`: distilled stocks of pads that this node still has; those that both name are used on.
    """

    link: LinkName
    session: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    nonce: Nonce
    first_block: Count
    stocks: StockIds = ()


class LinkOpened(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-link-opened/1", omit_defaults=True):
    """The other node's engine runs, from block `first_block` on at the earliest."""

    nonce: Nonce
    first_block: Count
    stocks: StockIds = ()


class LinkWake(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-link-wake/1"):
    """The node with the higher name asks the other one to begin a link anew."""

    link: LinkName


class LinkFrames(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-link-frames/1"):
    """Frames for the engine at the other end, of the opening `run`."""

    link: LinkName
    run: RunId
    frames: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=256)]


class LinkTaken(msgspec.Struct, frozen=True, tag_field="type", tag="qkd-link-taken/1"):
    """The frames went to the engine; or not, where the opening is not the one that is known there."""

    known: bool = True
