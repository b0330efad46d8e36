"""Slots of detections as Rice codes of the empty slots between them (Rice 1979).

    u8            parameter k, chosen for the message by its first gaps
    u32           least gap, which the dead time of detectors makes; taken off every gap but the first
    k · n bits    the k lowest bits of each gap, padded to a byte
    n + … bits    of each gap the rest, as so many zeros and a one, padded to a byte

Two streams rather than one: each is decoded without waiting for the other. Within 2 % of the entropy of independent
detections with one dead time. All little-endian.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from qedge.qkd.sifting.model import MAX_PARAMETER, Slots, checked_count

HEAD: Final = 5
"""Bytes before the first stream."""
PROBED: Final = 1 << 13
"""Gaps of a message by which the parameter is chosen: more seldom change it, and all of them are one more pass."""
_LARGEST: Final = (1 << 32) - 1


def rest_of(slots: Slots, first_slot: int, least: int) -> int:
    """Return the sum of all gaps, after the least one is taken off all but the first."""
    return int(slots[-1]) + 1 - first_slot - slots.size - least * (slots.size - 1)


def first_guess(slots: Slots, first_slot: int, least: int) -> int:
    """Return a parameter that the best one exceeds by 0, 1 or 2 for gaps of a geometric distribution."""
    total = rest_of(slots, first_slot, least)
    return min(max(int(0.69 * total / slots.size).bit_length() - 2, 0), MAX_PARAMETER - 2)


def encode_gaps(slots: Slots, first_slot: int) -> bytes:
    """Encode u64 slots that rise strictly and begin at `first_slot` or later; ValueError for others."""
    from qedge.qkd.sifting import kernels

    slots = np.require(slots, np.uint64, ["C", "A"])
    if checked_count(slots.size) == 0:
        return b""
    least = min(int(kernels.least_gap(slots)), _LARGEST) if slots.size > 1 else 0
    if least < 0 or not 0 <= first_slot <= int(slots[0]) or int(slots[-1]) >> 63:
        raise ValueError("slots of detections rise from the first slot on and fit into 63 bits")
    guess = first_guess(slots, first_slot, least)
    probe = slots[:PROBED]
    sums = kernels.sum_quotients(probe, first_slot, least, guess)
    parameter = guess + min(range(3), key=lambda each: each * probe.size + int(sums[each]))
    low_bits = parameter * slots.size
    most = (rest_of(slots, first_slot, least) >> parameter) + slots.size
    low, unary = np.zeros(low_bits // 64 + 2, np.uint64), np.zeros(most // 64 + 2, np.uint64)
    unary_bits = int(kernels.encode_gaps(slots, first_slot, least, parameter, low, unary))
    head = bytes([parameter]) + least.to_bytes(4, "little")
    streams = ((low, low_bits), (unary, unary_bits))
    return head + b"".join(words.view(np.uint8)[: -(-bits // 8)].tobytes() for words, bits in streams)


def rises(slots: Slots) -> bool:
    """Say whether slots, which may be read-only, increase from each to the next."""
    from qedge.qkd.sifting import kernels

    return slots.size < 2 or int(kernels.least_gap(slots)) >= 0


def decode_gaps(data: bytes, first_slot: int, count: int, end_slot: int) -> Slots:
    """Return `count` slots in [first_slot, end_slot), u64; ValueError for anything but what `encode_gaps` writes.

    Memory is in proportion to `data`, whatever `count` says.
    """
    from qedge.qkd.sifting import kernels

    if checked_count(count) == 0:
        if data:
            raise ValueError("no detections, but bytes of them")
        return np.zeros(0, np.uint64)
    if not 0 <= first_slot <= end_slot < 1 << 63:
        raise ValueError(f"slots {first_slot} to {end_slot} are no range")
    if len(data) < HEAD or data[0] > MAX_PARAMETER:
        raise ValueError("gaps without a sound parameter")
    parameter, least = data[0], int.from_bytes(data[1:HEAD], "little")
    low_bits = parameter * count
    low_bytes = -(-low_bits // 8)
    rest = len(data) - HEAD - low_bytes
    if 8 * rest < count:
        raise ValueError(f"{len(data)} bytes are too few for {count} gaps")
    low, unary = np.zeros(low_bytes // 8 + 2, np.uint64), np.zeros(rest // 8 + 1, np.uint64)
    low.view(np.uint8)[:low_bytes] = np.frombuffer(data, np.uint8, low_bytes, HEAD)
    unary.view(np.uint8)[:rest] = np.frombuffer(data, np.uint8, rest, HEAD + low_bytes)
    slots = np.empty(count, np.uint64)
    read = int(kernels.decode_gaps(low, unary, unary.size, first_slot, end_slot, least, parameter, slots))
    if read == -2:
        raise ValueError(f"a detection at or after slot {end_slot}")
    padding = data[HEAD + low_bytes - 1] >> low_bits % 8 if low_bits % 8 else 0
    if read < 0 or padding or -(-read // 8) != rest or data[-1] >> ((read - 1) % 8 + 1):
        raise ValueError("gaps do not end where their bytes do")
    return slots
