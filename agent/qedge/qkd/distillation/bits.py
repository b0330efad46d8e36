"""Bits of a block: packed for kernels, counted by intensity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np

from qedge.qkd.distillation.model import FRAME_BITS, FRAME_BYTES
from qedge.qkd.distillation.ports import Bytes


def pack_frames(bits: Bytes) -> Bytes:
    """Pack bits, a multiple of the frame, into one row of 16,384 bytes for each frame; little-endian bits."""
    return np.packbits(bits, bitorder="little").reshape(-1, FRAME_BYTES)


def unpack(packed: Bytes) -> Bytes:
    """Return one byte for each bit of packed bytes."""
    return np.unpackbits(packed.reshape(-1), bitorder="little")


def joined(frames: Bytes, kept: Iterable[int]) -> Bytes:
    """Return the frames that stay, one after the other."""
    return frames[list(kept)].reshape(-1)


def count_by(intensities: Bytes, number: int) -> tuple[int, ...]:
    """Count how often each of `number` intensities stands there."""
    return tuple(cast("list[int]", np.bincount(intensities, minlength=number).tolist()))


def frames_in(bits: int) -> int:
    """Return how many frames so many bits are."""
    return bits // FRAME_BITS
