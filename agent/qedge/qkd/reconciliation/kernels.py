"""Compiled kernels of reconciliation: syndromes, and two layered decoders of the error pattern.

Terms of all kernels: a code has rows and columns of circulants of size Z ("lifting", a power of two, at least 64).
Circulant e of row r joins check (r, z) to bit (columns[e], (z + shifts[e]) mod Z); those of row r are
starts[r] … starts[r + 1] - 1. At most one circulant joins a row to a column.

Bits are words of 64, little-endian. Posteriors of a column take Z + 64 places: the last 64 repeat the first, so that
64 consecutive checks of a row always meet 64 consecutive places. One call works on one frame, 64 checks at a time.

The rule of check nodes is A-min* (Jones et al., "Approximate-MIN* constraint node updating for LDPC code decoding",
2003) in whole numbers: x ⊞ y = min(x, y) + g(x + y) - g(|x - y|), with g from tables of 16
entries that end in zero; wherever the result would be below zero it is zero. `reference.py`
does the same arithmetic on plain arrays.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from qedge.qkd.reconciliation.check_node import PACE
from qedge.qkd.simd import lanes

Words = NDArray[np.uint64]
Table = NDArray[np.int32]
Bytes = NDArray[np.int8]
Shorts = NDArray[np.int16]
Lanes: TypeAlias = Any
"""A value of 64 lanes, which exists in compiled code alone."""


@njit(inline="always")
def box(first: Lanes, second: Lanes, more: Lanes, less: Lanes) -> Lanes:
    """Combine two magnitudes by the rule above."""
    last = lanes.fill_bytes(15)
    least = lanes.minimum(first, second)
    most = lanes.maximum(first, second)
    total = lanes.minimum(lanes.add(first, second), last)
    apart = lanes.minimum(lanes.subtract(most, least), last)
    return lanes.subtract_to_zero(lanes.add(least, lanes.look_up(more, total)), lanes.look_up(less, apart))


@njit(inline="always")
def parities(bits: Words, lifting: int, columns: Table, shifts: Table, begin: int, end: int, block: int) -> np.uint64:
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


@njit(inline="always")
def take(  # type: ignore[no-untyped-def] # lanes have no type in Python
    posteriors, at, messages, base, kept, kept_base
):
    """Keep what 64 bits tell their checks; return their posteriors and that, as bytes."""
    posterior = lanes.load(posteriors, at)
    value = lanes.subtract_message(posterior, lanes.load(messages, base))
    lanes.store(kept, kept_base, value)
    return lanes.to_bytes(posterior), lanes.to_bytes(value)


@njit(inline="always")
def weigh(value: Lanes, least: Lanes, rest: Lanes, more: Lanes, less: Lanes) -> tuple[Lanes, Lanes]:
    """Take one more message into the least magnitude of a check and the combination of all others."""
    size = lanes.magnitude(value)
    return lanes.minimum(size, least), box(rest, lanes.maximum(size, least), more, less)


@njit(inline="always")
def give(  # type: ignore[no-untyped-def] # as above
    posteriors, at, messages, base, kept, kept_base, odd, least, rest, others
):
    """Tell 64 bits what their checks say."""
    value = lanes.load(kept, kept_base)
    byte = lanes.to_bytes(value)
    size = lanes.where_equal(lanes.magnitude(byte), least, rest, others)
    message = lanes.negate_where_negative(lanes.exclusive_or(odd, byte), size)
    lanes.store(messages, base, message)
    lanes.store(posteriors, at, lanes.add_message(value, message))


@njit(inline="always")
def two_blocks(  # type: ignore[no-untyped-def] # as above
    wanted, word, z, first, degree, places, shifts, around, posteriors, messages, base, kept, kept_base, tables, largest
):
    """Update 128 checks of a row from number z on; return how many of them were broken.

    Two blocks of 64 run side by side, since the magnitudes of one make a long chain of dependent instructions; two
    circulants are added at a time, since the processor adds three values of GF(2) at once.
    """
    more, less = lanes.load(tables, 0), lanes.load(tables, 64)
    limit, top = lanes.fill_bytes(largest), lanes.fill_bytes(127)
    odd1, odd2 = lanes.spread_bits(wanted[word]), lanes.spread_bits(wanted[word + 1])
    parity1, least1, rest1 = odd1, top, top
    parity2, least2, rest2 = odd2, top, top
    for edge in range(0, degree - 1, 2):
        at, place, here = places[np.uint64(first + edge)], z + shifts[np.uint64(first + edge)], edge * 128
        old1, new1 = take(posteriors, at + (place & around), messages, base + here, kept, kept_base + here)
        here += 64
        old2, new2 = take(posteriors, at + ((place + 64) & around), messages, base + here, kept, kept_base + here)
        at, place = places[np.uint64(first + edge + 1)], z + shifts[np.uint64(first + edge + 1)]
        here += 64
        old3, new3 = take(posteriors, at + (place & around), messages, base + here, kept, kept_base + here)
        here += 64
        old4, new4 = take(posteriors, at + ((place + 64) & around), messages, base + here, kept, kept_base + here)
        parity1 = lanes.exclusive_or(parity1, lanes.exclusive_or(old1, old3))
        parity2 = lanes.exclusive_or(parity2, lanes.exclusive_or(old2, old4))
        odd1 = lanes.exclusive_or(odd1, lanes.exclusive_or(new1, new3))
        odd2 = lanes.exclusive_or(odd2, lanes.exclusive_or(new2, new4))
        least1, rest1 = weigh(new1, least1, rest1, more, less)
        least2, rest2 = weigh(new2, least2, rest2, more, less)
        least1, rest1 = weigh(new3, least1, rest1, more, less)
        least2, rest2 = weigh(new4, least2, rest2, more, less)
    for edge in range(degree & -2, degree):
        at, place, here = places[np.uint64(first + edge)], z + shifts[np.uint64(first + edge)], edge * 128
        old1, new1 = take(posteriors, at + (place & around), messages, base + here, kept, kept_base + here)
        here += 64
        old2, new2 = take(posteriors, at + ((place + 64) & around), messages, base + here, kept, kept_base + here)
        parity1, parity2 = lanes.exclusive_or(parity1, old1), lanes.exclusive_or(parity2, old2)
        odd1, odd2 = lanes.exclusive_or(odd1, new1), lanes.exclusive_or(odd2, new2)
        least1, rest1 = weigh(new1, least1, rest1, more, less)
        least2, rest2 = weigh(new2, least2, rest2, more, less)
    others1 = lanes.minimum(box(rest1, least1, more, less), limit)
    others2 = lanes.minimum(box(rest2, least2, more, less), limit)
    # by another instruction than above, or LLVM would take the minimum once for each edge below
    rest1, rest2 = lanes.minimum_signed(rest1, limit), lanes.minimum_signed(rest2, limit)
    for edge in range(degree):
        at, place, here = places[np.uint64(first + edge)], z + shifts[np.uint64(first + edge)], edge * 128
        one, two, near, far = at + (place & around), at + ((place + 64) & around), base + here, kept_base + here
        give(posteriors, one, messages, near, kept, far, odd1, least1, rest1, others1)
        give(posteriors, two, messages, near + 64, kept, far + 64, odd2, least2, rest2, others2)
    return lanes.count_ones(lanes.signs(parity1)) + lanes.count_ones(lanes.signs(parity2))


@njit(inline="always")
def repair(  # type: ignore[no-untyped-def] # as above
    begin, end, lifting, places, shifts, posteriors
):
    """Make places 0 … 63 of the columns of a row, which are there twice, agree after a row was updated."""
    for edge in range(begin, end):
        at = places[np.uint64(edge)]
        mirror, head = lanes.load(posteriors, at + lifting), lanes.load(posteriors, at)
        true = lanes.head(shifts[np.uint64(edge)] & 63, mirror, head)
        lanes.store(posteriors, at, true)
        lanes.store(posteriors, at + lifting, true)


@njit(inline="always")
def signs(posteriors, lifting, errors):  # type: ignore[no-untyped-def] # as above
    """Write which posteriors are below zero."""
    blocks = lifting // 64
    for column in range(len(errors) // blocks):
        for block in range(blocks):
            found = lanes.signs(lanes.load(posteriors, column * (lifting + 64) + block * 64))
            errors[column * blocks + block] = found


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

    Returns the number of sweeps, negative where nothing was found: after `sweeps`, or where after `patience` of them
    the number of broken checks stays. The width of posteriors is that of their array, columns x (Z + 64); messages:
    edges x Z. `kept` holds messages to checks between the two passes over a row: for posteriors of 8 bits the array of
    messages itself (`in_place` 1), else 128 x largest row degree of their width (`in_place` 0). `correction`: the
    tables for sums and for differences, each four times. `history` gets the number of broken checks met in each sweep.
    """
    around = lifting - 1
    start = lanes.fill_like(posteriors, channel)
    for at in range(0, len(posteriors), 64):
        lanes.store(posteriors, at, start)
    messages[: len(columns) * lifting] = 0
    # with unsigned indices, which cannot count from the end, a sweep is 15 % faster
    places = columns.astype(np.int64) * (lifting + 64)
    for sweep in range(1, sweeps + 1):
        broken = 0
        for row in range(len(starts) - 1):
            first, degree = starts[row], starts[row + 1] - starts[row]
            for z in range(0, lifting, 128):
                base = first * lifting + z * degree
                word = (row * lifting + z) >> 6
                # fmt: off
                broken += two_blocks(
                    wanted, word, z, first, degree, places, shifts, around,
                    posteriors, messages, base, kept, base * in_place, correction, largest,
                )
                # fmt: on
            repair(first, first + degree, lifting, places, shifts, posteriors)
        history[sweep - 1] = broken
        if sweep > patience and broken * 14 > history[sweep - 1 - PACE] * 13:
            return -sweep
        if broken == 0:
            signs(posteriors, lifting, errors)
            if satisfied(errors, lifting, starts, columns, shifts, wanted):
                return sweep
    return -sweeps
