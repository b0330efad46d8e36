"""The raw state of a link: sifting and the error rate with its uncertainty. Pure.

Nothing here is secret key: error rates are taken from bits that both ends then throw away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

THRESHOLD: Final = 0.11
"""Above 11.0 % no key can be distilled from BB84 by one-way processing (Shor and Preskill 2000)."""

CLEAR: Final = "clear"
SUSPECT: Final = "eavesdropper suspected"
UNSURE: Final = "too few bits to tell"
DARK: Final = "no light"


@dataclass(frozen=True, slots=True)
class RawCount:
    """`sifted` detections in which both ends used the same basis, and how many of them disagree."""

    sifted: int = 0
    errors: int = 0
    detections: int = 0
    slots: int = 0

    def __add__(self, other: RawCount) -> RawCount:
        return RawCount(
            self.sifted + other.sifted,
            self.errors + other.errors,
            self.detections + other.detections,
            self.slots + other.slots,
        )

    @property
    def qber(self) -> float:
        """Raw error rate, −1 where nothing was sifted."""
        return self.errors / self.sifted if self.sifted else -1.0

    @property
    def gain(self) -> float:
        """Detections per clock slot."""
        return self.detections / self.slots if self.slots else 0.0


def count(alice_bases: bytes, alice_bits: bytes, bob_bases: bytes, bob_bits: bytes, slots: int) -> RawCount:
    """Sift one block (u8 arrays of one length, values 0 and 1) by XOR of whole arrays, without a loop over bits."""
    number = len(bob_bits)
    if not len(alice_bases) == len(alice_bits) == len(bob_bases) == number:
        raise ValueError("the arrays of both ends have to be of one length")
    if number == 0:
        return RawCount(0, 0, 0, slots)
    other_basis = int.from_bytes(alice_bases, "little") ^ int.from_bytes(bob_bases, "little")
    other_bit = int.from_bytes(alice_bits, "little") ^ int.from_bytes(bob_bits, "little")
    sifted = number - other_basis.bit_count()
    errors = (other_bit & ~other_basis & ((1 << 8 * number) - 1)).bit_count()
    return RawCount(sifted, errors, number, slots)


def interval(found: RawCount, sigmas: float = 5.0) -> tuple[float, float]:
    """Return the Wilson score interval of the error rate (Wilson 1927), 0 … 1 where nothing was sifted."""
    n = found.sifted
    if n == 0:
        return 0.0, 1.0
    p, z2 = found.errors / n, sigmas * sigmas
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = sigmas * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def verdict(found: RawCount) -> str:
    """Judge a window: certain at five sigma, or not at all."""
    if found.detections == 0:
        return DARK
    low, high = interval(found)
    if low > THRESHOLD:
        return SUSPECT
    return CLEAR if high < THRESHOLD else UNSURE
