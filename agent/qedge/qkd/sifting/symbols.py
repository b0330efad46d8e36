"""Biased bits and symbols near their entropy: range asymmetric numeral systems (Duda, arXiv 1311.2540) over bytes.

    u8            0: packed as they are; 1: coded
    u16 · (a-1)   coded only: shares of all symbols but the first, in 1/65536; a = 2 for bits, 4 for symbols
    u32 …         coded only: the state of the coder, low half first, then the words it takes in

A byte holds eight bits or four symbols, and its probability is the product of theirs: one step of the coder serves
eight bits. Intervals of bytes follow from the shares in integers alone, the same at both ends. Everything
little-endian. The coder ends in the state that it began with, which betrays nearly every damage.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from qedge.qkd.sifting.model import LEVELS, Bytes, checked_count

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


def byte_widths(shares: list[int]) -> Widths:
    """Return the widths of 256 bytes, u32, sum `SCALE`, none zero: the product of the shares of a byte's symbols."""
    per_byte, bits = (8, 1) if len(shares) == 2 else (4, 2)
    share = np.array(shares, np.uint64)
    weight, byte = np.full(256, 1 << 32, np.uint64), np.arange(256)
    for place in range(per_byte):
        weight = (weight * share[(byte >> (bits * place)) & (len(shares) - 1)]) >> np.uint64(16)
    widths = 1 + ((weight * np.uint64(SCALE - 256)) >> np.uint64(32)).astype(np.int64)
    widths[np.argmax(widths)] += SCALE - widths.sum()
    return widths.astype(np.uint32)


def _starts(widths: Widths) -> Widths:
    return (np.cumsum(widths) - widths).astype(np.uint32)


def _encode(packed: Bytes, counts: list[int]) -> bytes:
    from qedge.qkd.sifting.kernels import encode_bytes

    if not packed.size:
        return b""
    shares = shares_of(counts)
    widths = byte_widths(shares)
    output = np.empty(packed.size // 2 + 64, np.uint32)  # no byte costs more than 16 bits
    begins = int(encode_bytes(packed, widths, _starts(widths), output))
    head = bytes([_CODED]) + np.array(shares[1:], "<u2").tobytes()
    plain = bytes([_PACKED]) + packed.tobytes()
    coded = head + output[begins:].astype("<u4").tobytes()
    return min(coded, plain, key=len)


def _decode(data: bytes, length: int, alphabet: int) -> Bytes:
    from qedge.qkd.sifting.kernels import decode_bytes

    if length == 0 and not data:
        return np.zeros(0, np.uint8)
    if length == 0 or not data or data[0] not in (_PACKED, _CODED):
        raise ValueError("symbols of an unknown form")
    if data[0] == _PACKED:
        if len(data) != 1 + length:
            raise ValueError(f"{len(data) - 1} bytes of packed symbols, not {length}")
        return np.frombuffer(data, np.uint8, length, 1).copy()
    first = 1 + 2 * (alphabet - 1)
    if len(data) < first + 8 or (len(data) - first) % 4:
        raise ValueError("coded symbols of an impossible length")
    others = np.frombuffer(data, "<u2", alphabet - 1, 1).tolist()
    shares = [SCALE - sum(others), *others]
    if min(shares) <= 0:
        raise ValueError("shares of symbols that are no shares")
    widths = byte_widths(shares)
    words = np.frombuffer(data, "<u4", -1, first).astype(np.uint32)
    symbol_at = np.repeat(np.arange(256, dtype=np.uint8), widths)
    packed = np.empty(length, np.uint8)
    if decode_bytes(words, widths, _starts(widths), symbol_at, packed) < 0:
        raise ValueError("coded symbols that no encoder writes")
    return packed


def encode_bits(bits: Bytes) -> bytes:
    """Encode u8[n] of zeros and ones in about n·h(share of ones) bits and at most n / 8 + 2 bytes."""
    count = checked_count(bits.size)
    ones = int(np.count_nonzero(bits))
    return _encode(np.packbits(bits, bitorder="little"), [count - ones, ones])


def decode_bits(data: bytes, count: int) -> Bytes:
    """Return u8[count] of zeros and ones; ValueError for bytes that no encoder writes."""
    packed = _decode(data, -(-checked_count(count) // 8), 2)
    if count % 8 and packed[-1] >> count % 8:
        raise ValueError("bits beyond the last")
    return np.unpackbits(packed, count=count, bitorder="little")


def encode_symbols(symbols: Bytes) -> bytes:
    """Encode u8[n] of values 0 … 3 near their entropy, at most n / 4 + 2 bytes; ValueError for other values."""
    count = checked_count(symbols.size)
    counts = [int(np.count_nonzero(symbols == each)) for each in range(LEVELS)]
    if sum(counts) != count:
        raise ValueError(f"symbols are at most {LEVELS - 1}")
    padded = np.zeros(-(-count // 4) * 4, np.uint8)
    padded[:count] = symbols
    quarters = padded.view("<u4")  # four symbols, a byte each
    quarters = quarters | quarters >> 6 | quarters >> 12 | quarters >> 18
    return _encode(quarters.astype(np.uint8), counts)


def decode_symbols(data: bytes, count: int) -> Bytes:
    """Return u8[count] of values 0 … 3; ValueError for bytes that no encoder writes."""
    packed = _decode(data, -(-checked_count(count) // 4), LEVELS)
    if count % 4 and packed[-1] >> 2 * (count % 4):
        raise ValueError("symbols beyond the last")
    quarters = packed.astype("<u4")
    quarters = (quarters | quarters << 6 | quarters << 12 | quarters << 18) & 0x03030303
    spread: Bytes = quarters.view(np.uint8)
    return spread[:count]
