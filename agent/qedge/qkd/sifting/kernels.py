"""Compiled loops of sifting: Rice codes of gaps, range asymmetric numeral systems over bytes, picking and counting.

Kernels of decoders take bytes that anyone may have sent: every read is bounded, every fault is a negative return
value. All bit streams are little-endian and held in 64-bit words; their arrays have one word more than they need.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from qedge.qkd.simd.bits import count_ones, extract, trailing_zeros

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_u8: Final = types.uint8[::1]
_u32: Final = types.uint32[::1]
_u64: Final = types.uint64[::1]
_said: Final = types.Array(types.uint64, 1, "C", readonly=True)
"""Slots as a device gave them, which need not be copied to be read."""
_planes: Final = types.uint64[:, ::1]
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
LANES: Final = 4
"""Coders that take turns, so that each step need not wait for the last one."""


@njit(_i64(_said), boundscheck=False, nogil=True, cache=True)
def least_gap(slots: Words) -> int:
    """Return the fewest empty slots between two of `slots`, at most 2^62; -1 if they do not rise."""
    least, falls = np.uint64((1 << 62) + 1), False
    for index in range(np.uint64(1), np.uint64(len(slots))):
        before, slot = slots[index - _ONE], slots[index]
        falls |= slot <= before
        least = min(least, slot - before)
    return -1 if falls else int(least) - 1


@njit(types.UniTuple(_i64, 3)(_said, types.uint64, types.uint64, _i64), boundscheck=False, nogil=True, cache=True)
def sum_quotients(slots: Words, first_slot: int, least: int, parameter: int) -> tuple[int, int, int]:
    """Return the sums of all quotients by 2^k for k = `parameter`, the next and the one after it."""
    shift, off = np.uint64(parameter), np.uint64(least) + _ONE
    one = (slots[0] - np.uint64(first_slot)) >> shift
    two, four = one >> np.uint64(1), one >> np.uint64(2)
    for index in range(np.uint64(1), np.uint64(len(slots))):
        quotient = (slots[index] - slots[index - _ONE] - off) >> shift
        one += quotient
        two += quotient >> np.uint64(1)
        four += quotient >> np.uint64(2)
    return int(one), int(two), int(four)


@njit(_i64(_said, types.uint64, types.uint64, _i64, _u64, _u64), boundscheck=False, nogil=True, cache=True)
def encode_gaps(slots: Words, first_slot: int, least: int, parameter: int, low: Words, unary: Words) -> int:
    """Write the `parameter` lowest bits of each gap to `low`, the rest as zeros and a one to `unary` (all zero).

    From every gap but the first `least` is taken off. Returns how many bits of `unary` that took.
    """
    expected, shift, off = np.uint64(first_slot), np.uint64(parameter), np.uint64(least) + _ONE
    mask = (_ONE << shift) - _ONE
    word, filled, to = np.uint64(0), np.uint64(0), np.uint64(0)
    ones, at, place = np.uint64(0), np.uint64(0), np.uint64(0)
    for slot in slots:
        gap = slot - expected
        expected = slot + off
        rest = gap & mask
        word |= rest << filled
        filled += shift
        if filled > _ALL:
            low[to] = word
            to += _ONE
            filled -= np.uint64(64)
            word = rest >> (shift - filled)
        at += gap >> shift
        if at >> _SIX != place:
            unary[place] = ones
            place, ones = at >> _SIX, np.uint64(0)
        ones |= _ONE << (at & _ALL)
        at += _ONE
    unary[place] = ones
    low[to] = word
    return int(at)


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
    expected, end, shift, off = (
        np.uint64(first_slot),
        np.uint64(end_slot),
        np.uint64(parameter),
        np.uint64(least) + _ONE,
    )
    mask, wanted = (_ONE << shift) - _ONE, np.uint64(len(slots))
    at, index, next_bit = np.uint64(0), np.uint64(0), np.uint64(0)
    for place in range(np.uint64(unary_words)):
        word, base = unary[place], place << _SIX
        while word != np.uint64(0):
            if index == wanted:
                return int(next_bit)
            position = base + np.uint64(trailing_zeros(word))
            word &= word - _ONE
            quotient = position - next_bit
            next_bit = position + _ONE
            offset = at & _ALL
            rest = low[at >> _SIX] >> offset | (low[(at >> _SIX) + _ONE] << (_ALL - offset)) << _ONE
            at += shift
            if expected >= end or quotient > (end - expected) >> shift:
                return -2
            slot = expected + (quotient << shift | rest & mask)
            if slot >= end:
                return -2
            slots[index] = slot
            index += _ONE
            expected = slot + off
    return int(next_bit) if index == wanted else -1


@njit(inline="always")
def _mix(low: Words, high: Words, index: int) -> int:
    """Return four intensities as a byte: their lower bits, then their upper ones."""
    word, shift = index >> np.uint64(4), (index & np.uint64(15)) << np.uint64(2)
    return (low[word] >> shift & np.uint64(15)) | (high[word] >> shift & np.uint64(15)) << np.uint64(4)


@njit(types.void(_planes, _u8), boundscheck=False, nogil=True, cache=True)
def mix(planes: Words, symbols: Bytes) -> None:
    """Write four entries of two planes to each of `symbols`."""
    for index in range(np.uint64(len(symbols))):
        symbols[index] = np.uint8(_mix(planes[0], planes[1], index))


@njit(types.void(_u8, _planes), boundscheck=False, nogil=True, cache=True)
def part(symbols: Bytes, planes: Words) -> None:
    """Undo `mix`; the planes are zeroed."""
    for index in range(np.uint64(len(symbols))):
        word, shift = index >> np.uint64(4), (index & np.uint64(15)) << np.uint64(2)
        symbol = np.uint64(symbols[index])
        planes[0, word] |= (symbol & np.uint64(15)) << shift
        planes[1, word] |= (symbol >> np.uint64(4)) << shift


@njit(types.void(_u64, _u32, _u32), boundscheck=False, nogil=True, cache=True)
def fill_widths(shares: Words, widths: Words, starts: Words) -> None:
    """Write the widths of 256 bytes, sum 2^16, none zero, and where their intervals start.

    A byte's width is the product of the shares (of 2^16) of its eight bits or four symbols.
    """
    total, widest = 0, 0
    for byte in range(256):
        weight = np.uint64(1 << 32)
        for place in range(8 if len(shares) == 2 else 4):
            symbol = byte >> place & 1
            if len(shares) == 4:
                symbol |= (byte >> place + 4 & 1) << 1
            weight = (weight * shares[symbol]) >> _SCALE_BITS
        widths[byte] = np.uint32(1 + ((weight * np.uint64((1 << 16) - 256)) >> _HALF_BITS))
        total += widths[byte]
        if widths[byte] > widths[widest]:
            widest = byte
    widths[widest] += np.uint32((1 << 16) - total)
    start = 0
    for byte in range(256):
        starts[byte] = np.uint32(start)
        start += widths[byte]


@njit(types.void(_u32, _u32, _u8), boundscheck=False, nogil=True, cache=True)
def fill_symbols(widths: Words, starts: Words, symbol_at: Bytes) -> None:
    """Write for each of 2^16 places the byte in whose interval it lies."""
    for byte in range(256):
        symbol_at[starts[byte] : starts[byte] + widths[byte]] = byte


@njit(_i64(_u8, _u32, _u32, _u32), boundscheck=False, nogil=True, cache=True)
def encode_bytes(symbols: Bytes, widths: Words, starts: Words, output: Words) -> int:
    """Code `symbols` into the end of `output` (u32, 2·LANES + len(symbols)/2 words and more); return where it begins.

    Symbol s has the interval [starts[s], starts[s] + widths[s]) of 2^16. The first words are the states of all lanes,
    each low half first; symbol i belongs to lane i mod LANES. Symbols are coded from the last to the first, so that
    they are decoded from the first to the last.
    """
    states = np.full(LANES, LOWEST)
    to = len(output)
    for index in range(len(symbols) - 1, -1, -1):
        symbol = symbols[index]
        width, state = np.uint64(widths[symbol]), states[index & (LANES - 1)]
        full = state >= width << np.uint64(47)
        output[to - 1] = np.uint32(state & _HALF_MASK)
        to -= 1 if full else 0
        state = state >> _HALF_BITS if full else state
        quotient = state // width
        states[index & (LANES - 1)] = (quotient << _SCALE_BITS) + (state - quotient * width) + np.uint64(starts[symbol])
    for lane in range(LANES - 1, -1, -1):
        output[to - 1] = np.uint32(states[lane] >> _HALF_BITS)
        output[to - 2] = np.uint32(states[lane] & _HALF_MASK)
        to -= 2
    return to


@njit(_i64(_u32, _u32, _u32, _u8, _u8), boundscheck=False, nogil=True, cache=True)
def decode_bytes(data: Words, widths: Words, starts: Words, symbol_at: Bytes, symbols: Bytes) -> int:
    """Fill `symbols` from `data` (2·LANES words and more); return 0, or -1 where it is not what an encoder writes.

    `symbol_at[v]` is the symbol whose interval holds v.
    """
    states = np.empty(LANES, np.uint64)
    for lane in range(LANES):
        states[lane] = np.uint64(data[2 * lane + 1]) << _HALF_BITS | np.uint64(data[2 * lane])
        if states[lane] < LOWEST or states[lane] >> np.uint64(63):
            return -1
    place, last = 2 * LANES, len(data) - 1
    for index in range(len(symbols)):
        state = states[index & (LANES - 1)]
        value = state & _SCALE_MASK
        symbol = symbol_at[value]
        symbols[index] = symbol
        state = np.uint64(widths[symbol]) * (state >> _SCALE_BITS) + value - np.uint64(starts[symbol])
        empty = state < LOWEST
        state = state << _HALF_BITS | np.uint64(data[min(place, last)]) if empty else state
        place += 1 if empty else 0
        states[index & (LANES - 1)] = state
    for lane in range(LANES):
        if states[lane] != LOWEST:
            return -1
    return 0 if place == len(data) else -1


@njit(inline="always")
def _append(to: Words, number: int, bits: int) -> None:
    place, within = number >> _SIX, number & _ALL
    to[place] |= bits << within
    to[place + _ONE] |= (bits >> np.uint64(1)) >> (_ALL - within)


@njit(
    types.UniTuple(_i64, 2)(_u64, _u64, _u64, _planes, _i64, _u64, _u64, _planes, _planes),
    boundscheck=False,
    nogil=True,
    cache=True,
)
def pick(
    here: Words,
    there: Words,
    bits: Words,
    levels: Words,
    count: int,
    key: Words,
    test: Words,
    key_levels: Words,
    test_levels: Words,
) -> tuple[int, int]:
    """Append the bits of detections with equal bases to `key` (basis 0) or `test` (basis 1), all zero at first.

    Returns how many went to each. `levels` are the intensities by their bits, or have no rows.
    """
    num_key, num_test = np.uint64(0), np.uint64(0)
    planes = np.uint64(levels.shape[0])
    for word in range(np.uint64((count + 63) >> 6)):
        to_key, to_test = ~(here[word] | there[word]), here[word] & there[word]
        left = np.uint64(count) - (word << _SIX)
        if left < np.uint64(64):
            to_key &= (_ONE << left) - _ONE
        _append(key, num_key, extract(bits[word], to_key))
        _append(test, num_test, extract(bits[word], to_test))
        for plane in range(planes):
            _append(key_levels[plane], num_key, extract(levels[plane, word], to_key))
            _append(test_levels[plane], num_test, extract(levels[plane, word], to_test))
        num_key += np.uint64(count_ones(to_key))
        num_test += np.uint64(count_ones(to_test))
    return int(num_key), int(num_test)


@njit(types.void(_u64, _u64, _planes, _i64, types.int64[::1]), boundscheck=False, nogil=True, cache=True)
def tally(one: Words, other: Words, levels: Words, count: int, counts: npt.NDArray[np.int64]) -> None:
    """Add to counts[4·e + k] the detections of intensity k where two packed streams agree (e = 0) or differ (e = 1)."""
    for word in range((count + 63) >> 6):
        left = count - 64 * word
        there = ~np.uint64(0) if left >= 64 else (_ONE << np.uint64(left)) - _ONE
        low, high, differ = levels[0, word], levels[1, word], one[word] ^ other[word]
        for level in range(4):
            chosen = there & (low if level & 1 else ~low) & (high if level & 2 else ~high)
            counts[level] += count_ones(chosen & ~differ)
            counts[4 + level] += count_ones(chosen & differ)
