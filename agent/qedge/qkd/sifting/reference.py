"""What the kernels of sifting do, once more in plain numpy and Python: the same bytes, slowly. Tests compare."""

from __future__ import annotations

from typing import Final

import numpy as np

from qedge.qkd.sifting.gaps import HEAD, PROBED, first_guess
from qedge.qkd.sifting.model import LEVELS, Bytes, Counts, Sifted, Slots
from qedge.qkd.sifting.symbols import SCALE, Widths, shares_of

_LOWEST: Final = 1 << 31
_LANES: Final = 4


def _packed(bits: Bytes) -> Bytes:
    return np.packbits(bits, bitorder="little")


def encode_gaps(slots: Slots, first_slot: int) -> bytes:
    """Do as `gaps.encode_gaps` for sound slots."""
    if slots.size == 0:
        return b""
    gaps = slots.astype(np.int64) - 1
    gaps[1:] -= slots[:-1].astype(np.int64)
    gaps[0] += 1 - first_slot
    least = min(int(gaps[1:].min()), (1 << 32) - 1) if slots.size > 1 else 0
    gaps[1:] -= least
    guess = first_guess(slots, first_slot, least)
    probe = gaps[:PROBED]
    parameter = min(range(guess, guess + 3), key=lambda k: (k * probe.size + int((probe >> k).sum()), k))
    low = (gaps[:, None] >> np.arange(parameter)) & 1
    ends = np.cumsum((gaps >> parameter) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, np.uint8)
    unary[ends] = 1
    head = bytes([parameter]) + least.to_bytes(4, "little")
    return head + _packed(low.ravel().astype(np.uint8)).tobytes() + _packed(unary).tobytes()


def decode_gaps(data: bytes, first_slot: int, count: int) -> Slots:
    """Do as `gaps.decode_gaps` for sound bytes."""
    if count == 0:
        return np.zeros(0, np.uint64)
    parameter, least = data[0], int.from_bytes(data[1:HEAD], "little")
    low_bytes = -(-parameter * count // 8)
    bits = np.unpackbits(np.frombuffer(data, np.uint8, -1, HEAD), bitorder="little").astype(np.int64)
    low = (bits[: parameter * count].reshape(count, parameter) << np.arange(parameter)).sum(axis=1)
    rest = np.diff(np.flatnonzero(bits[8 * low_bytes :]), prepend=-1) - 1
    steps = (rest << parameter | low) + 1 + least
    return (first_slot - 1 - least + np.cumsum(steps)).astype(np.uint64)


def byte_widths(shares: list[int]) -> Widths:
    """Do as `kernels.fill_widths`: return u32[256]."""
    share = np.array(shares, np.uint64)
    weight, byte = np.full(256, 1 << 32, np.uint64), np.arange(256)
    for place in range(8 if len(shares) == 2 else 4):
        symbol = byte >> place & 1 if len(shares) == 2 else byte >> place & 1 | (byte >> place >> 4 & 1) << 1
        weight = (weight * share[symbol]) >> np.uint64(16)
    widths = 1 + ((weight * np.uint64(SCALE - 256)) >> np.uint64(32)).astype(np.int64)
    widths[np.argmax(widths)] += SCALE - widths.sum()
    return widths.astype(np.uint32)


def _starts(widths: Widths) -> Widths:
    return (np.cumsum(widths) - widths).astype(np.uint32)


def _encode(packed: Bytes, counts: list[int]) -> bytes:
    if not packed.size:
        return b""
    shares = shares_of(counts)
    widths = [int(width) for width in byte_widths(shares)]
    starts = [sum(widths[:byte]) for byte in range(256)]
    states, words = [_LOWEST] * _LANES, list[int]()
    for index, byte in reversed(list(enumerate(packed.tolist()))):
        state = states[index % _LANES]
        if state >= widths[byte] << 47:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        states[index % _LANES] = state // widths[byte] * SCALE + state % widths[byte] + starts[byte]
    head = b"\1" + b"".join(share.to_bytes(2, "little") for share in shares[1:])
    coded = head + b"".join(state.to_bytes(8, "little") for state in states)
    coded += b"".join(word.to_bytes(4, "little") for word in reversed(words))
    return min(coded, b"\0" + packed.tobytes(), key=len)


def _decode(data: bytes, length: int, alphabet: int) -> Bytes:
    if length == 0 or data[0] == 0:
        return np.frombuffer(data, np.uint8, length, 1) if length else np.zeros(0, np.uint8)
    others = [int.from_bytes(data[1 + 2 * each : 3 + 2 * each], "little") for each in range(alphabet - 1)]
    widths = [int(width) for width in byte_widths([SCALE - sum(others), *others])]
    starts = [sum(widths[:byte]) for byte in range(256)]
    byte_at = np.repeat(np.arange(256), widths).tolist()
    rest = data[1 + 2 * len(others) :]
    states = [int.from_bytes(rest[8 * lane : 8 * lane + 8], "little") for lane in range(_LANES)]
    rest, found = rest[8 * _LANES :], bytearray()
    for index in range(length):
        state = states[index % _LANES]
        byte = byte_at[state % SCALE]
        found.append(byte)
        state = widths[byte] * (state // SCALE) + state % SCALE - starts[byte]
        if state < _LOWEST:
            state, rest = state << 32 | int.from_bytes(rest[:4], "little"), rest[4:]
        states[index % _LANES] = state
    return np.frombuffer(bytes(found), np.uint8)


def plain(packed: Bytes, count: int) -> Bytes:
    """Return packed bits as a byte each."""
    return np.unpackbits(packed, count=count, bitorder="little")


def levels_of(planes: Bytes, count: int) -> Bytes:
    """Return intensities as a byte each."""
    return plain(planes[0], count) | plain(planes[1], count) << np.uint8(1)


def planes_of(levels: Bytes) -> Bytes:
    """Undo `levels_of`."""
    return np.stack([_packed(levels & np.uint8(1)), _packed(levels >> np.uint8(1))])


def encode_bits(bits: Bytes, count: int) -> bytes:
    """Do as `symbols.encode_bits`."""
    ones = int(plain(bits, count).sum())
    return _encode(bits, [count - ones, ones])


def decode_bits(data: bytes, count: int) -> Bytes:
    """Do as `symbols.decode_bits` for sound bytes."""
    return _decode(data, -(-count // 8), 2)


def encode_symbols(planes: Bytes, count: int) -> bytes:
    """Do as `symbols.encode_symbols`."""
    symbols = np.zeros(-(-count // 4) * 4, np.uint8)
    symbols[:count] = levels_of(planes, count)
    fours = symbols.reshape(-1, 4)
    bits = np.concatenate([fours & 1, fours >> 1], axis=1).astype(np.uint8)
    return _encode(_packed(bits.ravel()), [int((symbols[:count] == each).sum()) for each in range(LEVELS)])


def decode_symbols(data: bytes, count: int) -> Bytes:
    """Do as `symbols.decode_symbols` for sound bytes."""
    bits = np.unpackbits(_decode(data, -(-count // 4), LEVELS), bitorder="little").reshape(-1, 2, 4)
    return planes_of((bits[:, 0] | bits[:, 1] << 1).ravel()[:count].astype(np.uint8))


def sift(here: Bytes, there: Bytes, bits: Bytes, count: int, levels: Bytes) -> Sifted:
    """Do as `selection.sift`."""
    one, other, values, intensities = *(plain(each, count) for each in (here, there, bits)), levels_of(levels, count)
    key, test = ((one == other) & (one == basis) for basis in (0, 1))
    return Sifted(
        _packed(values[key]),
        int(key.sum()),
        planes_of(intensities[key]),
        _packed(values[test]),
        int(test.sum()),
        planes_of(intensities[test]),
    )


def count_errors(one: Bytes, other: Bytes, levels: Bytes, count: int) -> tuple[Counts, Counts]:
    """Do as `selection.count_errors`."""
    wrong, intensities = plain(one ^ other, count).astype(bool), levels_of(levels, count)
    return np.bincount(intensities, minlength=LEVELS), np.bincount(intensities[wrong], minlength=LEVELS)
