"""The decoder of `kernels.py` on plain arrays, without numba: the same arithmetic, so that results are the same bits.

A thousand times slower; tests compare every path of the kernels with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qedge.qkd.reconciliation.check_node import PACE, Effort, Scale
from qedge.qkd.reconciliation.construction import Circulants
from qedge.qkd.reconciliation.model import Code

Numbers = NDArray[np.int16]
Bits = NDArray[np.uint8]


def parities(bits: Bits, lifting: int, starts: NDArray[np.int32], made: Circulants) -> Bits:
    """Return the parities of rows for bits (u8, 0 or 1): one u8 a check."""
    columns = bits.reshape(-1, lifting)
    rows = []
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        turned = [np.roll(columns[made.columns[edge]], -int(made.shifts[edge])) for edge in range(begin, end)]
        rows.append(np.bitwise_xor.reduce(turned))
    return np.concatenate(rows)


def box(first: Numbers, second: Numbers, table: Numbers) -> Numbers:
    """Combine two magnitudes: min(x, y) + g(x + y) - g(|x - y|)."""
    total = np.minimum(first + second, 15)
    apart = np.minimum(np.abs(first - second), 15)
    combined: Numbers = np.minimum(first, second) + table[total] - table[apart]
    return combined


def _row(values: Numbers, wanted: Bits, table: Numbers, largest: int) -> Numbers:
    """Return the messages of one row of checks: i16[degree, Z] from i16[degree, Z], by A-min*."""
    bytes_ = np.clip(values, -128, 127)
    sizes = np.abs(bytes_)
    least = np.full(values.shape[1], 127, np.int16)
    rest = least.copy()
    for size in sizes:
        rest = box(rest, np.maximum(size, least), table)
        least = np.minimum(size, least)
    others = np.minimum(box(rest, least, table), largest)
    rest = np.minimum(rest, largest)
    odd = (wanted != 0) ^ np.logical_xor.reduce(bytes_ < 0, axis=0)
    magnitudes = np.where(sizes == least, rest, others)
    return np.where(odd ^ (bytes_ < 0), -magnitudes, magnitudes).astype(np.int16)


def decode(
    wanted: Bits,
    code: Code,
    starts: NDArray[np.int32],
    scale: Scale,
    effort: Effort,
    bounds: tuple[int, int],
) -> tuple[int, Bits]:
    """Return what `kernels.decode` returns, and the bits found; `wanted` is one u8 a check.

    `bounds` of posteriors: -128 and 127 for the narrow decoder, -32768 and 32767 for the wide one.
    """
    made, lifting = code.circulants, code.lifting
    low, high = bounds
    number = code.base_columns
    posteriors = np.full((number, lifting), scale.channel, np.int16)
    messages = np.zeros((len(made.columns), lifting), np.int16)
    table = scale.correction.astype(np.int16)
    checks = wanted.reshape(-1, lifting)
    history: list[int] = []
    for sweep in range(1, effort.sweeps + 1):
        broken = 0
        for row, (begin, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
            edges = range(begin, end)
            turned = np.array([np.roll(posteriors[made.columns[edge]], -int(made.shifts[edge])) for edge in edges])
            broken += int(np.count_nonzero((checks[row] != 0) ^ np.logical_xor.reduce(turned < 0, axis=0)))
            values = np.clip(turned.astype(np.int32) - messages[begin:end], low, high).astype(np.int16)
            found = _row(values, checks[row], table, effort.largest)
            messages[begin:end] = found
            after = np.clip(values.astype(np.int32) + found, low, high).astype(np.int16)
            for edge, posterior in zip(edges, after, strict=True):
                posteriors[made.columns[edge]] = np.roll(posterior, int(made.shifts[edge]))
        history.append(broken)
        if sweep > effort.patience and broken * 32 > history[sweep - 1 - PACE] * 31:
            return -sweep, np.zeros(number * lifting, np.uint8)
        if broken == 0:
            bits = (posteriors < 0).astype(np.uint8).reshape(-1)
            if np.array_equal(parities(bits, lifting, starts, made), wanted):
                return sweep, bits
    return -effort.sweeps, np.zeros(number * lifting, np.uint8)
