"""Gaps between rare events in independent slots: geometric, exactly, by inversion of random bits.

The number of empty slots before the next event of chance p is floor(ln u / ln(1−p)) for u in (0, 1). A logarithm for
each costs more than all else; where u's upper 16 bits already decide, as they nearly always do for frequent events, a
table has the same answer.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qedge_drivers.sim_qkd.compiled import jit

Numbers = Any  # a numpy array when compiled, a memory view when interpreted

MAX_GAP: Final = 1 << 40
"""Longer gaps are cut; no block of light has so many slots."""

_CELLS: Final = 1 << 16
UNDECIDED: Final = _CELLS - 1
_UNIT: Final = 2.0**-53
_NEVER: Final = 1e-18


def scale_of(chance: float) -> float:
    """Return 1 / ln(1−p); gaps are 0 of what always happens, as long as can be of what never does."""
    return 1.0 / math.log1p(-max(chance, _NEVER)) if chance < 1.0 else -0.0


def gap_table(chance: float) -> NDArray[np.uint16]:
    """Gap by the upper 16 bits of u; `UNDECIDED` where it depends on the lower ones, or is too long for the table."""
    edges = np.arange(_CELLS + 1, dtype=np.int64) << 37
    shortest = np.floor(np.log((edges[1:] - 0.5) * _UNIT) * scale_of(chance))
    longest = np.floor(np.log((edges[:-1] + 0.5) * _UNIT) * scale_of(chance))
    decided = (shortest == longest) & (longest < UNDECIDED)
    return np.where(decided, longest, UNDECIDED).astype(np.uint16)


@jit
def gap_of(high: int, low: int, table: Numbers, scale: float) -> int:
    """Return the gap for u = (high·2²¹ + upper 21 bits of low + ½) / 2⁵³, both words signed 32 bits."""
    gap: int = 0 + table[high >> 16 & 0xFFFF]
    if gap == UNDECIDED:
        uniform = ((high & 0xFFFF_FFFF) << 21 | (low >> 11 & 0x1F_FFFF)) + 0.5
        gap = int(min(math.log(uniform * _UNIT) * scale, 1099511627776.0))
    return gap


@jit
def fill_gaps(high: Numbers, low: Numbers, table: Numbers, scale: float, out: Numbers) -> None:
    """Write the gap for each pair of words into `out` (i64)."""
    for i in range(len(out)):
        out[i] = gap_of(high[i], low[i], table, scale)
