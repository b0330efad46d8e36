"""What an engine needs from elsewhere: the kernels, and Alice's device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qedge.qkd.distillation.model import BlockCounts, Epsilons, Length, LinkTerms
from qedge.qkd.finite_key.limits import Seen, StatisticsLimits

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
PerIntensity = tuple[tuple[int, ...], tuple[int, ...]]
"""Detections, and errors among them, of each intensity."""


class CodeInfo(Protocol):
    """An error-correcting code; both ends know the same ones by name."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def syndrome_bits(self) -> int:
        """Bits of the syndrome of one frame."""
        ...


@dataclass(frozen=True, slots=True)
class FrameToDecode:
    """One frame of Bob's bits with what Alice said of hers: syndrome, then further rows step by step."""

    bits: Bytes
    syndrome: bytes
    rows: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class SiftedBits:
    """Bits made in equal bases, in the order of detections, how many they are, and the intensity of each.

    All are packed; intensities are u8[2, ⌈number / 8⌉], their lower bits and their upper ones.
    """

    key: Bytes
    num_key: int
    key_levels: Bytes
    test: Bytes
    num_test: int
    test_levels: Bytes


class Kernels(Protocol):
    """The heavy part, one method a stage. Arrays of bits are packed, intensities two of them as in `SiftedBits`.

    Codings raise `ValueError` for whatever they did not make. `decode` and `amplify` may run beside the others.
    """

    def encode_slots(self, slots: Words, first_slot: int) -> bytes:
        """Write increasing slots down."""
        ...

    def decode_slots(self, data: bytes, first_slot: int, count: int, end_slot: int) -> Words:
        """Read `count` increasing slots in [first_slot, end_slot)."""
        ...

    def encode_bits(self, bits: Bytes, count: int) -> bytes:
        """Write bits down, few where they are biased."""
        ...

    def decode_bits(self, data: bytes, count: int) -> Bytes:
        """Read `count` bits."""
        ...

    def encode_levels(self, levels: Bytes, count: int) -> bytes:
        """Write intensities down."""
        ...

    def decode_levels(self, data: bytes, count: int) -> Bytes:
        """Read `count` intensities, which may be any of 0 … 3."""
        ...

    def sift(self, here: Bytes, there: Bytes, bits: Bytes, count: int, levels: Bytes | None) -> SiftedBits:
        """Keep the bits of this end whose basis is that of the other end; without intensities they are all 0."""
        ...

    def count(self, one: Bytes, other: Bytes, levels: Bytes, count: int, number: int) -> PerIntensity:
        """Return detections and errors for each of `number` intensities of two streams of `count` bits.

        Raises `ValueError` for an intensity that there is not.
        """
        ...

    def choose_code(self, qber: float) -> CodeInfo | None:
        """Return the code for an error rate; None where there is none."""
        ...

    def code(self, name: str) -> CodeInfo | None:
        """Return the code of this name."""
        ...

    def syndrome(self, code: CodeInfo, frame: Bytes) -> bytes:
        """Return the syndrome of a packed frame."""
        ...

    def rows(self, code: CodeInfo, frame: Bytes, step: int) -> bytes:
        """Return the further rows number `step` of a packed frame."""
        ...

    def decode(self, code: CodeInfo, frames: Sequence[FrameToDecode], qber: float) -> list[Bytes | None]:
        """Return each frame as Alice has it, packed; None where that was not found."""
        ...

    def amplify(self, key: Bytes, seed: bytes, bits: int) -> bytes:
        """Hash packed bits (a multiple of 64) to `bits` bits (a multiple of 8) by a 2-universal family."""
        ...

    def seed_bytes(self, key_bits: int, bits: int) -> int:
        """Return the size of the seed of such a hash."""
        ...

    def key_length(self, terms: LinkTerms, counts: BlockCounts, leaked_bits: int, epsilons: Epsilons) -> Length:
        """Return how long the key may be."""
        ...

    def alarm(self, terms: LinkTerms, counts: BlockCounts, seen: Seen, limits: StatisticsLimits) -> str:
        """Say what of the counts cannot come of an undisturbed link, its code first; empty where nothing speaks so."""
        ...


class Source(Protocol):
    """Alice's device. Raises `QedgeError` where it does not know the slots."""

    def preparations(self, slots: Words) -> tuple[Bytes, Bytes, Bytes]:
        """Return bases, bits and intensities of these slots, packed as for `Kernels`."""
        ...

    def release(self, before_slot: int) -> None:
        """Forget everything before a slot."""
        ...
