"""Which jobs take so much longer than foretold that a second node should run them as well. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from qedge.orchestrator.ledger.config import LedgerConfig

_REMEMBERED: Final = 128
_QUANTILE: Final = 0.95
_LEAST_TIME_S: Final = 0.001


class Stragglers:
    """Learns from the jobs that ended how well run times are predicted."""

    def __init__(self, config: LedgerConfig) -> None:
        self._config = config
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)
        self._usual = 1.0

    def learn(self, ran_s: float, predicted_s: float) -> None:
        """Take a job that ended."""
        self._ratios.append(ran_s / max(predicted_s, _LEAST_TIME_S))
        ratios = sorted(self._ratios)
        self._usual = max(1.0, ratios[int(_QUANTILE * (len(ratios) - 1))])

    def limit_s(self, predicted_s: float) -> float:
        """Return the run time after which a job is a straggler; 0: none ever is."""
        factor = self._config.straggler_factor
        if not factor:
            return 0.0
        return max(self._config.straggler_min_s, factor * self._usual * max(predicted_s, _LEAST_TIME_S))

    def room(self, running: int, doubled: int) -> bool:
        """Say whether one more of so many running jobs may run twice."""
        return doubled < max(1, int(self._config.straggler_share * running)) and self._config.straggler_share > 0
