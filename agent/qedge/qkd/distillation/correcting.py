"""Bob's bits become Alice's: sifting what she answered, decoding, further rows, what is given up, checks, counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from qedge.qkd.authentication.tags import TAG_BYTES, compute_tag
from qedge.qkd.distillation.bits import as_frames, join_bits, joined
from qedge.qkd.distillation.engine import Engine, OpenBlock
from qedge.qkd.distillation.model import (
    FRAME_BITS,
    FRAME_BYTES,
    BlockCounts,
    ProtocolError,
)
from qedge.qkd.distillation.ports import Bytes, CodeInfo, FrameToDecode, SiftedBits
from qedge.qkd.finite_key.limits import Seen
from qedge.qkd.raw import interval
from qedge.wire.qkd import (
    Check,
    CodeChosen,
    Corrected,
    Disclosed,
    FrameChecks,
    FrameChecksWanted,
    Rows,
    RowsWanted,
    Sifted,
    SiftedPart,
    Syndromes,
)

_MARGIN: Final = 0.0004
"""Error rate that a code is chosen above the one expected. At 0.5 % frames then seldom need further rows, which decodes
2.7 times as fast for 0.3 % of the block; at higher rates it hardly changes the choice."""


def _none() -> Bytes:
    return np.zeros(0, np.uint8)


@dataclass(slots=True, eq=False)
class BobBlock(OpenBlock):
    """Bob's side of a block. `frames` are his packed key bits, `found` Alice's, as far as they are known."""

    bases: Bytes = field(default_factory=_none)
    bits: Bytes = field(default_factory=_none)
    parts: dict[SiftedPart, list[tuple[Bytes, int]]] = field(default_factory=dict)
    got: dict[SiftedPart, int] = field(default_factory=dict)
    sifted: SiftedBits | None = None
    frames: Bytes = field(default_factory=lambda: np.zeros((0, FRAME_BYTES), np.uint8))
    key_levels: Bytes = field(default_factory=_none)
    test_detections: tuple[int, ...] = ()
    test_errors: tuple[int, ...] = ()
    code: CodeInfo | None = None
    expected_qber: float = 0.0
    syndromes: list[bytes] = field(default_factory=list)
    rows: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    found: list[Bytes | None] = field(default_factory=list)
    wanted: tuple[int, ...] = ()
    row_data: bytearray = field(default_factory=bytearray)
    step: int = 0
    undisclosed: set[int] = field(default_factory=set)
    counts: BlockCounts | None = None
    most_bits: int = 0
    key_bits: int = 0
    refill: int = 0
    seen: Seen = field(default_factory=Seen)
    seed: bytearray = field(default_factory=bytearray, repr=False)

    def there(self) -> SiftedBits:
        """Return the bits that are kept; they are known once Alice's bases are."""
        if self.sifted is None:
            raise ProtocolError("Alice's bases are not known yet")
        return self.sifted

    def part(self, part: SiftedPart) -> Bytes:
        """Return all entries of a part of single bits."""
        return join_bits(self.parts.get(part, []))

    def levels(self, part: SiftedPart) -> Bytes:
        """Return all entries of a part of intensities."""
        pieces = self.parts.get(part, [])
        return np.stack([join_bits([(levels[plane], number) for levels, number in pieces]) for plane in range(2)])

    def wanted_entries(self) -> tuple[SiftedPart, int] | None:
        """Return the part that is not complete yet, and how many entries it lacks; None: nothing is missing."""
        if self.sifted is None:
            return SiftedPart.BASES, self.detections - self.got.get(SiftedPart.BASES, 0)
        tests = self.sifted.num_test
        for part, number in (
            (SiftedPart.KEY_INTENSITIES, self.sifted.num_key),
            (SiftedPart.TEST_INTENSITIES, tests),
            (SiftedPart.TEST_BITS, tests),
        ):
            if (got := self.got.get(part, 0)) < number:
                return part, number - got
        return None

    @property
    def test_total(self) -> int:
        """Return how many bits the test basis gave."""
        return sum(self.test_detections)

    @property
    def test_errors_total(self) -> int:
        """Return how many of them differ."""
        return sum(self.test_errors)

    def corrected_key(self) -> Bytes:
        """Return Alice's frames that were not dropped, one after the other."""
        kept = [frame for frame in self.account.kept if self.found[frame] is not None]
        return joined(np.stack([_there(self.found[frame]) for frame in kept]), range(len(kept)))


class Correcting(Engine[BobBlock]):
    """The part of Bob's engine between a full block and counted errors."""

    _block_bits = 0
    _qber = -1.0
    """Error rate of the key basis of the last block that was counted; −1 before the first."""

    def _corrected_and_checked(self, block: BobBlock) -> None:
        raise NotImplementedError

    # Sifting

    def _take_sifted(self, message: Sifted, block: BobBlock) -> bool:
        """Take a piece of Alice's answer; says whether it was the last one."""
        if self.terms is None or block.frames.size:
            raise ProtocolError("Alice answers twice")
        number = len(self.terms.alice.mean_photon_numbers)
        wanted = block.wanted_entries()
        if wanted is None or message.part is not wanted[0] or not 0 < message.count <= wanted[1]:
            raise ProtocolError("Alice answers out of turn")
        if message.part is SiftedPart.TEST_BITS:
            entries = np.frombuffer(message.data, np.uint8)
            if len(entries) != -(-message.count // 8) or (message.count < wanted[1] and message.count % 8):
                raise ProtocolError("Alice gives test bits of a wrong length")
        elif message.part is SiftedPart.BASES:
            entries = self.kernels.decode_bits(message.data, message.count)
        else:
            entries = self.kernels.decode_levels(message.data, message.count)
        block.parts.setdefault(message.part, []).append((entries, message.count))
        block.got[message.part] = block.got.get(message.part, 0) + message.count
        if message.part is SiftedPart.BASES and message.count == wanted[1]:
            alice = block.part(SiftedPart.BASES)
            block.sifted = self.kernels.sift(block.bases, alice, block.bits, block.detections, None)
            if block.sifted.num_key != block.account.frames * FRAME_BITS:
                raise ProtocolError("Alice's answer does not fill the block")
        if block.wanted_entries() is not None:
            return False
        self._sift(block, number)
        return True

    def _sift(self, block: BobBlock, number: int) -> None:
        sifted = block.there()
        block.frames = as_frames(sifted.key)
        block.key_levels = block.levels(SiftedPart.KEY_INTENSITIES)
        levels, alice = block.levels(SiftedPart.TEST_INTENSITIES), block.part(SiftedPart.TEST_BITS)
        found = self.kernels.count(sifted.test, alice, levels, sifted.num_test, number)
        block.test_detections, block.test_errors = found
        block.test_qber = block.test_errors_total / max(1, block.test_total)
        block.bases = block.bits = _none()
        block.parts = {}

    # Correction

    def _choose_code(self, block: BobBlock) -> bool:
        """Ask for syndromes by the code for the error rate to be expected; False where there is none.

        That of the last block is the better guess, unless the test basis of this one says that it has changed.
        """
        low, high = interval(block.test_errors_total, block.test_total)
        expected = self._qber if self._qber >= 0 and self._qber >= low else min(block.test_qber + (high - low) / 8, 0.5)
        code = self.kernels.choose_code(expected + _MARGIN)
        if code is None:
            return False
        block.code, block.expected_qber = code, expected
        block.found = [None] * block.account.frames
        self._post(CodeChosen(block.number, code.name), block)
        return True

    def _take_syndromes(self, message: Syndromes, block: BobBlock) -> None:
        if block.code is None or message.first != len(block.syndromes) or block.step:
            raise ProtocolError("Alice gives syndromes out of turn")
        size = -(-block.code.syndrome_bits // 8)
        if len(message.data) % size or len(message.data) // size + message.first > block.account.frames:
            raise ProtocolError("Alice gives syndromes of a wrong length")
        for place in range(0, len(message.data), size):
            block.account.disclose(len(block.syndromes), 8 * size)
            block.syndromes.append(message.data[place : place + size])
        if len(block.syndromes) == block.account.frames:
            self._decode(block, tuple(range(block.account.frames)))

    def _decode(self, block: BobBlock, frames: tuple[int, ...]) -> None:
        if block.code is None:
            raise ProtocolError("a block is decoded without a code")
        code, qber, kernels = block.code, block.expected_qber, self.kernels
        tasks = [
            FrameToDecode(block.frames[frame], block.syndromes[frame], block.rows.get(frame, ())) for frame in frames
        ]

        def decoded(results: list[Bytes | None]) -> None:
            if block.number in self._blocks:
                for frame, result in zip(frames, results, strict=True):
                    block.found[frame] = result
                self._after_decoding(block)

        self._later(lambda: kernels.decode(code, tasks, qber), decoded)

    def _after_decoding(self, block: BobBlock) -> None:
        block.touched_ns = self._now_ns
        failed = tuple(frame for frame, found in enumerate(block.found) if found is None)
        if failed and block.step < self.settings.max_steps:
            block.step += 1
            block.wanted, block.row_data = failed, bytearray()
            block.account.lists += 1
            self._post(RowsWanted(block.number, block.step, failed), block)
        elif 2 * len(failed) > block.account.frames:
            self._qber = -1.0  # what was expected was wrong: believe the test basis next time
            self._drop(block, "dropped", "most frames could not be corrected")
        else:
            self._give_up(block, failed)

    def _take_rows(self, message: Rows, block: BobBlock) -> None:
        if not block.wanted or message.step != block.step:
            raise ProtocolError("Alice gives rows out of turn")
        block.row_data += message.data
        size = self._rows_bytes(block)
        if len(block.row_data) < size * len(block.wanted):
            return
        if len(block.row_data) != size * len(block.wanted):
            raise ProtocolError("Alice gives rows of a wrong length")
        wanted, block.wanted = block.wanted, ()
        for place, frame in enumerate(wanted):
            rows = bytes(block.row_data[place * size : (place + 1) * size])
            block.account.disclose(frame, 8 * size)
            block.rows[frame] = (*block.rows.get(frame, ()), rows)
        self._decode(block, wanted)

    def _rows_bytes(self, block: BobBlock) -> int:
        if block.code is None:
            raise ProtocolError("rows come without a code")
        return len(self.kernels.rows(block.code, block.frames[block.wanted[0]], block.step))

    def _give_up(self, block: BobBlock, failed: tuple[int, ...]) -> None:
        """Tell Alice which frames she may disclose; then she checks the others."""
        block.undisclosed = set(failed)
        for frame in failed:
            block.account.drop(frame)
            block.found[frame] = None
        block.account.lists += 1
        self._post(Corrected(block.number, tuple(sorted(block.account.dropped))), block)

    def _take_disclosed(self, message: Disclosed, block: BobBlock) -> None:
        if message.frame not in block.undisclosed or len(message.bits) != FRAME_BYTES:
            raise ProtocolError("Alice discloses a frame out of turn")
        block.undisclosed.remove(message.frame)
        block.found[message.frame] = np.frombuffer(message.bits, np.uint8)

    # Checks

    def _take_check(self, message: Check, block: BobBlock) -> None:
        if block.undisclosed or block.counts is not None or any(found is None for found in block.found):
            raise ProtocolError("Alice checks out of turn")
        if block.account.checks > block.account.frame_checks:
            raise ProtocolError("Alice checks twice")
        block.account.checks += 1
        if compute_tag(message.key, (block.corrected_key().tobytes(),)) == message.tag:
            self._corrected_and_checked(block)
        elif block.account.frame_checks:
            self._drop(block, "dropped", "the bits differ")
        else:
            block.account.lists += 1
            self._post(FrameChecksWanted(block.number), block)

    def _take_frame_checks(self, message: FrameChecks, block: BobBlock) -> None:
        kept = block.account.kept
        if block.account.checks != 1 or block.account.frame_checks or len(message.tags) != TAG_BYTES * len(kept):
            raise ProtocolError("Alice checks frames out of turn")
        block.account.frame_checks = True
        wrong = tuple(
            frame
            for place, frame in enumerate(kept)
            if compute_tag(message.key, (_there(block.found[frame]).tobytes(),))
            != message.tags[place * TAG_BYTES : (place + 1) * TAG_BYTES]
        )
        self._give_up(block, wrong)

    def _count(self, block: BobBlock) -> BlockCounts:
        """Count errors exactly: every bit of Alice's is known now, whether corrected or disclosed."""
        alice = np.concatenate([_there(found) for found in block.found])
        bob, number = block.frames.reshape(-1), len(block.test_detections)
        detections, errors = self.kernels.count(alice, bob, block.key_levels, 8 * len(bob), number)
        counts = BlockCounts(detections, errors, block.test_detections, block.test_errors)
        self._qber = counts.key_qber
        return counts


def _there(found: Bytes | None) -> Bytes:
    if found is None:
        raise ProtocolError("a frame is not known yet")
    return found
