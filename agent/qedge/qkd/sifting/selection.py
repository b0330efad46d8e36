"""What both ends keep of the detections: bits made in equal bases, and how many of which intensity went wrong."""

from __future__ import annotations

import numpy as np

from qedge.qkd.sifting.model import LEVELS, Bytes, Counts, Sifted, checked_count


def sift(here: Bytes, there: Bytes, bits: Bytes, intensities: Bytes | None = None) -> Sifted:
    """Sift a block: bases of this end and of the other, bits and intensities of this end, u8[n] each.

    Both ends get bits in the same order. ValueError for arrays of different lengths.
    """
    from qedge.qkd.sifting.kernels import pick

    count = checked_count(here.size)
    levels = np.zeros(count, np.uint8) if intensities is None else intensities
    if not there.size == bits.size == levels.size == count:
        raise ValueError("bases, bits and intensities of one block have one length")
    key, test = np.zeros(count // 64 + 1, np.uint64), np.zeros(count // 64 + 1, np.uint64)
    key_levels, test_levels = np.empty(count + 1, np.uint8), np.empty(count + 1, np.uint8)
    arrays = [np.ascontiguousarray(each, np.uint8) for each in (here, there, bits, levels)]
    num_key, num_test = pick(*arrays, key, test, key_levels, test_levels)
    return Sifted(
        key.view(np.uint8)[: -(-num_key // 8)],
        num_key,
        key_levels[:num_key],
        test.view(np.uint8)[: -(-num_test // 8)],
        num_test,
        test_levels[:num_test],
    )


def count_errors(one: Bytes, other: Bytes, intensities: Bytes) -> tuple[Counts, Counts]:
    """Return detections and errors by intensity, i64[4] each, of two packed streams of u8[n] intensities' bits.

    ValueError where the streams are too short or an intensity is above 3.
    """
    from qedge.qkd.sifting.kernels import tally

    needed = -(-intensities.size // 8)
    if min(one.size, other.size) < needed or (intensities.size and int(intensities.max()) >= LEVELS):
        raise ValueError("packed bits and intensities of one stream have one length")
    counts = np.zeros(8 * LEVELS, np.int64)
    tally(*(np.ascontiguousarray(each, np.uint8) for each in (one, other, intensities)), counts)
    right, wrong = counts.reshape(4, 2, LEVELS).sum(axis=0)
    return right + wrong, wrong


def warm() -> None:
    """Compile the kernels of sifting or load them from the cache: a matter of seconds the first time."""
    nothing = np.zeros(0, np.uint8)
    sift(nothing, nothing, nothing)
