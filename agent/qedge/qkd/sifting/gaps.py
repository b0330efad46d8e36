"""Slots of detections as Rice codes of the empty slots between them (Rice 1979).

    u8            parameter k, chosen for the message
    k · n bits    the k lowest bits of each gap, padded to a byte
    n + … bits    of each gap the rest, as so many zeros and a one, padded to a byte

Two streams rather than one: each is decoded without waiting for the other. Within 2 % of the entropy of independent
detections. There is one encoding of a list of slots for each k; a decoder takes nothing else.
"""

from __future__ import annotations

import numpy as np

from qedge.qkd.sifting.model import MAX_PARAMETER, Slots, checked_count


def parameter_for(slots: Slots, first_slot: int) -> int:
    """Return the parameter that encodes these slots in the fewest bits, the smaller one of two."""
    from qedge.qkd.sifting.kernels import unary_bits

    mean = (int(slots[-1]) + 1 - first_slot - slots.size) / slots.size
    guess = min(max(int(0.69 * mean).bit_length() - 1, 0), MAX_PARAMETER)
    near = range(max(0, guess - 1), min(MAX_PARAMETER, guess + 1) + 1)
    return min(near, key=lambda k: (k * slots.size + int(unary_bits(slots, first_slot, k)), k))


def encode_gaps(slots: Slots, first_slot: int) -> bytes:
    """Encode u64 slots that rise strictly and begin at `first_slot` or later; ValueError for others."""
    from qedge.qkd.sifting import kernels

    slots = np.ascontiguousarray(slots, np.uint64)
    if checked_count(slots.size) == 0:
        return b""
    if not 0 <= first_slot <= int(slots[0]) or int(slots[-1]) >> 63 or kernels.unary_bits(slots, first_slot, 0) < 0:
        raise ValueError("slots of detections rise from the first slot on and fit into 63 bits")
    parameter = parameter_for(slots, first_slot)
    unary_bits, low_bits = int(kernels.unary_bits(slots, first_slot, parameter)), parameter * slots.size
    low, unary = np.zeros(low_bits // 64 + 2, np.uint64), np.zeros(unary_bits // 64 + 2, np.uint64)
    kernels.encode_gaps(slots, first_slot, parameter, low, unary)
    head = low.view(np.uint8)[: -(-low_bits // 8)]
    return bytes([parameter]) + head.tobytes() + unary.view(np.uint8)[: -(-unary_bits // 8)].tobytes()


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
    if not data or data[0] > MAX_PARAMETER:
        raise ValueError("gaps without a sound parameter")
    parameter = data[0]
    low_bits = parameter * count
    low_bytes = -(-low_bits // 8)
    if 8 * (len(data) - 1 - low_bytes) < count:
        raise ValueError(f"{len(data)} bytes are too few for {count} gaps")
    low = np.zeros(low_bytes // 8 + 2, np.uint64)
    low.view(np.uint8)[:low_bytes] = np.frombuffer(data, np.uint8, low_bytes, 1)
    rest = len(data) - 1 - low_bytes
    unary = np.zeros(rest // 8 + 1, np.uint64)
    unary.view(np.uint8)[:rest] = np.frombuffer(data, np.uint8, rest, 1 + low_bytes)
    slots = np.empty(count, np.uint64)
    read = int(kernels.decode_gaps(low, unary, unary.size, first_slot, end_slot, parameter, slots))
    if read == -2:
        raise ValueError(f"a detection at or after slot {end_slot}")
    padding = data[low_bytes] >> low_bits % 8 if low_bits % 8 else 0
    if read < 0 or padding or -(-read // 8) != rest or data[-1] >> ((read - 1) % 8 + 1):
        raise ValueError("gaps do not end where their bytes do")
    return slots
