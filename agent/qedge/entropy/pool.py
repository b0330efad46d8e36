"""The pool, after the RBG3(XOR) construction of SP 800-90C: output = conditioned quantum blocks XOR a DRBG.

The DRBG is seeded by the operating system and stirred by it at every draw, so the output is as strong as the operating
system's even where the quantum source lies; and as strong as the quantum source where the operating system does.
Long draws, such as the seed of a hash that makes key of a block, are an AES-256 counter stream under a key and counter
that the DRBG makes for this draw alone: as strong, and many times as fast.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from qedge.entropy.conditioning import OUTPUT_BYTES
from qedge.entropy.drbg import MAX_REQUEST_BYTES, HmacDrbg

OsRandom = Callable[[int], bytes]
_SEED_BYTES: Final = 64
_STIR_BYTES: Final = 32
_LONG_BYTES: Final = 1024
_KEY_BYTES: Final = 32
_COUNTER_BYTES: Final = 16


class RandomPool:
    """Holds conditioned quantum blocks until each is used once."""

    def __init__(self, os_random: OsRandom, personalization: bytes, capacity_bytes: int) -> None:
        self._os_random = os_random
        self._personalization = personalization
        self._blocks: deque[bytes] = deque(maxlen=max(1, capacity_bytes // OUTPUT_BYTES))
        self._drbg = self._new_drbg()

    @property
    def quantum_bytes(self) -> int:
        """Conditioned bytes that stand ready."""
        return len(self._blocks) * OUTPUT_BYTES

    @property
    def is_full(self) -> bool:
        """Whether more blocks would push out others."""
        return len(self._blocks) == self._blocks.maxlen

    @property
    def is_low(self) -> bool:
        """Whether so much was drawn that a refill is worth its cost."""
        return 4 * len(self._blocks) < 3 * (self._blocks.maxlen or 0)

    def add(self, block: bytes) -> None:
        """Take one conditioned block of 64 bytes."""
        if not self.is_full:
            self._blocks.append(block)

    def reseed(self, block: bytes) -> None:
        """Stir a conditioned block into the DRBG; it is not given out afterwards."""
        self._drbg.reseed(self._os_random(_SEED_BYTES), block)

    def purge(self) -> None:
        """Forget all quantum blocks: their source is no longer trusted."""
        self._blocks.clear()

    def restart(self) -> None:
        """Begin anew after a fork, so that parent and child never give the same bytes."""
        self._blocks.clear()
        self._drbg = self._new_drbg()

    def draw(self, number: int) -> tuple[bytes, bool]:
        """Return `number` bytes and whether quantum blocks cover all of them."""
        quantum = number > 0 and number <= self.quantum_bytes
        base = self._generate(number)
        if not quantum:
            return base, False
        mask = b"".join(self._blocks.popleft() for _ in range(-(-number // OUTPUT_BYTES)))[:number]
        mixed = int.from_bytes(base, "big") ^ int.from_bytes(mask, "big")
        return mixed.to_bytes(number, "big"), True

    def _generate(self, number: int) -> bytes:
        parts = []
        while number > 0:
            part = min(number, MAX_REQUEST_BYTES)
            if part < _LONG_BYTES:
                parts.append(self._drbg.generate(part, self._os_random(_STIR_BYTES)))
            else:
                parts.append(self._stretched(part))
            number -= part
        return b"".join(parts)

    def _stretched(self, number: int) -> bytes:
        seed = self._drbg.generate(_KEY_BYTES + _COUNTER_BYTES, self._os_random(_STIR_BYTES))
        cipher = Cipher(algorithms.AES(seed[:_KEY_BYTES]), modes.CTR(seed[_KEY_BYTES:]))
        return cipher.encryptor().update(bytes(number))

    def _new_drbg(self) -> HmacDrbg:
        return HmacDrbg(self._os_random(_SEED_BYTES), self._os_random(_STIR_BYTES), self._personalization)
