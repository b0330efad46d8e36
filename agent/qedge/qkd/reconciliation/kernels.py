"""Compiled kernels of reconciliation: syndromes, and two layered decoders of the error pattern.

Terms of all kernels: a code has rows and columns of circulants of size Z ("lifting", a power of two, at least 64).
Circulant e of row r joins check (r, z) to bit (columns[e], (z + shifts[e]) mod Z); those of row r are
starts[r] … starts[r + 1] - 1. At most one circulant joins a row to a column.

Bits are words of 64, little-endian. Posteriors of a column take Z + 64 places: the last 64 repeat the first, so that
64 consecutive checks of a row always meet 64 consecutive places. One call works on one frame, 64 checks at a time.

The rule of check nodes is A-min* (Jones et al., "Approximate-MIN* constraint node updating for LDPC code decoding",
2003) in whole numbers: x ⊞ y = min(x, y) + g(x + y) - g(|x - y|) with g from a table of 16 entries, the last
of which is zero; it is never negative, since g falls by half a unit at most. `reference.py` does the same arithmetic on plain arrays.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qedge.qkd.reconciliation.check_node import PACE
from qedge.qkd.simd import lanes

Words = NDArray[np.uint64]
Table = NDArray[np.int32]
Bytes = NDArray[np.int8]
Shorts = NDArray[np.int16]


@njit(inline="always")
def box(first, second, table, last):  # type: ignore[no-untyped-def]
    """Combine two magnitudes by the rule above; `last` is 15 in all lanes."""
    least = lanes.minimum(first, second)
    most = lanes.maximum(first, second)
    total = lanes.minimum(lanes.add(first, second), last)
    apart = lanes.minimum(lanes.subtract(most, least), last)
    return lanes.subtract(lanes.add(least, lanes.look_up(table, total)), lanes.look_up(table, apart))


@njit(inline="always")
def parities(bits, lifting, columns, shifts, begin, end, block):  # type: ignore[no-untyped-def]
    """Return parities of 64 checks, from 64 x block on, of the row with circulants begin … end - 1."""
    blocks = lifting // 64
    word = np.uint64(0)
    for edge in range(begin, end):
        position = (block * 64 + shifts[edge]) & (lifting - 1)
        within = np.uint64(position & 63)
        at = columns[edge] * blocks
        low = bits[at + (position >> 6)] >> within
        high = (bits[at + (((position >> 6) + 1) & (blocks - 1))] << np.uint64(1)) << (np.uint64(63) - within)
        word ^= low | high
    return word


@njit(boundscheck=False, nogil=True, cache=True)
def syndrome(bits: Words, lifting: int, begins: Table, ends: Table, columns: Table, shifts: Table, out: Words) -> None:
    """Write the parities of rows, Z / 64 words each; row i has circulants begins[i] … ends[i] - 1."""
    blocks = lifting // 64
    for row in range(len(begins)):
        for block in range(blocks):
            out[row * blocks + block] = parities(bits, lifting, columns, shifts, begins[row], ends[row], block)


@njit(boundscheck=False, nogil=True, cache=True)
def satisfied(bits: Words, lifting: int, starts: Table, columns: Table, shifts: Table, wanted: Words) -> bool:
    """Say whether the parities of all bits are those wanted."""
    blocks = lifting // 64
    for row in range(len(starts) - 1):
        for block in range(blocks):
            found = parities(bits, lifting, columns, shifts, starts[row], starts[row + 1], block)
            if found != wanted[row * blocks + block]:
                return False
    return True


@njit(boundscheck=False, nogil=True, cache=True)
def decode(
    wanted: Words,
    lifting: int,
    starts: Table,
    columns: Table,
    shifts: Table,
    correction: Bytes,
    channel: int,
    largest: int,
    sweeps: int,
    patience: int,
    posteriors: Bytes | Shorts,
    messages: Bytes,
    kept: Bytes | Shorts,
    in_place: int,
    history: NDArray[np.int64],
    errors: Words,
) -> int:
    """Find bits whose parities are those wanted, and write them to `errors`.

    Returns the number of sweeps, negative where nothing was found. The width of posteriors is that of their array, columns x
    (Z + 64); messages: edges x Z. `kept` holds messages to checks between the two passes over a row: for posteriors
    of 8 bits the array of messages itself (`in_place` 1), else 128 x largest row degree of their width
    (`in_place` 0). `correction`: the table g four times. `history` gets the number of broken checks met in each sweep.

    Two blocks of 64 checks run side by side, since the magnitudes of one make a long chain of dependent instructions.
    """
    blocks = lifting // 64
    stride = lifting + 64
    around = lifting - 1
    rows = len(starts) - 1
    table = lanes.load(correction, 0)
    last = lanes.fill_bytes(15)
    limit = lanes.fill_bytes(largest)
    top = lanes.fill_bytes(127)
    start = lanes.fill_like(posteriors, channel)
    for at in range(0, len(posteriors), 64):
        lanes.store(posteriors, at, start)
    messages[: len(columns) * lifting] = 0
    for sweep in range(1, sweeps + 1):
        broken = 0
        for row in range(rows):
            first, degree = starts[row], starts[row + 1] - starts[row]
            for z in range(0, lifting, 128):
                base = first * lifting + z * degree
                kept_base = base * in_place
                odd1 = lanes.spread_bits(wanted[row * blocks + (z >> 6)])
                odd2 = lanes.spread_bits(wanted[row * blocks + (z >> 6) + 1])
                parity1, least1, rest1 = odd1, top, top
                parity2, least2, rest2 = odd2, top, top
                for edge in range(degree):
                    at = columns[first + edge] * stride
                    place = z + shifts[first + edge]
                    posterior1 = lanes.load(posteriors, at + (place & around))
                    posterior2 = lanes.load(posteriors, at + ((place + 64) & around))
                    value1 = lanes.subtract_message(posterior1, lanes.load(messages, base + edge * 128))
                    value2 = lanes.subtract_message(posterior2, lanes.load(messages, base + edge * 128 + 64))
                    lanes.store(kept, kept_base + edge * 128, value1)
                    lanes.store(kept, kept_base + edge * 128 + 64, value2)
                    parity1 = lanes.exclusive_or(parity1, lanes.to_bytes(posterior1))
                    parity2 = lanes.exclusive_or(parity2, lanes.to_bytes(posterior2))
                    byte1, byte2 = lanes.to_bytes(value1), lanes.to_bytes(value2)
                    odd1, odd2 = lanes.exclusive_or(odd1, byte1), lanes.exclusive_or(odd2, byte2)
                    size1, size2 = lanes.magnitude(byte1), lanes.magnitude(byte2)
                    more1, more2 = lanes.maximum(size1, least1), lanes.maximum(size2, least2)
                    least1, least2 = lanes.minimum(size1, least1), lanes.minimum(size2, least2)
                    rest1, rest2 = box(rest1, more1, table, last), box(rest2, more2, table, last)
                broken += lanes.count_ones(lanes.signs(parity1)) + lanes.count_ones(lanes.signs(parity2))
                others1 = lanes.minimum(box(rest1, least1, table, last), limit)
                others2 = lanes.minimum(box(rest2, least2, table, last), limit)
                # by another instruction than above, or LLVM would take the minimum once for each edge below
                rest1, rest2 = lanes.minimum_signed(rest1, limit), lanes.minimum_signed(rest2, limit)
                for edge in range(degree):
                    at = columns[first + edge] * stride
                    place = z + shifts[first + edge]
                    value1 = lanes.load(kept, kept_base + edge * 128)
                    value2 = lanes.load(kept, kept_base + edge * 128 + 64)
                    byte1, byte2 = lanes.to_bytes(value1), lanes.to_bytes(value2)
                    size1 = lanes.where_equal(lanes.magnitude(byte1), least1, rest1, others1)
                    size2 = lanes.where_equal(lanes.magnitude(byte2), least2, rest2, others2)
                    message1 = lanes.negate_where_negative(lanes.exclusive_or(odd1, byte1), size1)
                    message2 = lanes.negate_where_negative(lanes.exclusive_or(odd2, byte2), size2)
                    lanes.store(messages, base + edge * 128, message1)
                    lanes.store(messages, base + edge * 128 + 64, message2)
                    lanes.store(posteriors, at + (place & around), lanes.add_message(value1, message1))
                    lanes.store(posteriors, at + ((place + 64) & around), lanes.add_message(value2, message2))
            for edge in range(
                first, first + degree
            ):  # places 0 … 63 of a column are there twice: repair what a turn split
                at = columns[edge] * stride
                twice = lanes.head(shifts[edge] & 63, lanes.load(posteriors, at + lifting), lanes.load(posteriors, at))
                lanes.store(posteriors, at, twice)
                lanes.store(posteriors, at + lifting, twice)
        history[sweep - 1] = broken
        if sweep > patience and broken * 32 > history[sweep - 1 - PACE] * 31:
            return -sweep
        if broken == 0:
            for column in range(len(posteriors) // stride):
                for block in range(blocks):
                    found = lanes.signs(lanes.load(posteriors, column * stride + block * 64))
                    errors[column * blocks + block] = found
            if satisfied(errors, lifting, starts, columns, shifts, wanted):
                return sweep
    return -sweeps
