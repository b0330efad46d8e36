"""Bob: announces what he saw, corrects his bits to Alice's, counts errors, and judges whether a block may yield key."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import msgspec

from qedge.base.ids import RandomBytes
from qedge.qkd.authentication.stock import KeyStocks, stock_bytes
from qedge.qkd.distillation.accounts import LeakAccount
from qedge.qkd.distillation.baseline import Expected, Watch
from qedge.qkd.distillation.bits import bytes_of, frames_in
from qedge.qkd.distillation.conduit import Conduit
from qedge.qkd.distillation.correcting import BobBlock, Correcting
from qedge.qkd.distillation.engine import ACCEPTED, ANNOUNCED, FORGED, MAX_OPEN, SEALED, pieces
from qedge.qkd.distillation.model import (
    FRAME_BITS,
    AliceSide,
    BlockCounts,
    Effect,
    EngineSettings,
    Learned,
    LinkTerms,
    ProtocolError,
)
from qedge.qkd.distillation.pending import Pending
from qedge.qkd.distillation.ports import Bytes, Kernels, Words
from qedge.qkd.finite_key.limits import Seen
from qedge.qkd.raw import interval
from qedge.wire.qkd import (
    MAX_DATA_BYTES,
    Accepted,
    AliceTerms,
    Announced,
    BlockFull,
    BobTerms,
    Check,
    Committed,
    Detections,
    Disclosed,
    Dropped,
    FrameChecks,
    FromAlice,
    Rows,
    Sealed,
    Seed,
    Sifted,
    Syndromes,
    Verified,
)

_DECODER: Final = msgspec.msgpack.Decoder(FromAlice)
_FIRST_PIECE: Final = 1 << 17
_MAX_PIECE: Final = 192 * 1024
"""Detections announced in one message, where they fit: each message has its price."""

_FILLED: Final = 0.95
"""How full a message may be by the size of the last one."""

_MAX_HELD: Final = 16
_MAX_WAITING_BYTES: Final = 12 << 20
_TOO_MANY_ERRORS: Final = "the error rate is too high"


@dataclass(slots=True, eq=False)
class _Held:
    """A block that Bob has and that Alice may have handed over already."""

    block: BobBlock
    counts: BlockCounts
    output: bytes = field(repr=False)
    receipt: bytes = field(repr=False)


class BobEngine(Correcting):
    """The end that measures. Give it detections while `wants_detections` says so."""

    def __init__(
        self,
        settings: EngineSettings,
        z_probability: float,
        kernels: Kernels,
        stocks: KeyStocks,
        *,
        random_bytes: RandomBytes,
        first_block: int = 0,
        conduit: Conduit | None = None,
        expected: Expected | None = None,
    ) -> None:
        super().__init__(settings, kernels, stocks, random_bytes=random_bytes, first_block=first_block, conduit=conduit)
        self._z_probability = z_probability
        self._watch = Watch(expected or Expected())
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._clean_wanted = 0
        self._piece = _FIRST_PIECE
        self._forget()

    def _forget(self) -> None:
        self._pending = Pending()

    @property
    def is_quarantined(self) -> bool:
        """Whether key is held back until blocks are clean again."""
        return self._clean_wanted > 0

    @property
    def wants_detections(self) -> bool:
        """Whether detections that come now have a place: Alice is there and keeps up, and so do the kernels."""
        return (
            self.terms is not None
            and not self.halted
            and self.open_blocks < self.settings.max_open_blocks
            and self._pending.number < self.terms.detections(2 * self._block_bits)
            and self.waiting_bytes < _MAX_WAITING_BYTES
        )

    def detected(
        self, window: tuple[int, int], slots: Words, bases: Bytes, bits: Bytes, seen: Seen, now_ns: int
    ) -> list[Effect]:
        """Take a block of detections: increasing slots within the `window` from its first to before its second, packed
        bases and bits.

        Without Alice's terms they are lost, as they would be while nobody looks.
        """
        return self._do(now_ns, lambda: self._announce_all(window, slots, bases, bits, seen))

    def _make_terms(self) -> BobTerms:
        return BobTerms(self.settings.link, self._z_probability, self._next_block)

    def _hear(self, body: bytes) -> None:
        message = _DECODER.decode(body)
        if isinstance(message, AliceTerms):
            self._take_terms(message, body)
        elif self.terms is None:
            raise ProtocolError("Alice spoke before her terms")
        elif isinstance(message, BlockFull):
            self._fill_block(message, body)
        elif isinstance(message, Committed):
            self._committed(message)
        elif isinstance(message, Dropped):
            self._dropped(message)
        elif self._open(message.block):
            block = self._block(message.block)
            if not isinstance(message, Sealed):
                block.theirs.add(body)
            self._act(message, block)

    def _act(self, message: msgspec.Struct, block: BobBlock) -> None:
        match message:
            case Sifted():
                if self._take_sifted(message, block):
                    self._begin_correction(block)
            case Syndromes():
                self._take_syndromes(message, block)
            case Rows():
                self._take_rows(message, block)
            case Disclosed():
                self._take_disclosed(message, block)
            case Check():
                self._take_check(message, block)
            case FrameChecks():
                self._take_frame_checks(message, block)
            case Seed():
                self._take_seed(message, block)
            case Sealed():
                self._sealed(message, block)
            case _:
                raise ProtocolError("Alice said something of Bob")

    def _take_terms(self, terms: AliceTerms, body: bytes) -> None:
        if self.terms is not None:
            raise ProtocolError("Alice said her terms twice")
        epsilons = self.settings.epsilons
        if terms.epsilons != (epsilons.secrecy, epsilons.correctness, epsilons.authentication):
            self._disagree("the ends are configured for different epsilons")
            return
        if terms.link != self.settings.link:
            self._disagree(f"the other end speaks of the link {terms.link}")
            return
        if not frames_in(terms.block_bits) or len(terms.mean_photon_numbers) != len(terms.intensity_probabilities):
            raise ProtocolError("Alice's terms do not fit together")
        self._disagreed = 0
        side = AliceSide(terms.mean_photon_numbers, terms.intensity_probabilities, terms.z_probability)
        self.terms = LinkTerms(side, self._z_probability)
        self._block_bits = terms.block_bits
        self._heard_terms = body
        self._go_on_from(terms.next_block)
        self.stocks.pass_over(terms.stock, terms.index)

    # Sifting

    def _announce_all(self, window: tuple[int, int], slots: Words, bases: Bytes, bits: Bytes, seen: Seen) -> None:
        if self.terms is None or not len(slots):
            return
        first_slot, end_slot = window
        for part in pieces(len(slots), self._piece):
            end = end_slot if part.stop == len(slots) else int(slots[part.stop])
            of_part = seen.part(part.stop - part.start)
            self._announce((first_slot, end), slots[part], bases[bytes_of(part)], bits[bytes_of(part)], of_part)
            first_slot = end

    def _announce(self, window: tuple[int, int], slots: Words, bases: Bytes, bits: Bytes, seen: Seen) -> None:
        first_slot, end_slot = window
        coded = self.kernels.encode_slots(slots, first_slot)
        coded_bases = self.kernels.encode_bits(bases, len(slots))
        if len(coded) + len(coded_bases) + 1024 > MAX_DATA_BYTES and len(slots) > 8:
            half = (len(slots) // 2 + 7) & ~7  # bits of the second half begin with a byte
            middle = int(slots[half])
            former, latter = seen.part(half), seen.part(len(slots) - half)
            self._announce((first_slot, middle), slots[:half], bases[: half // 8], bits[: half // 8], former)
            self._announce((middle, end_slot), slots[half:], bases[half // 8 :], bits[half // 8 :], latter)
            return
        most = len(slots) * _FILLED * MAX_DATA_BYTES / (len(coded) + len(coded_bases))
        self._piece = min(max(int(most) & ~63, 64), _MAX_PIECE)
        body = self._post(Detections(first_slot, end_slot, len(slots), coded, coded_bases))
        self._pending.add(body, len(slots), bases, bits, seen=seen)

    def _fill_block(self, message: BlockFull, body: bytes) -> None:
        if message.block != self._next_block or len(self._blocks) > MAX_OPEN:
            raise ProtocolError("Alice fills a block out of turn")
        self._next_block += 1
        announcements, (bases, bits), seen = self._pending.cut(message.detections)
        block = BobBlock(
            number=message.block,
            detections=message.detections,
            account=LeakAccount(frames_in(self._block_bits)),
            ours=self._transcripts(message.block, from_alice=False),
            theirs=self._transcripts(message.block, from_alice=True),
            touched_ns=self._now_ns,
            announced_bytes=sum(map(len, announcements)),
            bases=bases,
            bits=bits,
            seen=seen,
            gain=seen.gain,
        )
        block.theirs.add(body)
        stock, index = self.stocks.next_place()
        block.pads = self.stocks.take(stock, index)
        self._blocks[block.number] = block
        announced = self._transcripts(block.number, from_alice=False)
        for announcement in announcements:
            announced.add(announcement)
        self._post(Announced(block.number, stock, index, announced.tag(block.pads.announced, ANNOUNCED)))

    def _begin_correction(self, block: BobBlock) -> None:
        low, _ = interval(block.test_errors_total, block.test_total)
        if low > self.settings.max_qber:
            self._alarm(block, _TOO_MANY_ERRORS)
        elif not self._choose_code(block):
            self._alarm(block, "no code corrects so many errors")

    def _alarm(self, block: BobBlock, reason: str) -> None:
        """Give a block up for what was measured, and hold key back until blocks are clean again."""
        self._clean_wanted = self.settings.clean_blocks
        self._drop(block, "dropped", reason)

    # The key

    def _corrected_and_checked(self, block: BobBlock) -> None:
        if self.terms is None:
            raise ProtocolError("a block is verified without terms")
        counts = self._count(block)
        block.counts = counts
        block.account.numbers = len(counts.key_errors)
        if counts.key_qber > self.settings.max_qber:
            self._alarm(block, _TOO_MANY_ERRORS)
            return
        alarm = self.kernels.alarm(self.terms, counts, block.seen, self._watch.limits(self.terms))
        if alarm:
            self._alarm(block, alarm)
            return
        length = self.kernels.key_length(self.terms, counts, block.account.total, self.settings.epsilons)
        bits = min(length.bits, len(block.account.kept) * FRAME_BITS) // 8 * 8
        if bits <= 0:
            self._drop(block, "dropped", length.why_zero or "too few bits for a key")
            return
        if self._clean_wanted:
            self._clean_wanted -= 1
            self._drop(block, "quarantined", "key is held back until the link is clean again")
            return
        learned = self._watch.learn(self.terms, counts, block.seen)
        if learned is not None:
            self._effects.append(Learned(learned))
        block.most_bits = bits
        block.refill = self._refill(bits)
        verified = Verified(
            block.number,
            tuple(sorted(block.account.dropped)),
            counts.key_errors,
            counts.test_errors,
            bits,
            block.refill,
        )
        self._post(verified, block)

    def _refill(self, bits: int) -> int:
        """Say for how many blocks a stock is to be taken out of this one; 0: none."""
        blocks = self.settings.refill_blocks
        enough = self.stocks.is_distilled and self.stocks.left > blocks // 2
        under_way = any(each.refill for each in (*self._blocks.values(), *(held.block for held in self._held.values())))
        if under_way or enough or 8 * stock_bytes(blocks) > bits // 4:
            return 0
        return blocks

    def _take_seed(self, message: Seed, block: BobBlock) -> None:
        if block.counts is None or not 0 < message.bits <= block.most_bits or message.bits % 8:
            raise ProtocolError("Alice makes a key of a wrong length")
        if block.key_bits not in (0, message.bits):
            raise ProtocolError("Alice changed the length of a key")
        block.key_bits = message.bits
        block.seed += message.data
        if len(block.seed) > self.kernels.seed_bytes(FRAME_BITS * len(block.account.kept), block.key_bits):
            raise ProtocolError("Alice's seed is too long")

    def _sealed(self, message: Sealed, block: BobBlock) -> None:
        kept = FRAME_BITS * len(block.account.kept)
        if block.pads is None or not block.key_bits or len(block.seed) != self.kernels.seed_bytes(kept, block.key_bits):
            raise ProtocolError("Alice seals out of turn")
        if not block.theirs.agrees(block.pads.sealed, SEALED, message.tag):
            self._drop(block, "dropped", FORGED)
            raise ProtocolError(FORGED)
        key, seed, bits, kernels = block.corrected_key(), bytes(block.seed), block.key_bits, self.kernels
        self._later(lambda: kernels.amplify(key, seed, bits), lambda output: self._amplified(block, output))

    def _amplified(self, block: BobBlock, output: bytes) -> None:
        if block.number not in self._blocks or block.pads is None or block.counts is None:
            return
        del self._blocks[block.number]
        self._held[block.number] = _Held(block, block.counts, output, block.pads.receipt)
        self._post(Accepted(block.number, block.ours.tag(block.pads.accepted, ACCEPTED)))
        while len(self._held) > _MAX_HELD:
            _, lost = self._held.popitem(last=False)
            self._report(lost.block, "unequal", "Alice never said that she handed it over", qber=lost.counts.key_qber)

    def _committed(self, message: Committed) -> None:
        held = self._held.get(message.block)
        if held is None or not hmac.compare_digest(held.receipt, message.receipt):
            return
        del self._held[message.block]
        self._finish(held.block, held.counts, held.output, held.block.refill)
