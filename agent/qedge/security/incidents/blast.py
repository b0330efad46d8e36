"""The blast-radius cap: a detector that is wrong about many devices must not take the fleet down. Pure."""

from __future__ import annotations

from typing import Final

WINDOW_NS: Final = 600_000_000_000


class BlastRadius:
    """Allows automatic responses against at most a share of all devices, and `least` in any case, in any 10 minutes.

    A device counts once, however much is done about it meanwhile.
    """

    def __init__(self, ratio: float, least: int) -> None:
        self._ratio = ratio
        self._least = least
        self._touched: dict[str, int] = {}

    def allow(self, device_id: str, population: int, now_ns: int) -> bool:
        """Say whether one more device may be touched now, and count it where it may."""
        self._forget(now_ns)
        if device_id not in self._touched and len(self._touched) >= self.limit(population):
            return False
        self._touched.pop(device_id, None)  # to the end: the order is that of time
        self._touched[device_id] = now_ns
        return True

    def limit(self, population: int) -> int:
        """Return how many devices may be touched in 10 minutes."""
        return max(self._least, int(population * self._ratio))

    def touched(self, now_ns: int) -> int:
        """Return how many devices were touched in the last 10 minutes."""
        self._forget(now_ns)
        return len(self._touched)

    def _forget(self, now_ns: int) -> None:
        while self._touched:
            oldest = next(iter(self._touched))
            if now_ns - self._touched[oldest] < WINDOW_NS:
                return
            del self._touched[oldest]
