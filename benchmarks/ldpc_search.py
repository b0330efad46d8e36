"""Search for degrees of codes by density evolution: how the rows of `qedge.qkd.reconciliation.codes` were found.

`python -m benchmarks.ldpc_search COLUMNS ROWS SECONDS` climbs from a plain start and prints what it found: (degree,
columns) pairs, and f = R / h(Q) at the highest error rate Q at which almost all bits are right after a fixed amount of
work. Messages are distributions over whole units, as the decoder of 8 bits has them, without its rounding and its
saturation. Two sweeps of flooding stand for one of the layered decoder.

    T. J. Richardson, R. L. Urbanke, IEEE Trans. Inf. Theory 47, 599 (2001)
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Sequence
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

Densities = npt.NDArray[np.float64]
Degrees = list[tuple[int, int]]
CHANNEL: Final = 13
"""Units of a received bit."""
LARGEST: Final = 60
SIZES: Final = 128
POINTS: Final = 4096
"""Of the Fourier transform in which distributions of sums are made."""
WORK: Final = 340
"""Sweeps of flooding times circulants of a column."""
WRONG: Final = 1e-6
"""Part of bits that may be wrong in the end."""


@numba.njit(cache=True)
def combined(one: Densities, other: Densities, box: Densities) -> Densities:
    """Combine the magnitudes of two messages. Row 0: their distribution; row 1: the same, less twice the wrong ones."""
    out = np.zeros((2, SIZES + 1))
    for i in range(SIZES):
        if one[0, i] < 1e-14:
            continue
        for j in range(SIZES):
            at = int(box[i, j])
            part = box[i, j] - at
            for row in range(2):
                mass = one[row, i] * other[row, j]
                out[row, at] += mass * (1 - part)
                out[row, at + 1] += mass * part
    return out[:, :SIZES].copy()


def from_checks(message: Densities, weight: float, box: Densities) -> Densities:
    """Return messages of checks of two weights around a mean one."""
    low = int(weight)
    high_share = (weight - low) * (low + 1) / weight
    power, result, left = message, None, low - 1
    while left:
        if left & 1:
            result = power if result is None else combined(result, power, box)
        left >>= 1
        if left:
            power = combined(power, power, box)
    assert result is not None
    return result * (1 - high_share) + combined(result, message, box) * high_share


def wrong_after(degrees: Degrees, columns: int, rows: int, rate: float) -> float:
    """Return the part of bits that are wrong after the work."""
    edges = sum(degree * number for degree, number in degrees)
    scale = CHANNEL / math.log((1 - rate) / rate)
    i, j = np.arange(SIZES)[:, None], np.arange(SIZES)[None, :]
    soft = scale * np.log1p(np.exp(-np.arange(2 * SIZES) / scale))
    box = np.maximum(0, np.minimum(i, j) + soft[i + j] - soft[abs(i - j)])
    channel = np.zeros(POINTS)
    channel[CHANNEL], channel[-CHANNEL] = 1 - rate, rate
    received = np.fft.rfft(channel)
    message = np.zeros((2, SIZES))
    message[0, CHANNEL], message[1, CHANNEL] = 1, 1 - 2 * rate
    last = wrong = 1.0
    for sweep in range(int(WORK * columns / edges)):
        checks = from_checks(message, edges / rows, box)
        checks[:, LARGEST] += checks[:, LARGEST + 1 :].sum(1)
        checks[:, LARGEST + 1 :] = 0
        checks /= checks[0].sum()
        signed = np.zeros(POINTS)
        signed[:SIZES] = (checks[0] + checks[1]) / 2
        signed[0] = checks[0, 0]
        signed[-SIZES + 1 :] = ((checks[0] - checks[1]) / 2)[:0:-1]
        spectrum = np.fft.rfft(signed)
        sent, wrong = np.zeros(POINTS), 0.0
        for degree, number in degrees:
            partial = received * spectrum ** (degree - 1)
            sent += degree * number / edges * np.fft.irfft(partial, POINTS)
            whole = np.fft.irfft(partial * spectrum, POINTS)
            wrong += number / columns * (whole[POINTS // 2 :].sum() + whole[0] / 2)
        right, left = np.maximum(sent[: POINTS // 2], 0), np.zeros(POINTS // 2)
        left[1:] = np.maximum(sent[POINTS // 2 + 1 :][::-1], 0)
        pair = np.array([right + left, right - left])
        pair[1, 0] = 0
        message = pair[:, :SIZES].copy()
        message[:, -1] += pair[:, SIZES:].sum(1)
        message /= message[0].sum()
        if wrong < WRONG or (sweep > 10 and sweep % 6 == 5 and wrong > 0.985 * last):
            break
        last = wrong if sweep % 6 == 5 else last
    return wrong


def rate_of(entropy: float) -> float:
    """Return the error rate with this binary entropy."""
    low, high = 1e-5, 0.4999
    for _ in range(60):
        rate = (low + high) / 2
        if -(rate * math.log2(rate) + (1 - rate) * math.log2(1 - rate)) < entropy:
            low = rate
        else:
            high = rate
    return low


def leak(degrees: Degrees, columns: int, rows: int, best: float = 1.4) -> float:
    """Return f at the threshold, or 9 where it is not below `best`."""

    def enough(ratio: float) -> bool:
        return wrong_after(degrees, columns, rows, rate_of(rows / columns / ratio)) < WRONG

    if not enough(best - 0.0005):
        return 9.0
    low, high = 1.02, best
    while high - low > 0.0006:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def changed(degrees: Degrees, rows: int, chance: random.Random) -> Degrees | None:
    """Move columns from one degree to another, or a degree; None where the result is no code of ours."""
    counts = [list(pair) for pair in degrees]
    for _ in range(chance.choice([1, 1, 2, 3])):
        if chance.random() < 0.65:
            source, target = chance.sample(range(len(counts)), 2)
            moved = min(chance.choice([1, 1, 2, 3, 5, 8]), counts[source][1])
            counts[source][1] -= moved
            counts[target][1] += moved
        else:
            place = chance.randrange(2, len(counts))
            counts[place][0] = max(4, min(rows, counts[place][0] + chance.choice([-3, -2, -1, 1, 2, 3])))
    over = max(0, counts[0][1] - (rows - 1))  # columns of degree 2 make a chain, which must not close
    counts[0][1] -= over
    counts[1][1] += over
    result = sorted((degree, number) for degree, number in counts)
    distinct = len({degree for degree, _ in result}) == len(result)
    return result if distinct and [result[0][0], result[1][0]] == [2, 3] else None


def main(arguments: Sequence[str]) -> None:
    """Climb for as long as told."""
    columns, rows, seconds = int(arguments[0]), int(arguments[1]), float(arguments[2])
    chance = random.Random(rows)
    chain = min(rows - 1, columns // 4)
    best = [(2, chain), (3, columns - chain - columns // 4), (5, 0), (min(11, rows - 1), columns // 5)]
    best.append((min(30, rows), columns - sum(number for _, number in best)))
    least, until = leak(best, columns, rows), time.monotonic() + seconds
    while time.monotonic() < until:
        candidate = changed(best, rows, chance)
        if candidate is not None and (found := leak(candidate, columns, rows, min(least, 1.4))) < least:
            best, least = candidate, found
            print(f"f {least:.4f}", [pair for pair in best if pair[1]], flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
