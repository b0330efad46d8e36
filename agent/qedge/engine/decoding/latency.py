"""Quantiles of any number of times in constant memory."""

from __future__ import annotations

import math
from typing import Final

_STEPS: Final = 16
"""Bins in each doubling: a quantile is off by at most 4.5 %."""


class Latencies:
    """Times in nanoseconds, counted in bins whose width grows with the time."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.number = 0
        self.max_ns = 0

    def add(self, elapsed_ns: int) -> None:
        """Count one time."""
        place = round(_STEPS * math.log2(max(1, elapsed_ns)))
        self._counts[place] = self._counts.get(place, 0) + 1
        self.number += 1
        self.max_ns = max(self.max_ns, elapsed_ns)

    def quantile_ns(self, share: float) -> float:
        """Return the time that `share` (0 … 1) of all do not exceed; 0 where there is none."""
        left = share * self.number
        for place in sorted(self._counts):
            left -= self._counts[place]
            if left <= 0:
                return float(min(2.0 ** (place / _STEPS), self.max_ns))
        return float(self.max_ns)
