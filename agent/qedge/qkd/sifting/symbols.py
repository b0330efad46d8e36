"""Biased bits and symbols near their entropy: range asymmetric numeral systems (Duda, arXiv 1311.2540) over bytes.

    u8            0: packed as they are; 1: coded
    u16 · (a-1)   coded only: shares of all symbols but the first, in 1/65536; a = 2 for bits, 4 for symbols
    u32 …         coded only: the states of four coders, low halves first, then the words that they take in

A byte holds eight bits, or four symbols as their four lower bits and then their four upper ones, and its probability is
the product of theirs: one step of a coder serves eight bits. Byte i is that of coder i mod 4: four coders at once are
three times as fast as one, which has to wait for itself. Intervals of bytes follow from the shares in integers alone,
the same at both ends. Everything little-endian. The coders end in the state that they began with, which betrays nearly
every damage.

Bits are packed at both sides; symbols are two arrays of packed bits, the lower bits and the upper ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from qedge.qkd.sifting.model import LEVELS, PLANES, Bytes, Slots, as_words, checked_count, packed_bytes

Widths = npt.NDArray[np.uint32]
SCALE: Final = 1 << 16
"""The sum of all widths, and of all shares."""
_PACKED: Final = 0
_CODED: Final = 1


def shares_of(counts: list[int]) -> list[int]:
    """Return shares of `SCALE` in proportion to counts, none zero; the most frequent symbol takes what is left over."""
    total = sum(counts)
    shares = [max(1, (2 * SCALE * count + total) // (2 * total)) for count in counts]
    shares[counts.index(max(counts))] += SCALE - sum(shares)
    return shares


def _intervals(shares: list[int]) -> tuple[Widths, Widths]:
    """Return the widths and starts of the intervals of 256 bytes, u32."""
    from qedge.qkd.sifting.kernels import fill_widths

    widths, starts = np.empty(256, np.uint32), np.empty(256, np.uint32)
    fill_widths(np.array(shares, np.uint64), widths, starts)
    return widths, starts


def _encode(packed: Bytes, counts: list[int]) -> bytes:
    from qedge.qkd.sifting.kernels import LANES, encode_bytes

    if not packed.size:
        return b""
    shares = shares_of(counts)
    widths, starts = _intervals(shares)
    output = np.empty(packed.size // 2 + 4 * LANES + 64, np.uint32)  # no byte costs more than 16 bits
    begins = int(encode_bytes(packed, widths, starts, output))
    head = bytes([_CODED]) + np.array(shares[1:], "<u2").tobytes()
    plain = bytes([_PACKED]) + packed.tobytes()
    coded = head + output[begins:].astype("<u4", copy=False).tobytes()
    return min(coded, plain, key=len)


def _decode(data: bytes, length: int, alphabet: int) -> Bytes:
    from qedge.qkd.sifting.kernels import LANES, decode_bytes, fill_symbols

    if length == 0 and not data:
        return np.zeros(0, np.uint8)
    if length == 0 or not data or data[0] not in (_PACKED, _CODED):
        raise ValueError("symbols of an unknown form")
    if data[0] == _PACKED:
        if len(data) != 1 + length:
            raise ValueError(f"{len(data) - 1} bytes of packed symbols, not {length}")
        return np.frombuffer(data, np.uint8, length, 1).copy()
    first = 1 + 2 * (alphabet - 1)
    if len(data) < first + 8 * LANES or (len(data) - first) % 4:
        raise ValueError("coded symbols of an impossible length")
    others = np.frombuffer(data, "<u2", alphabet - 1, 1).tolist()
    shares = [SCALE - sum(others), *others]
    if min(shares) <= 0:
        raise ValueError("shares of symbols that are no shares")
    widths, starts = _intervals(shares)
    words = np.frombuffer(data, "<u4", -1, first).astype(np.uint32)
    symbol_at = np.empty(SCALE, np.uint8)
    fill_symbols(widths, starts, symbol_at)
    packed = np.empty(length, np.uint8)
    if decode_bytes(words, widths, starts, symbol_at, packed) < 0:
        raise ValueError("coded symbols that no encoder writes")
    return packed


def encode_bits(bits: Bytes, count: int) -> bytes:
    """Encode `count` packed bits, u8[⌈count / 8⌉], in about count·h(share of ones) bits, at most a byte more."""
    words = as_words(bits, checked_count(count))
    ones = int(np.bitwise_count(words).sum())
    return _encode(words.view(np.uint8)[: packed_bytes(count)], [count - ones, ones])


def decode_bits(data: bytes, count: int) -> Bytes:
    """Return `count` packed bits; ValueError for bytes that no encoder writes."""
    packed = _decode(data, packed_bytes(checked_count(count)), 2)
    if count % 8 and packed[-1] >> count % 8:
        raise ValueError("bits beyond the last")
    return packed


def as_planes(levels: Bytes, count: int) -> Slots:
    """Return rows of `count` packed bits as rows of words, see `as_words`."""
    if not len(levels):
        return np.zeros((0, count // 64 + 2), np.uint64)
    return np.stack([as_words(row, count) for row in levels])


def counted(planes: Slots) -> list[int]:
    """Return how many entries have the values 1, 2 and 3 in two rows of words."""
    low, high = planes
    return [int(np.bitwise_count(each).sum()) for each in (low & ~high, high & ~low, low & high)]


def encode_symbols(levels: Bytes, count: int) -> bytes:
    """Encode `count` values 0 … 3 near their entropy, at most count / 4 + 2 bytes; `levels` as in `Sifted`."""
    from qedge.qkd.sifting.kernels import mix

    planes = as_planes(levels, checked_count(count))
    others = counted(planes)
    symbols = np.empty(-(-count // 4), np.uint8)
    mix(planes, symbols)
    return _encode(symbols, [count - sum(others), *others])


def decode_symbols(data: bytes, count: int) -> Bytes:
    """Return `count` values 0 … 3 as `encode_symbols` takes them; ValueError for bytes that no encoder writes."""
    from qedge.qkd.sifting.kernels import part

    symbols = _decode(data, -(-checked_count(count) // 4), LEVELS)
    if count % 4 and (symbols[-1] | symbols[-1] >> 4) & 15 & (15 << count % 4):
        raise ValueError("symbols beyond the last")
    planes = np.zeros((PLANES, count // 64 + 2), np.uint64)
    part(symbols, planes)
    return planes.view(np.uint8)[:, : packed_bytes(count)]
