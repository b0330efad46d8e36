"""Making the circulants of a code from its degrees and a seed, the same at both ends of a link for ever.

A code is quasi-cyclic: a base matrix whose entries are circulant permutations of size Z (Fossorier, IEEE Trans. Inf. Theory
50, 1788, 2004). Columns of degree 2 form a chain: number t joins rows t and t + 1. Every other column takes the rows that have the fewest circulants, so that all rows are
about as heavy. Each shift is then the one that closes the fewest cycles of length 4 and, for light columns, of length 6.

A frame that fails gets further parities by splitting rows: those of one part of a row, from which those of the other
follow. Columns keep their degrees and rows become lighter, as in a code of lower rate (Varodayan, Aaron, Girod, Signal
Processing 86, 3123, 2006). The circulants of a row stand in an order in which either half has light and heavy columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LIGHT: Final = 4
"""Columns up to this degree are kept free of cycles of length 6 as well as of 4."""
_FOUR: Final = 1000
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Circulants:
    """Sorted by row: those of row r are starts[r] … starts[r + 1] - 1; i32 arrays.

    Circulant e joins check (r, z) to bit (columns[e], (z + shifts[e]) mod Z).
    """

    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    shifts: NDArray[np.int32]


class _Draws:
    """SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine and in every release."""

    def __init__(self, seed: int) -> None:
        self._state = seed

    def below(self, bound: int) -> int:
        """Return a whole number below a small bound."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        word = self._state
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((word ^ (word >> 31)) >> 32) * bound >> 32

    def shuffled(self, number: int) -> list[int]:
        """Return 0 … number - 1 in a random order."""
        order = list(range(number))
        for last in range(number - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


def _joined_rows(degrees: Sequence[tuple[int, int]], base_rows: int, draws: _Draws) -> list[list[int]]:
    """Choose the rows of every column, columns by ascending degree."""
    weights = [0] * base_rows
    joined: list[list[int]] = []
    for degree, number in sorted(degrees):
        for _ in range(number):
            if degree == 2:
                rows = [len(joined) % base_rows, (len(joined) + 1) % base_rows]
            else:
                rows = sorted(draws.shuffled(base_rows), key=weights.__getitem__)[:degree]
            for row in rows:
                weights[row] += 1
            joined.append(rows)
    return joined


def _shifts(joined: list[list[int]], lifting: int, draws: _Draws) -> list[list[int]]:
    """Choose shifts column by column, those of fewest new short cycles."""
    used: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    shifts: list[list[int]] = []
    for rows in joined:
        chosen: list[int] = []
        for place, row in enumerate(rows):
            bad: list[int] = []
            near: list[int] = []
            for other, shift in zip(rows[:place], chosen, strict=True):
                bad += [shift + difference for difference in used[row][other]]
                if len(rows) <= LIGHT:
                    for between, differences in used[row].items():
                        if onward := used[between].get(other):
                            near += [shift + first + second for first in differences for second in onward]
            cost = np.bincount(np.array(bad, np.int64) % lifting, minlength=lifting) * _FOUR
            cost += np.bincount(np.array(near, np.int64) % lifting, minlength=lifting)
            best = np.flatnonzero(cost == cost.min())
            chosen.append(int(best[draws.below(len(best))]))
        for place, row in enumerate(rows):
            for other_place, other in enumerate(rows):
                if other != row:
                    used[row][other].append((chosen[place] - chosen[other_place]) % lifting)
        shifts.append(chosen)
    return shifts


def build(degrees: Sequence[tuple[int, int]], base_rows: int, lifting: int, seed: int) -> Circulants:
    """Build a code from (degree, number of columns) pairs; takes about 0.1 s."""
    draws = _Draws(seed)
    joined = _joined_rows(degrees, base_rows, draws)
    shifts = _shifts(joined, lifting, draws)
    rows: list[list[tuple[int, int]]] = [[] for _ in range(base_rows)]
    for column, (those, turned) in enumerate(zip(joined, shifts, strict=True)):
        for row, shift in zip(those, turned, strict=True):
            rows[row].append((column, shift))
    flat = np.array([entry for row in rows for entry in (*row[::2], *row[1::2])], np.int32)
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    return Circulants(starts, np.ascontiguousarray(flat[:, 0]), np.ascontiguousarray(flat[:, 1]))


def split_rows(base_rows: int, step_rows: int, steps: int) -> list[int]:
    """Return the rows that steps split, far from each other: those of step s are step_rows long from (s - 1)·step_rows."""
    number = step_rows * steps
    return [(2 * place + 1) * base_rows // (2 * number) for place in _spread(number)]


def _spread(number: int) -> list[int]:
    """Order 0 … number - 1 so that each beginning of the list is spread evenly (van der Corput)."""
    bits = max(1, (number - 1).bit_length())
    turned = (int(f"{value:0{bits}b}"[::-1], 2) for value in range(1 << bits))
    return [value for value in turned if value < number]
