"""A token bucket. Pure; times in nanoseconds of a clock that never goes back."""

from __future__ import annotations

from typing import Final

_NS: Final = 1e9


class Bucket:
    """Lets `rate` things a second pass, and `burst` at once."""

    __slots__ = ("_at_ns", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now_ns: int) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at_ns = now_ns

    def take(self, amount: float, now_ns: int) -> float:
        """Take `amount` in any case and return the seconds after which the debt is paid; 0: there is none."""
        tokens = self._tokens + (now_ns - self._at_ns) * self.rate / _NS
        tokens = min(tokens, self.burst) - amount
        self._tokens = tokens
        self._at_ns = now_ns
        if tokens >= 0:
            return 0.0
        return -tokens / self.rate if self.rate > 0 else 3600.0

    def try_take(self, now_ns: int) -> bool:
        """Take one if there is one."""
        tokens = min(self._tokens + (now_ns - self._at_ns) * self.rate / _NS, self.burst)
        self._at_ns = now_ns
        if tokens < 1:
            self._tokens = tokens
            return False
        self._tokens = tokens - 1
        return True

    def is_full(self, now_ns: int) -> bool:
        """Say whether nothing was taken for so long that forgetting the bucket changes nothing."""
        return self._tokens + (now_ns - self._at_ns) * self.rate / _NS >= self.burst
