"""Compiled loops of sifting: Rice codes of gaps, range asymmetric numeral systems over bytes, picking and counting.

Kernels of decoders take bytes that anyone may have sent: every read is bounded, every fault is a negative return
value. All bit streams are little-endian and held in 64-bit words; their arrays have one word more than they need.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qedge.qkd.simd.bits import trailing_zeros

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_u8: Final = types.uint8[::1]
_u32: Final = types.uint32[::1]
_u64: Final = types.uint64[::1]
_i64: Final = types.int64
_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64(63)
_SIX: Final = np.uint64(6)
_SCALE_BITS: Final = np.uint64(16)
_SCALE_MASK: Final = np.uint64(0xFFFF)
_HALF_BITS: Final = np.uint64(32)
_HALF_MASK: Final = np.uint64(0xFFFFFFFF)
LOWEST: Final = np.uint64(1 << 31)
"""The state of the coder lies in [2^31, 2^63) between symbols."""


@njit(_i64(_u64), boundscheck=False, nogil=True, cache=True)
def least_gap(slots: Words) -> int:
    """Return the fewest empty slots between two of `slots`, at most 2^62; -1 if they do not rise."""
    least = 1 << 62
    for index in range(1, len(slots)):
        step = slots[index] - slots[index - 1]
        if slots[index] <= slots[index - 1]:
            return -1
        least = min(least, int(step) - 1)
    return least


@njit(types.UniTuple(_i64, 3)(_u64, types.uint64, types.uint64, _i64), boundscheck=False, nogil=True, cache=True)
def sum_quotients(slots: Words, first_slot: int, least: int, parameter: int) -> tuple[int, int, int]:
    """Return the sums of all quotients by 2^k for k = `parameter`, the next and the one after it."""
    expected, shift, one, two, four = np.uint64(first_slot), np.uint64(parameter), 0, 0, 0
    for slot in slots:
        quotient = int((slot - expected) >> shift)
        one += quotient
        two += quotient >> 1
        four += quotient >> 2
        expected = slot + _ONE + np.uint64(least)
    return one, two, four


@njit(types.void(_u64, types.uint64, types.uint64, _i64, _u64, _u64), boundscheck=False, nogil=True, cache=True)
def encode_gaps(slots: Words, first_slot: int, least: int, parameter: int, low: Words, unary: Words) -> None:
    """Write the `parameter` lowest bits of each gap to `low`, the rest as zeros and a one to `unary` (all zero).

    From every gap but the first `least` is taken off.
    """
    expected, shift = np.uint64(first_slot), np.uint64(parameter)
    mask = (_ONE << shift) - _ONE
    word, filled, to, at = np.uint64(0), np.uint64(0), 0, np.uint64(0)
    for slot in slots:
        gap = slot - expected
        expected = slot + _ONE + np.uint64(least)
        rest = gap & mask
        word |= rest << filled
        filled += shift
        if filled > _ALL:
            low[to] = word
            to += 1
            filled -= np.uint64(64)
            word = rest >> (shift - filled)
        at += gap >> shift
        unary[at >> _SIX] |= _ONE << (at & _ALL)
        at += _ONE
    low[to] = word


@njit(
    _i64(_u64, _u64, _i64, types.uint64, types.uint64, types.uint64, _i64, _u64),
    boundscheck=False,
    nogil=True,
    cache=True,
)
def decode_gaps(
    low: Words, unary: Words, unary_words: int, first_slot: int, end_slot: int, least: int, parameter: int, slots: Words
) -> int:
    """Fill `slots`; return the bits of `unary` that were read, -1 where it ends early, -2 for a slot ≥ `end_slot`.

    `end_slot` < 2^63 and `least` < 2^32: no sum overflows.
    """
    expected, end, shift = np.uint64(first_slot), np.uint64(end_slot), np.uint64(parameter)
    mask = (_ONE << shift) - _ONE
    at, place, previous = np.uint64(0), 0, -1
    word = unary[0]
    for index in range(len(slots)):
        while word == 0:
            place += 1
            if place >= unary_words:
                return -1
            word = unary[place]
        position = place * 64 + trailing_zeros(word)
        word &= word - _ONE
        quotient = np.uint64(position - previous - 1)
        previous = position
        offset = at & _ALL
        rest = low[at >> _SIX] >> offset | (low[(at >> _SIX) + _ONE] << (_ALL - offset)) << _ONE
        at += shift
        if expected >= end or quotient > (end - expected) >> shift:
            return -2
        slot = expected + (quotient << shift | rest & mask)
        if slot >= end:
            return -2
        slots[index] = slot
        expected = slot + _ONE + np.uint64(least)
    return previous + 1


@njit(_i64(_u8, _u32, _u32, _u32), boundscheck=False, nogil=True, cache=True)
def encode_bytes(symbols: Bytes, widths: Words, starts: Words, output: Words) -> int:
    """Code `symbols` into the end of `output` (u32, 2 + len(symbols)/2 words and more); return where it begins.

    Symbol s has the interval [starts[s], starts[s] + widths[s]) of 2^16. The first two words are the state, low half
    first. Symbols are coded from the last to the first, so that they are decoded from the first to the last.
    """
    state, to = LOWEST, len(output)
    for index in range(len(symbols) - 1, -1, -1):
        symbol = symbols[index]
        width = np.uint64(widths[symbol])
        if state >= width << np.uint64(47):
            to -= 1
            output[to] = np.uint32(state & _HALF_MASK)
            state >>= _HALF_BITS
        quotient = state // width
        state = (quotient << _SCALE_BITS) + (state - quotient * width) + np.uint64(starts[symbol])
    output[to - 1] = np.uint32(state >> _HALF_BITS)
    output[to - 2] = np.uint32(state & _HALF_MASK)
    return to - 2


@njit(_i64(_u32, _u32, _u32, _u8, _u8), boundscheck=False, nogil=True, cache=True)
def decode_bytes(data: Words, widths: Words, starts: Words, symbol_at: Bytes, symbols: Bytes) -> int:
    """Fill `symbols` from `data` (at least two words); return 0, or -1 where it is not what an encoder writes.

    `symbol_at[v]` is the symbol whose interval holds v.
    """
    state = np.uint64(data[1]) << _HALF_BITS | np.uint64(data[0])
    if state < LOWEST or state >> np.uint64(63):
        return -1
    place = 2
    for index in range(len(symbols)):
        value = state & _SCALE_MASK
        symbol = symbol_at[value]
        symbols[index] = symbol
        state = np.uint64(widths[symbol]) * (state >> _SCALE_BITS) + value - np.uint64(starts[symbol])
        if state < LOWEST:
            if place >= len(data):
                return -1
            state = state << _HALF_BITS | np.uint64(data[place])
            place += 1
    return 0 if state == LOWEST and place == len(data) else -1


@njit(types.UniTuple(_i64, 2)(_u8, _u8, _u8, _u8, _u64, _u64, _u8, _u8), boundscheck=False, nogil=True, cache=True)
def pick(
    here: Bytes,
    there: Bytes,
    bits: Bytes,
    intensities: Bytes,
    key: Words,
    test: Words,
    key_intensities: Bytes,
    test_intensities: Bytes,
) -> tuple[int, int]:
    """Append the bits of detections with equal bases to `key` (basis 0) or `test` (basis 1), zeroed u64.

    Returns how many went to each. The arrays of intensities need room for one entry more.
    """
    num_key, num_test = 0, 0
    for index in range(len(here)):
        basis = here[index] & 1
        same = 1 - (basis ^ (there[index] & 1))
        bit = np.uint64(bits[index] & 1)
        to_test = same & basis
        to_key = same & ~basis
        key[num_key >> 6] |= (bit & np.uint64(to_key)) << np.uint64(num_key & 63)
        test[num_test >> 6] |= (bit & np.uint64(to_test)) << np.uint64(num_test & 63)
        key_intensities[num_key] = intensities[index]
        test_intensities[num_test] = intensities[index]
        num_key += to_key
        num_test += to_test
    return num_key, num_test


@njit(types.void(_u8, _u8, _u8, types.int64[::1]), boundscheck=False, nogil=True, cache=True)
def tally(one: Bytes, other: Bytes, intensities: Bytes, counts: npt.NDArray[np.int64]) -> None:
    """Add to counts[4·e + k] the detections of intensity k where two packed streams agree (e = 0) or differ (e = 1).

    Four sets of counters, of eight each, take turns, so that an addition need not wait for the last.
    """
    for index in range(len(intensities)):
        differ = ((one[index >> 3] ^ other[index >> 3]) >> (index & 7)) & 1
        counts[(index & 3) << 3 | differ << 2 | intensities[index] & 3] += 1
