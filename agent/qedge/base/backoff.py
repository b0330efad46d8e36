"""Exponential back-off with full jitter: a random wait below a ceiling that doubles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Ceilings start at `base_s` seconds, double with each failed attempt and stop growing at `cap_s` seconds."""

    base_s: float
    cap_s: float

    def delay_s(self, attempt: int, uniform: float) -> float:
        """Seconds to wait after failed attempt number `attempt` (0 = the first); `uniform` is random in [0, 1)."""
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(attempt, 60))
        return uniform * ceiling_s
