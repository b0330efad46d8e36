"""HMAC_DRBG with SHA-512 (NIST SP 800-90A §10.1.2)."""

from __future__ import annotations

import hmac
from typing import Final

_OUT_BYTES: Final = 64
MAX_REQUEST_BYTES: Final = 65_536
"""§10.1, table 2: 2^19 bits a request."""


class HmacDrbg:
    """A deterministic generator; instantiate it with at least 48 bytes of fresh entropy."""

    def __init__(self, entropy: bytes, nonce: bytes = b"", personalization: bytes = b"") -> None:
        self._key = bytes(_OUT_BYTES)
        self._value = b"\x01" * _OUT_BYTES
        self._update(entropy + nonce + personalization)

    def reseed(self, entropy: bytes, additional: bytes = b"") -> None:
        """Mix new entropy in (§10.1.2.4)."""
        self._update(entropy + additional)

    def generate(self, number: int, additional: bytes = b"") -> bytes:
        """Return `number` ≤ 65,536 bytes (§10.1.2.5)."""
        if not 0 <= number <= MAX_REQUEST_BYTES:
            raise ValueError("a request is at most 65,536 bytes")
        if additional:
            self._update(additional)
        blocks = []
        for _ in range(-(-number // _OUT_BYTES)):
            self._value = hmac.digest(self._key, self._value, "sha512")
            blocks.append(self._value)
        self._update(additional)
        return b"".join(blocks)[:number]

    def _update(self, provided: bytes) -> None:
        self._key = hmac.digest(self._key, self._value + b"\x00" + provided, "sha512")
        self._value = hmac.digest(self._key, self._value, "sha512")
        if provided:
            self._key = hmac.digest(self._key, self._value + b"\x01" + provided, "sha512")
            self._value = hmac.digest(self._key, self._value, "sha512")
