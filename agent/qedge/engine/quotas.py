"""What one client may ask for, so that no client takes the node from the others. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from qedge.base.errors import QedgeError
from qedge.engine.config import EngineConfig
from qedge.wire.jobs import LatencyClass

_WINDOW_S: Final = 60.0
_MAX_CLIENTS: Final = 10_000
_INTERACTIVE: Final = LatencyClass.INTERACTIVE


class Quotas:
    """Jobs of each client that have not ended, by class, and predicted run time that is forgotten within a minute."""

    def __init__(self, config: EngineConfig) -> None:
        self._limit = config.client_queue_limit
        self._critical_limit = min(config.client_critical_limit, config.client_queue_limit)
        self._per_minute_s = config.client_run_s_per_minute
        self._open: Counter[str] = Counter()
        self._critical: Counter[str] = Counter()
        self._spent: dict[str, tuple[float, int]] = {}

    def check(self, client: str, time_s: float, now_ns: int, latency: LatencyClass = _INTERACTIVE) -> None:
        """Raise `job.quota_exceeded` where another job that takes `time_s` is too much for this client now."""
        if self._open[client] >= self._limit:
            raise QedgeError(
                "job.quota_exceeded",
                f"{self._open[client]} jobs of this client have not ended.",
                fix="Wait for some of them, or cancel some.",
                limit=self._limit,
            )
        if latency is LatencyClass.CRITICAL and self._critical[client] >= self._critical_limit:
            raise QedgeError(
                "job.quota_exceeded",
                f"{self._critical[client]} critical jobs of this client have not ended.",
                fix="Wait for some of them, or submit it as interactive.",
                limit=self._critical_limit,
            )
        if self._per_minute_s <= 0:
            return
        spent_s = self._spent_s(client, now_ns)
        # a job larger than the whole quota is let in where nothing was spent: it could never run otherwise
        if spent_s > 0 and spent_s + time_s > self._per_minute_s:
            wait_s = min((spent_s + time_s - self._per_minute_s) * _WINDOW_S / self._per_minute_s, _WINDOW_S)
            raise QedgeError(
                "job.quota_exceeded",
                f"This client asked for {spent_s:.3g} s of run time in a minute; {self._per_minute_s:g} s are allowed.",
                fix=f"Try again in {wait_s:.0f} s.",
                limit=self._per_minute_s,
                retry_after_s=round(wait_s, 1),
            )

    def took(self, client: str, time_s: float, now_ns: int, latency: LatencyClass = _INTERACTIVE) -> None:
        """Count a job that was accepted."""
        self._open[client] += 1
        if latency is LatencyClass.CRITICAL:
            self._critical[client] += 1
        if self._per_minute_s > 0:
            if len(self._spent) >= _MAX_CLIENTS:
                self._spent.pop(next(iter(self._spent)))
            self._spent[client] = (self._spent_s(client, now_ns) + time_s, now_ns)

    def ended(self, client: str, latency: LatencyClass = _INTERACTIVE) -> None:
        """Count a job that ended."""
        for counts in (self._open, self._critical) if latency is LatencyClass.CRITICAL else (self._open,):
            counts[client] -= 1
            if counts[client] <= 0:
                del counts[client]

    def _spent_s(self, client: str, now_ns: int) -> float:
        spent_s, at_ns = self._spent.get(client, (0.0, now_ns))
        return max(0.0, spent_s - (now_ns - at_ns) / 1e9 * self._per_minute_s / _WINDOW_S)
