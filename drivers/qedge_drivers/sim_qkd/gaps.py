"""Gaps between rare events in independent slots: geometric, exactly, by inversion of random bits.

The number of empty slots before the next event of chance p is floor(ln u / ln(1−p)) for u in (0, 1). A logarithm for
each costs more than all else; where u's upper 16 bits already decide, as they nearly always do for frequent events, a
table has the same answer.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qedge_drivers.sim_qkd.emission import LONG_GAP

_CELLS: Final = 1 << 16
_UNIT: Final = 2.0**-53
_NEVER: Final = 1e-18


def scale_of(chance: float) -> float:
    """Return 1 / ln(1−p); gaps are 0 of what always happens, as long as can be of what never does."""
    return 1.0 / math.log1p(-max(chance, _NEVER)) if chance < 1.0 else -0.0


def gap_table(chance: float) -> NDArray[np.uint16]:
    """Gap by the upper 16 bits of u; `LONG_GAP` where it depends on the lower ones, or is too long for the table."""
    edges = np.arange(_CELLS + 1, dtype=np.int64) << 37
    shortest = np.floor(np.log((edges[1:] - 0.5) * _UNIT) * scale_of(chance))
    longest = np.floor(np.log((edges[:-1] + 0.5) * _UNIT) * scale_of(chance))
    decided = (shortest == longest) & (longest < LONG_GAP)
    return np.where(decided, longest, LONG_GAP).astype(np.uint16)
