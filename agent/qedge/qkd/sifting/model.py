"""Names and limits of sifting.

Bits are little-endian: bit i of a packed array is bit i & 7 of byte i >> 3. Basis 0 makes key, basis 1 tests; intensity
0 is the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Slots = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

MAX_COUNT: Final = 1 << 24
"""Entries of one message at most; a decoder refuses more before it asks for memory."""
MAX_PARAMETER: Final = 40
"""Of a Rice code, in bits."""
LEVELS: Final = 4
"""Intensities at most."""
PLANES: Final = 2
"""Bits of an intensity."""


@dataclass(frozen=True, slots=True)
class Sifted:
    """What one end keeps of a block, in the order of detections; all arrays are packed, their unused bits zero.

    `key` and `test` are the bits, u8[⌈number / 8⌉]. `key_levels` and `test_levels` are the intensities, one array for
    each of their bits (u8[PLANES, ⌈number / 8⌉], the lower bit first), of zeros at the end that does not know them yet.
    """

    key: Bytes
    num_key: int
    key_levels: Bytes
    test: Bytes
    num_test: int
    test_levels: Bytes


def packed_bytes(count: int) -> int:
    """Return how many bytes so many packed bits take."""
    return -(-count // 8)


def as_words(packed_bits: Bytes, count: int) -> Slots:
    """Return `count` packed bits as words of 64 in memory of their own, with zeros after the last and one word more."""
    words = np.zeros(count // 64 + 2, np.uint64)
    words.view(np.uint8)[: packed_bytes(count)] = packed_bits[: packed_bytes(count)]
    if count % 64:
        words[count // 64] &= np.uint64((1 << count % 64) - 1)
    return words


def checked_count(count: int) -> int:
    """Return a number of entries; ValueError for one that no message may have."""
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"{count} entries; a message has at most {MAX_COUNT}")
    return count


def packed(data: bytes, count: int) -> Bytes:
    """Return the bytes of `count` packed bits as u8[⌈count / 8⌉]; ValueError for another length or padding."""
    if len(data) != -(-checked_count(count) // 8) or (count % 8 and data[-1] >> count % 8):
        raise ValueError(f"{len(data)} bytes are not {count} packed bits")
    return np.frombuffer(data, np.uint8).copy()
