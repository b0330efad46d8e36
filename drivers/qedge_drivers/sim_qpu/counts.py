"""From indices of a last state to counts of classical values."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from qedge_driver_api.counts import PackedCounts, key_bytes
from qedge_drivers.sim_qpu.program import Plan

Numbers = npt.NDArray[np.int64]
_WORD_BITS: Final = 63
"""Values of so many bits are computed as numbers of one word."""


def gather(pairs: Mapping[int, int]) -> Callable[[int], int]:
    """Return the function that moves bit `pairs[c]` of an index to bit c."""
    if all(clbit == qubit for clbit, qubit in pairs.items()):
        mask = sum(1 << clbit for clbit in pairs)
        return lambda index: index & mask
    moves = tuple(pairs.items())
    return lambda index: sum((index >> qubit & 1) << clbit for clbit, qubit in moves)


def count(plan: Plan, leaves: Iterable[tuple[int, Sequence[int]]]) -> dict[int, int]:
    """Merge the groups of a run into counts."""
    by_bits: dict[int, Counter[int]] = {}
    keep = ~sum(1 << clbit for clbit in plan.final)
    for all_bits, indices in leaves:
        bits = all_bits & keep
        found = by_bits.get(bits)
        if found is None:
            by_bits[bits] = Counter(indices)
        else:
            found.update(indices)
    if plan.direct and list(by_bits) == [0]:
        return dict(by_bits[0])
    move = gather(plan.final)
    counts: dict[int, int] = {}
    for bits, found in by_bits.items():
        for index, times in found.items():
            key = bits | move(index)
            counts[key] = counts.get(key, 0) + times
    return counts


def count_drawn(plan: Plan, indices: Numbers, times: Numbers) -> Mapping[int, int]:
    """Return counts where each of `indices`, all different, was drawn so many `times`."""
    if plan.num_clbits > _WORD_BITS:
        move = gather(plan.final)
        counts: dict[int, int] = {}
        for index, number in zip(indices.tolist(), times.tolist(), strict=True):
            counts[move(index)] = counts.get(move(index), 0) + number
        return counts
    keys = indices
    if not plan.direct:
        keys = np.zeros_like(indices)
        for clbit, qubit in plan.final.items():
            keys |= (indices >> qubit & 1) << clbit
        if len(plan.final) < plan.num_qubits:
            keys, owners = np.unique(keys, return_inverse=True)
            times = np.bincount(owners, weights=times).astype(np.int64)
    width = key_bytes(plan.num_clbits)
    if width in (1, 2, 4, 8):
        packed = keys.astype(f"<u{width}").tobytes()
    else:
        packed = keys.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    return PackedCounts(packed, array("Q", times.astype(np.uint64).tobytes()), width)


def flip_bits(
    counts: Mapping[int, int], clbits: Sequence[int], probability: float, rng: np.random.Generator
) -> Mapping[int, int]:
    """Flip each of `clbits` in each shot with this probability, independently."""
    if probability <= 0 or not clbits:
        return counts
    out = dict(counts)
    keys = list(counts)
    ends = np.cumsum(list(counts.values()))
    cells = int(ends[-1]) * len(clbits)
    # so many different (shot, bit) cells, each as likely as any other
    struck = rng.choice(cells, size=int(rng.binomial(cells, probability)), replace=False, shuffle=False)
    masks: dict[int, int] = {}
    for cell in struck.tolist():
        shot, order = divmod(cell, len(clbits))
        masks[shot] = masks.get(shot, 0) | 1 << clbits[order]
    owners = np.searchsorted(ends, list(masks), side="right").tolist()
    for owner, mask in zip(owners, masks.values(), strict=True):
        key = keys[owner]
        out[key] -= 1
        out[key ^ mask] = out.get(key ^ mask, 0) + 1
    return {key: times for key, times in out.items() if times}


def count_rows(
    rows: npt.NDArray[np.uint8], columns: Mapping[int, int], recorded: int, num_clbits: int
) -> Mapping[int, int]:
    """Count rows of `recorded` bits, where classical bit c of `num_clbits` is column `columns[c]`.

    One row per shot, eight columns in a byte, the first one least significant; what is left of the last byte is 0.
    """
    if not columns or not rows.size:
        return {0: len(rows)}
    packed, width = rows, key_bytes(num_clbits)
    if len(columns) != recorded or any(clbit != column for clbit, column in columns.items()):
        clbits = sorted(columns)
        bits = np.zeros((len(rows), num_clbits), dtype=np.uint8)
        apart = np.unpackbits(rows, axis=1, bitorder="little")
        bits[:, clbits] = apart[:, [columns[clbit] for clbit in clbits]]
        packed = np.packbits(bits, axis=1, bitorder="little")
    if packed.shape[1] < width:
        packed = np.pad(packed, ((0, 0), (0, width - packed.shape[1])))
    return count_packed(packed)


def count_packed(rows: npt.NDArray[np.uint8]) -> PackedCounts:
    """Count rows that hold values as `PackedCounts` does, one for each shot."""
    packed, width = np.ascontiguousarray(rows), rows.shape[1]
    values = packed.view(f"V{width}").ravel().tolist()
    # wide circuits often give no value twice, and to see that takes half the time of counting
    if len(set(values)) == len(values):
        return PackedCounts(packed.tobytes(), [1] * len(values), width)
    counts = Counter(values)
    return PackedCounts(b"".join(counts), list(counts.values()), width)


def add_counts(parts: Iterable[Mapping[int, int]]) -> Mapping[int, int]:
    """Add up counts of several groups of shots; one group stays as it is."""
    first, *others = parts
    if not others:
        return first
    counts = dict(first)
    for part in others:
        for key, times in part.items():
            counts[key] = counts.get(key, 0) + times
    return counts
