"""Alice: knows what was sent, says what Bob needs to hold the same bits, and draws what has to be drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from qedge.base.ids import RandomBytes
from qedge.qkd.authentication.stock import KeyStocks, stock_bytes
from qedge.qkd.authentication.tags import compute_tag
from qedge.qkd.distillation.accounts import LeakAccount
from qedge.qkd.distillation.bits import as_frames, bytes_of, frames_in, joined, ones_in, take_bits
from qedge.qkd.distillation.conduit import Conduit
from qedge.qkd.distillation.engine import ACCEPTED, ANNOUNCED, FORGED, MAX_OPEN, SEALED, Engine, OpenBlock, pieces
from qedge.qkd.distillation.model import (
    FRAME_BITS,
    AliceSide,
    BlockCounts,
    EngineSettings,
    LinkTerms,
    ProtocolError,
)
from qedge.qkd.distillation.pending import Pending
from qedge.qkd.distillation.ports import Bytes, CodeInfo, Kernels, SiftedBits, Source
from qedge.wire.qkd import (
    MAX_DATA_BYTES,
    MAX_ENTRIES,
    Accepted,
    AliceTerms,
    Announced,
    BlockFull,
    BobTerms,
    Check,
    CodeChosen,
    Committed,
    Corrected,
    Detections,
    Disclosed,
    Dropped,
    FrameChecks,
    FrameChecksWanted,
    FromBob,
    Rows,
    RowsWanted,
    Sealed,
    Seed,
    Sifted,
    SiftedPart,
    Syndromes,
    Verified,
)

_DECODER: Final = msgspec.msgpack.Decoder(FromBob)
_RECENT: Final = 16
_MAX_REFILL: Final = 4096
_BASES, _BITS, _LOWER, _UPPER, _BOB_BASES, _KEPT = range(6)


@dataclass(slots=True, eq=False, kw_only=True)
class AliceBlock(OpenBlock):
    """Alice's side of a block."""

    announcements: list[bytes]
    bases: Bytes
    sifted: SiftedBits
    code: CodeInfo | None = None
    steps: int = 0
    counts: BlockCounts | None = None
    refill: int = 0
    output: bytes | None = None
    accepted: bytes = b""

    @property
    def frames(self) -> Bytes:
        """Return her packed key bits, frame by frame."""
        return as_frames(self.sifted.key)


class AliceEngine(Engine[AliceBlock]):
    """The end that prepares. `source` is her device."""

    _is_alice = True

    def __init__(
        self,
        settings: EngineSettings,
        side: AliceSide,
        source: Source,
        kernels: Kernels,
        stocks: KeyStocks,
        *,
        random_bytes: RandomBytes,
        first_block: int = 0,
        conduit: Conduit | None = None,
    ) -> None:
        super().__init__(settings, kernels, stocks, random_bytes=random_bytes, first_block=first_block, conduit=conduit)
        self._side = side
        self._source = source
        self._number = len(side.mean_photon_numbers)
        self._recent: deque[Committed] = deque(maxlen=_RECENT)
        self._forget()

    def _forget(self) -> None:
        self._pending = Pending()
        self._sifted = 0
        self._next_slot = 0

    def _make_terms(self) -> AliceTerms:
        epsilons = self.settings.epsilons
        stock, index = self.stocks.first_unused
        return AliceTerms(
            link=self.settings.link,
            mean_photon_numbers=self._side.mean_photon_numbers,
            intensity_probabilities=self._side.intensity_probabilities,
            z_probability=self._side.z_probability,
            block_bits=self.settings.block_bits,
            epsilons=(epsilons.secrecy, epsilons.correctness, epsilons.authentication),
            next_block=self._next_block,
            stock=stock,
            index=index,
        )

    def _hear(self, body: bytes) -> None:
        message = _DECODER.decode(body)
        if isinstance(message, BobTerms):
            self._take_terms(message, body)
            return
        if self.terms is None:
            raise ProtocolError("Bob spoke before his terms")
        if isinstance(message, Detections):
            self._detections(message, body)
        elif isinstance(message, Dropped):
            self._dropped(message)
        elif self._open(message.block):
            block = self._block(message.block)
            if not isinstance(message, (Announced, Accepted)):
                block.theirs.add(body)
            self._act(message, block)

    def _act(self, message: msgspec.Struct, block: AliceBlock) -> None:
        match message:
            case Announced():
                self._announced(message, block)
            case CodeChosen():
                self._say_syndromes(message, block)
            case RowsWanted():
                self._say_rows(message, block)
            case Corrected():
                self._disclose_and_check(message, block)
            case FrameChecksWanted():
                self._check_frames(block)
            case Verified():
                self._verified(message, block)
            case Accepted():
                block.accepted = message.tag
                self._commit(block)
            case _:
                raise ProtocolError("Bob said something of Alice")

    def _take_terms(self, terms: BobTerms, body: bytes) -> None:
        if self.terms is not None:
            raise ProtocolError("Bob said his terms twice")
        if terms.link != self.settings.link:
            self._disagree(f"the other end speaks of the link {terms.link}")
            return
        self._disagreed = 0
        self.terms = LinkTerms(self._side, terms.z_probability)
        self._heard_terms = body
        self._go_on_from(terms.next_block)
        for committed in self._recent:  # the last one may have been lost with the epoch before
            self._post(committed)

    # Sifting

    def _detections(self, message: Detections, body: bytes) -> None:
        if message.first_slot < self._next_slot or message.end_slot < message.first_slot:
            raise ProtocolError("Bob announced slots that do not increase")
        if message.count == 0:
            raise ProtocolError("Bob announced nothing")
        slots = self.kernels.decode_slots(message.slots, message.first_slot, message.count, message.end_slot)
        bob_bases = self.kernels.decode_bits(message.bases, message.count)
        bases, bits, levels = self._source.preparations(slots)
        self._source.release(message.end_slot)
        self._next_slot = message.end_slot
        kept = take_bits(~(bases | bob_bases), 0, message.count)  # those in the key basis, 0, at both ends
        self._sifted += ones_in(kept)
        self._pending.add(body, message.count, bases, bits, levels[0], levels[1], bob_bases, kept)
        if self.terms is None or self._pending.number > self.terms.detections(8 * self.settings.block_bits):
            raise ProtocolError("too many detections wait for a block")
        while self._sifted >= self.settings.block_bits:
            self._fill_block()

    def _fill_block(self) -> None:
        if len(self._blocks) > MAX_OPEN:
            raise ProtocolError("Bob announces and announces, and finishes no block")
        wanted = self.settings.block_bits
        number_of_detections = self._pending.place_of(wanted, _KEPT)
        announcements, columns, _ = self._pending.cut(number_of_detections)
        self._sifted -= wanted
        number, self._next_block = self._next_block, self._next_block + 1
        bases, bits, levels = columns[_BASES], columns[_BITS], np.stack((columns[_LOWER], columns[_UPPER]))
        self._blocks[number] = block = AliceBlock(
            number=number,
            detections=number_of_detections,
            account=LeakAccount(frames_in(wanted)),
            ours=self._transcripts(number, from_alice=True),
            theirs=self._transcripts(number, from_alice=False),
            touched_ns=self._now_ns,
            announced_bytes=sum(map(len, announcements)),
            announcements=announcements,
            bases=bases,
            sifted=self.kernels.sift(bases, columns[_BOB_BASES], bits, number_of_detections, levels),
        )
        self._post(BlockFull(number, number_of_detections), block)

    def _announced(self, message: Announced, block: AliceBlock) -> None:
        if block.pads is not None:
            raise ProtocolError("Bob announced a block twice")
        block.pads = self.stocks.take(message.stock, message.index)
        announced = self._transcripts(block.number, from_alice=False)
        for announcement in block.announcements:
            announced.add(announcement)
        if not announced.agrees(block.pads.announced, ANNOUNCED, message.tag):
            self._forged(block)
        block.announcements = []
        self._say_sifted(block)

    def _say_sifted(self, block: AliceBlock) -> None:
        """Tell Bob bases, intensities and the bits of the test basis."""
        kernels, sifted, bases = self.kernels, block.sifted, block.bases
        for piece in pieces(block.detections, MAX_ENTRIES):
            number = piece.stop - piece.start
            self._say_part(block, SiftedPart.BASES, number, kernels.encode_bits(bases[bytes_of(piece)], number))
        for part, total, levels in (
            (SiftedPart.KEY_INTENSITIES, sifted.num_key, sifted.key_levels),
            (SiftedPart.TEST_INTENSITIES, sifted.num_test, sifted.test_levels),
        ):
            for piece in pieces(total, MAX_ENTRIES // 2):
                number = piece.stop - piece.start
                self._say_part(block, part, number, kernels.encode_levels(levels[:, bytes_of(piece)], number))
        for piece in pieces(sifted.num_test, MAX_ENTRIES):
            data = sifted.test[bytes_of(piece)].tobytes()
            self._say_part(block, SiftedPart.TEST_BITS, piece.stop - piece.start, data)
        block.bases = np.zeros(0, np.uint8)

    def _say_part(self, block: AliceBlock, part: SiftedPart, number: int, data: bytes) -> None:
        self._post(Sifted(block.number, part, number, data), block)

    def _forged(self, block: AliceBlock) -> None:
        self._drop(block, "dropped", FORGED)
        raise ProtocolError(FORGED)

    # Correction

    def _say_syndromes(self, message: CodeChosen, block: AliceBlock) -> None:
        code = self.kernels.code(message.code)
        if code is None or block.code is not None or block.pads is None:
            raise ProtocolError("Bob asks for syndromes that there are not")
        block.code = code
        syndromes = [self.kernels.syndrome(code, frame) for frame in block.frames]
        for frame, syndrome in enumerate(syndromes):
            block.account.disclose(frame, 8 * len(syndrome))
        for piece in pieces(len(syndromes), max(1, MAX_DATA_BYTES // len(syndromes[0]))):
            self._post(Syndromes(block.number, piece.start, b"".join(syndromes[piece])), block)

    def _say_rows(self, message: RowsWanted, block: AliceBlock) -> None:
        if block.code is None or message.step != block.steps + 1 or message.step > self.settings.max_steps:
            raise ProtocolError("Bob asks for rows that there are not")
        block.steps = message.step
        block.account.lists += 1
        _check_frames(message.frames, block.account)
        rows = [self.kernels.rows(block.code, block.frames[frame], message.step) for frame in message.frames]
        for frame, data in zip(message.frames, rows, strict=True):
            block.account.disclose(frame, 8 * len(data))
        for piece in pieces(len(rows), max(1, MAX_DATA_BYTES // len(rows[0]))):
            self._post(Rows(block.number, message.step, b"".join(rows[piece])), block)

    def _disclose_and_check(self, message: Corrected, block: AliceBlock) -> None:
        _check_frames(message.dropped, block.account)
        if block.code is None or block.counts is not None or block.account.checks > 1:
            raise ProtocolError("Bob corrects out of turn")
        block.account.lists += 1
        new = [frame for frame in message.dropped if frame not in block.account.dropped]
        for frame in new:
            block.account.drop(frame)
            self._post(Disclosed(block.number, frame, block.frames[frame].tobytes()), block)
        if not block.account.kept:
            self._drop(block, "dropped", "no frame could be corrected")
            return
        block.account.checks += 1
        key = self._random_bytes(32)
        tag = compute_tag(key, (joined(block.frames, block.account.kept).tobytes(),))
        self._post(Check(block.number, key, tag), block)

    def _check_frames(self, block: AliceBlock) -> None:
        if block.account.frame_checks or block.account.checks != 1:
            raise ProtocolError("Bob asks for checks out of turn")
        block.account.frame_checks = True
        block.account.lists += 1
        key = self._random_bytes(32)
        tags = (compute_tag(key, (block.frames[frame].tobytes(),)) for frame in block.account.kept)
        self._post(FrameChecks(block.number, key, b"".join(tags)), block)

    # The key

    def _verified(self, message: Verified, block: AliceBlock) -> None:
        if block.account.checks == 0 or block.counts is not None or self.terms is None:
            raise ProtocolError("Bob verified out of turn")
        if set(message.dropped) != block.account.dropped:
            raise ProtocolError("Bob and Alice dropped different frames")
        sifted, number = block.sifted, self._number
        key_detections, _ = self.kernels.count(sifted.key, sifted.key, sifted.key_levels, sifted.num_key, number)
        test_detections, _ = self.kernels.count(sifted.test, sifted.test, sifted.test_levels, sifted.num_test, number)
        counts = BlockCounts(key_detections, message.key_errors, test_detections, message.test_errors)
        _check_counts(counts)
        block.counts, block.test_qber = counts, counts.test_qber
        block.account.numbers = len(counts.key_errors)
        block.refill = min(message.refill, _MAX_REFILL)
        if max(counts.key_qber, counts.test_qber) > self.settings.max_qber:
            self._drop(block, "dropped", "the error rate is too high")
            return
        length = self.kernels.key_length(self.terms, counts, block.account.total, self.settings.epsilons)
        bits = min(length.bits, message.bits) // 8 * 8
        if bits <= 8 * (stock_bytes(block.refill) if block.refill else 0):
            self._drop(block, "dropped", length.why_zero or "too few bits for a key")
            return
        self._seal(block, bits)

    def _seal(self, block: AliceBlock, bits: int) -> None:
        """Draw the seed, now that nothing can change the bits any more, and make the key."""
        kept = FRAME_BITS * len(block.account.kept)
        seed = self._random_bytes(self.kernels.seed_bytes(kept, bits))
        for piece in pieces(len(seed), MAX_DATA_BYTES):
            self._post(Seed(block.number, bits, seed[piece]), block)
        if block.pads is None:
            raise ProtocolError("a block is sealed that was not announced")
        self._post(Sealed(block.number, block.ours.tag(block.pads.sealed, SEALED)))
        key, kernels = joined(block.frames, block.account.kept), self.kernels

        def amplified(output: bytes) -> None:
            if block.number in self._blocks:
                block.output = output
                self._commit(block)

        self._later(lambda: kernels.amplify(key, seed, bits), amplified)

    def _commit(self, block: AliceBlock) -> None:
        """Hand the block over once it is made and Bob has said that he holds the same."""
        if block.output is None or not block.accepted:
            return
        if block.pads is None or block.counts is None:
            raise ProtocolError("Bob accepted out of turn")
        if not block.theirs.agrees(block.pads.accepted, ACCEPTED, block.accepted):
            self._forged(block)
        del self._blocks[block.number]
        self._finish(block, block.counts, block.output, block.refill)
        committed = Committed(block.number, block.pads.receipt)
        self._recent.append(committed)
        self._post(committed)


def _check_frames(frames: Sequence[int], account: LeakAccount) -> None:
    if not all(0 <= frame < account.frames for frame in frames) or list(frames) != sorted(set(frames)):
        raise ProtocolError("a list of frames is none")


def _check_counts(counts: BlockCounts) -> None:
    pairs = ((counts.key_errors, counts.key_detections), (counts.test_errors, counts.test_detections))
    for errors, detections in pairs:
        if len(errors) != len(detections) or any(e > n for e, n in zip(errors, detections, strict=True)):
            raise ProtocolError("Bob counted more errors than bits")
