"""What one client may ask for, so that no client takes the node from the others. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.config import EngineConfig

_WINDOW_S: Final = 60.0
_MAX_CLIENTS: Final = 10_000


class Quotas:
    """Jobs of each client that have not ended, and predicted run time that is forgotten within a minute."""

    def __init__(self, config: EngineConfig) -> None:
        self._limit = config.client_queue_limit
        self._per_minute_s = config.client_run_s_per_minute
        self._open: Counter[str] = Counter()
        self._spent: dict[str, tuple[float, int]] = {}

    def check(self, client: str, time_s: float, now_ns: int) -> None:
        """Raise `job.quota_exceeded` where another job that takes `time_s` is too much for this client now."""
        if self._open[client] >= self._limit:
            raise QedgeError(
                "job.quota_exceeded",
                f"{self._open[client]} jobs of this client have not ended.",
                fix="Wait for some of them, or cancel some.",
                limit=self._limit,
            )
        if self._per_minute_s <= 0:
            return
        spent_s = self._spent_s(client, now_ns)
        # a job larger than the whole quota is let in where nothing was spent: it could never run otherwise
        if spent_s > 0 and spent_s + time_s > self._per_minute_s:
            wait_s = (spent_s + time_s - self._per_minute_s) * _WINDOW_S / self._per_minute_s
            raise QedgeError(
                "job.quota_exceeded",
                f"This client asked for {spent_s:.3g} s of run time in a minute; {self._per_minute_s:g} s are allowed.",
                fix=f"Try again in {min(wait_s, _WINDOW_S):.0f} s.",
                limit=self._per_minute_s,
            )

    def took(self, client: str, time_s: float, now_ns: int) -> None:
        """Count a job that was accepted."""
        self._open[client] += 1
        if self._per_minute_s > 0:
            if len(self._spent) >= _MAX_CLIENTS:
                self._spent.pop(next(iter(self._spent)))
            self._spent[client] = (self._spent_s(client, now_ns) + time_s, now_ns)

    def ended(self, client: str) -> None:
        """Count a job that ended."""
        self._open[client] -= 1
        if self._open[client] <= 0:
            del self._open[client]

    def _spent_s(self, client: str, now_ns: int) -> float:
        spent_s, at_ns = self._spent.get(client, (0.0, now_ns))
        return max(0.0, spent_s - (now_ns - at_ns) / 1e9 * self._per_minute_s / _WINDOW_S)
