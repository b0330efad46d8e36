"""Packed bits: bit i is bit i & 7 of byte i >> 3, and what is beyond the last bit is zero."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from qedge.qkd.distillation.model import FRAME_BITS, FRAME_BYTES
from qedge.qkd.distillation.ports import Bytes


def as_frames(packed: Bytes) -> Bytes:
    """Return packed bits, a multiple of the frame, as one row of 16,384 bytes for each frame."""
    return packed.reshape(-1, FRAME_BYTES)


def joined(frames: Bytes, kept: Iterable[int]) -> Bytes:
    """Return the frames that stay, one after the other."""
    return frames[list(kept)].reshape(-1)


def frames_in(bits: int) -> int:
    """Return how many frames so many bits are."""
    return bits // FRAME_BITS


def bytes_of(piece: slice) -> slice:
    """Return the bytes of a piece of bits that begins with a byte."""
    return slice(piece.start // 8, -(-piece.stop // 8))


def take_bits(packed: Bytes, begin: int, end: int) -> Bytes:
    """Return bits `begin` … `end` - 1, packed from bit 0 on, in memory of their own."""
    first, shift, number = begin >> 3, begin & 7, end - begin
    piece = packed[first : (end + 7) >> 3]
    taken = piece >> np.uint8(shift)
    if shift:
        taken[:-1] |= piece[1:] << np.uint8(8 - shift)
    taken = taken[: -(-number // 8)]
    if number % 8:
        taken[-1] &= (1 << number % 8) - 1
    return taken


def join_bits(parts: Sequence[tuple[Bytes, int]]) -> Bytes:
    """Return packed bits, each part with its number, one after the other."""
    total = sum(number for _, number in parts)
    whole, at = np.zeros(total // 8 + 2, np.uint8), 0
    for packed, number in parts:
        first, shift, size = at >> 3, np.uint8(at & 7), -(-number // 8)
        whole[first : first + size] |= packed[:size] << shift
        if shift:
            whole[first + 1 : first + 1 + size] |= packed[:size] >> np.uint8(8 - shift)
        at += number
    return whole[: -(-total // 8)]


def ones_in(packed: Bytes) -> int:
    """Return how many bits are one."""
    return int(np.bitwise_count(packed).sum())


def place_of_one(packed: Bytes, wanted: int) -> int:
    """Return the place of the `wanted`-th bit that is one, counted from 1; there are so many."""
    before = np.cumsum(np.bitwise_count(packed), dtype=np.int64)
    byte = int(np.searchsorted(before, wanted))
    wanted -= int(before[byte - 1]) if byte else 0
    places = [place for place in range(8) if int(packed[byte]) >> place & 1]
    return 8 * byte + places[wanted - 1]
