"""Frames of packed bits."""

from __future__ import annotations

from collections.abc import Iterable

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
