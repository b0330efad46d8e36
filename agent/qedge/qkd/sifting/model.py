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


@dataclass(frozen=True, slots=True)
class Sifted:
    """What one end keeps of a block, in the order of detections: packed bits, and the intensity of each.

    `key` and `test` are u8, ⌈number / 8⌉ bytes, unused bits zero; `key_intensities` and `test_intensities` u8, one
    per bit, all zero at the end that does not know them yet.
    """

    key: Bytes
    num_key: int
    key_intensities: Bytes
    test: Bytes
    num_test: int
    test_intensities: Bytes


def checked_count(count: int) -> int:
    """Return a number of entries; ValueError for one that no message may have."""
    if not 0 <= count <= MAX_COUNT:
        raise ValueError(f"{count} entries; a message has at most {MAX_COUNT}")
    return count
