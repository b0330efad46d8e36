"""How long runs really take: what estimates were worth, by method, so that backlogs mean seconds. Pure."""

from __future__ import annotations

import math
from typing import Final

from qedge.wire.jobs import JobEstimate

_WEIGHT: Final = 0.1
_RANGE: Final = math.log(100.0)
_LEAST_S: Final = 1e-4
_SMALL_S: Final = 0.05
_MAX_METHODS: Final = 64


class Pace:
    """Learns the ratio of the time that runs took to their estimates: an average of its logarithm for each method."""

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}
        self.typical_s = 0.002
        """What small jobs took lately: a guess for those that are so small that nobody estimates them."""

    def learn(self, estimate: JobEstimate, took_s: float) -> None:
        """Take in one run that ended well."""
        took_s = max(took_s, _LEAST_S)
        if estimate.time_s <= _SMALL_S:
            self.typical_s += _WEIGHT * (min(took_s, 10 * self.typical_s) - self.typical_s)
        found = math.log(took_s / max(estimate.time_s, _LEAST_S))
        before = self._ratios.get(estimate.method)
        if before is None and len(self._ratios) >= _MAX_METHODS:
            return
        known = found if before is None else before + _WEIGHT * (found - before)
        self._ratios[estimate.method] = min(max(known, -_RANGE), _RANGE)

    def expected_s(self, estimate: JobEstimate) -> float:
        """Return how long a run of this estimate is likely to take."""
        return max(estimate.time_s, _LEAST_S) * math.exp(self._ratios.get(estimate.method, 0.0))
