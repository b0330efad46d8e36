"""Vetted conditioning (SP 800-90B §3.1.5.1): SHA-512 over enough raw samples for full-entropy output."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Final

OUTPUT_BYTES: Final = 64
EXTRA_BITS: Final = 64
"""Full entropy wants this many bits of min-entropy beyond the output's length (SP 800-90C §3.3)."""


def input_bytes(bits_per_sample: int, min_entropy: float) -> int:
    """Return how many raw bytes go into one output block of 64 bytes."""
    return math.ceil((8 * OUTPUT_BYTES + EXTRA_BITS) * bits_per_sample / (8 * min_entropy))


def condition(raw: bytes, block_bytes: int) -> Iterator[bytes]:
    """Yield one 64-byte block for each whole `block_bytes` of raw samples; what is left over is not used."""
    for start in range(0, len(raw) - block_bytes + 1, block_bytes):
        yield hashlib.sha512(raw[start : start + block_bytes]).digest()
