"""From indices of a last state to counts of classical values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from qedge_drivers.sim_qpu.program import Plan


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


def flip_bits(
    counts: Mapping[int, int], clbits: Sequence[int], probability: float, rng: np.random.Generator
) -> dict[int, int]:
    """Flip each of `clbits` in each shot with this probability, independently."""
    out = dict(counts)
    if probability <= 0 or not clbits:
        return out
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


def count_rows(rows: npt.NDArray[np.uint8], columns: Mapping[int, int], recorded: int) -> dict[int, int]:
    """Count rows of `recorded` bits, where classical bit c is column `columns[c]`.

    One row per shot, eight columns in a byte, the first one least significant; what is left of the last byte is 0.
    """
    if not columns or not rows.size:
        return {0: len(rows)}
    packed = rows
    if len(columns) != recorded or any(clbit != column for clbit, column in columns.items()):
        clbits = sorted(columns)
        bits = np.zeros((len(rows), clbits[-1] + 1), dtype=np.uint8)
        apart = np.unpackbits(rows, axis=1, bitorder="little")
        bits[:, clbits] = apart[:, [columns[clbit] for clbit in clbits]]
        packed = np.packbits(bits, axis=1, bitorder="little")
    counts = Counter(np.ascontiguousarray(packed).view(f"V{packed.shape[1]}").ravel().tolist())
    return {int.from_bytes(key, "little"): times for key, times in counts.items()}
