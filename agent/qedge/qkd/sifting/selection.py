"""What both ends keep of the detections: bits made in equal bases, and how many of which intensity went wrong."""

from __future__ import annotations

import numpy as np

from qedge.qkd.sifting.model import LEVELS, PLANES, Bytes, Counts, Sifted, as_words, checked_count, packed_bytes
from qedge.qkd.sifting.symbols import as_planes


def sift(here: Bytes, there: Bytes, bits: Bytes, count: int, levels: Bytes | None = None) -> Sifted:
    """Sift a block of `count` detections: bases of this end and of the other, bits and intensities of this end.

    All packed, intensities as in `Sifted`. Both ends get bits in the same order. ValueError for arrays that are too
    short.
    """
    from qedge.qkd.sifting.kernels import pick

    planes = np.zeros((0, packed_bytes(checked_count(count))), np.uint8) if levels is None else levels
    if not here.size == there.size == bits.size == planes.shape[1] == packed_bytes(count):
        raise ValueError("bases, bits and intensities of one block have one length")
    room = count // 64 + 2
    key, test = np.zeros(room, np.uint64), np.zeros(room, np.uint64)
    key_levels, test_levels = np.zeros((PLANES, room), np.uint64), np.zeros((PLANES, room), np.uint64)
    arrays = [as_words(each, count) for each in (here, there, bits)]
    num_key, num_test = pick(*arrays, as_planes(planes, count), count, key, test, key_levels, test_levels)
    key_bytes, test_bytes = packed_bytes(num_key), packed_bytes(num_test)
    return Sifted(
        key.view(np.uint8)[:key_bytes],
        num_key,
        key_levels.view(np.uint8)[:, :key_bytes],
        test.view(np.uint8)[:test_bytes],
        num_test,
        test_levels.view(np.uint8)[:, :test_bytes],
    )


def count_errors(one: Bytes, other: Bytes, levels: Bytes, count: int) -> tuple[Counts, Counts]:
    """Return detections and errors by intensity, i64[4] each, of two packed streams and their `count` intensities.

    ValueError where they are too short.
    """
    from qedge.qkd.sifting.kernels import tally

    if min(one.size, other.size, levels.shape[1]) < packed_bytes(checked_count(count)):
        raise ValueError("packed bits and intensities of one stream have one length")
    counts = np.zeros(2 * LEVELS, np.int64)
    tally(as_words(one, count), as_words(other, count), as_planes(levels, count), count, counts)
    right, wrong = counts.reshape(2, LEVELS)
    return right + wrong, wrong


def warm() -> None:
    """Compile the kernels of sifting or load them from the cache: a matter of seconds the first time."""
    nothing = np.zeros(0, np.uint8)
    sift(nothing, nothing, nothing, 0)
