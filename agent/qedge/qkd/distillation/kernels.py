"""The kernels of the rooms beside this one, as the engines want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from qedge.qkd.amplification.toeplitz import hash_key_short, short_seed_words
from qedge.qkd.amplification.toeplitz import warm as warm_amplification
from qedge.qkd.distillation.model import BlockCounts, Epsilons, Length, LinkTerms
from qedge.qkd.distillation.ports import Bytes, CodeInfo, FrameToDecode, PerIntensity, SiftedBits, Words
from qedge.qkd.distillation.stopwatch import Stopwatch
from qedge.qkd.finite_key.length import key_length
from qedge.qkd.finite_key.limits import Seen, StatisticsLimits, check_statistics
from qedge.qkd.finite_key.model import BasisCounts, Counts, DecoyProtocol, EpsilonBudget
from qedge.qkd.reconciliation.codes import CODES, choose_code
from qedge.qkd.reconciliation.model import Code
from qedge.qkd.reconciliation.reconciler import Reconciler
from qedge.qkd.reconciliation.reconciler import warm as warm_reconciliation
from qedge.qkd.sifting.gaps import decode_gaps, encode_gaps
from qedge.qkd.sifting.selection import count_errors, sift
from qedge.qkd.sifting.selection import warm as warm_sifting
from qedge.qkd.sifting.symbols import decode_bits, decode_symbols, encode_bits, encode_symbols

_BY_NAME = {code.name: code for code in CODES}


class RoomKernels:
    """Implements `Kernels`. `decode` and `amplify` may run in a thread beside one that calls the others.

    Making one loads all compiled code, or compiles it: some seconds where nothing is cached.
    """

    def __init__(self) -> None:
        warm_amplification()
        warm_reconciliation()
        warm_sifting()
        slots = np.array([1, 5], np.uint64)
        decode_gaps(encode_gaps(slots, 0), 0, 2, 6)
        bits, levels = np.zeros(32, np.uint8), np.zeros((2, 32), np.uint8)
        decode_bits(encode_bits(bits, 256), 256)
        decode_symbols(encode_symbols(levels, 256), 256)
        count_errors(bits, bits, levels, 256)
        self.stopwatch = Stopwatch()
        self._here = Reconciler()
        self._beside = Reconciler()

    def encode_slots(self, slots: Words, first_slot: int) -> bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("coding"):
            return encode_gaps(slots, first_slot)

    def decode_slots(self, data: bytes, first_slot: int, count: int, end_slot: int) -> Words:
        """See `Kernels`."""
        with self.stopwatch.stage("coding"):
            return decode_gaps(data, first_slot, count, end_slot)

    def encode_bits(self, bits: Bytes, count: int) -> bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("coding"):
            return encode_bits(bits, count)

    def decode_bits(self, data: bytes, count: int) -> Bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("coding"):
            return decode_bits(data, count)

    def encode_levels(self, levels: Bytes, count: int) -> bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("coding"):
            return encode_symbols(levels, count)

    def decode_levels(self, data: bytes, count: int) -> Bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("coding"):
            return decode_symbols(data, count)

    def sift(self, here: Bytes, there: Bytes, bits: Bytes, count: int, levels: Bytes | None) -> SiftedBits:
        """See `Kernels`."""
        with self.stopwatch.stage("sifting"):
            made = sift(here, there, bits, count, levels)
            return SiftedBits(made.key, made.num_key, made.key_levels, made.test, made.num_test, made.test_levels)

    def count(self, one: Bytes, other: Bytes, levels: Bytes, count: int, number: int) -> PerIntensity:
        """See `Kernels`."""
        with self.stopwatch.stage("sifting"):
            detections, errors = count_errors(one, other, levels, count)
            if detections[number:].any():
                raise ValueError("an intensity that there is not")
            return tuple(map(int, detections[:number])), tuple(map(int, errors[:number]))

    def choose_code(self, qber: float) -> CodeInfo | None:
        """See `Kernels`."""
        return choose_code(qber)

    def code(self, name: str) -> CodeInfo | None:
        """See `Kernels`."""
        return _BY_NAME.get(name)

    def syndrome(self, code: CodeInfo, frame: Bytes) -> bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("syndromes"):
            return self._here.syndrome(cast("Code", code), frame).tobytes()

    def rows(self, code: CodeInfo, frame: Bytes, step: int) -> bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("syndromes"):
            return self._here.extra_syndrome(cast("Code", code), frame, step).tobytes()

    def decode(self, code: CodeInfo, frames: Sequence[FrameToDecode], qber: float) -> list[Bytes | None]:
        """See `Kernels`."""
        with self.stopwatch.stage("decoding"):
            return [self._decode(cast("Code", code), frame, qber) for frame in frames]

    def _decode(self, code: Code, frame: FrameToDecode, qber: float) -> Bytes | None:
        own = self._beside.syndrome(code, frame.bits)
        difference = own ^ np.frombuffer(frame.syndrome, np.uint8)
        rows = [
            self._beside.extra_syndrome(code, frame.bits, step) ^ np.frombuffer(said, np.uint8)
            for step, said in enumerate(frame.rows, 1)
        ]
        error = self._beside.decode(code, difference, qber, rows).error
        return None if error is None else frame.bits ^ error

    def amplify(self, key: Bytes, seed: bytes, bits: int) -> bytes:
        """See `Kernels`."""
        with self.stopwatch.stage("amplification"):
            words = np.ascontiguousarray(key).view("<u8").astype(np.uint64, copy=False)
            hashed = hash_key_short(words, np.frombuffer(seed, "<u8").astype(np.uint64, copy=False), bits)
            return hashed.astype("<u8").tobytes()[: bits // 8]

    def seed_bytes(self, key_bits: int, bits: int) -> int:
        """See `Kernels`."""
        return 8 * short_seed_words(key_bits // 64, bits)

    def key_length(self, terms: LinkTerms, counts: BlockCounts, leaked_bits: int, epsilons: Epsilons) -> Length:
        """See `Kernels`; raises `ValueError` for a protocol that the proofs do not cover."""
        with self.stopwatch.stage("bounds"):
            budget = EpsilonBudget(epsilons.secrecy, epsilons.correctness, epsilons.authentication)
            length = key_length(_protocol(terms), _counts(counts), leaked_bits, budget)
            return Length(length.bits, str(length.why_zero))

    def alarm(self, terms: LinkTerms, counts: BlockCounts, seen: Seen, limits: StatisticsLimits) -> str:
        """See `Kernels`; raises `ValueError` as `key_length` does."""
        with self.stopwatch.stage("bounds"):
            reason = check_statistics(_protocol(terms), _counts(counts), limits, seen)
            return "" if reason is None else f"{reason.code}: {reason.sentence}"


def _protocol(terms: LinkTerms) -> DecoyProtocol:
    alice = terms.alice
    return DecoyProtocol(
        alice.mean_photon_numbers, alice.intensity_probabilities, alice.z_probability, terms.bob_z_probability
    )


def _counts(counts: BlockCounts) -> Counts:
    return Counts(
        BasisCounts(counts.key_detections, counts.key_errors), BasisCounts(counts.test_detections, counts.test_errors)
    )
