"""How many handshakes are begun in a second, and what the others are told. Pure.

When 10,000 devices reconnect at once, the node does as many handshakes as it can afford and tells the rest when to
come back, spread over the time that those before them need: a device that was told `n` seconds finds room then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_BURST_S: Final = 0.25
_MAX_RETRY_S: Final = 600


class Admission:
    """A token bucket: `rate` a second, a quarter of a second's worth at once."""

    def __init__(self, rate: float, uniform: Callable[[], float]) -> None:
        self._rate = rate
        self._uniform = uniform
        self._burst = max(1.0, rate * _BURST_S)
        self._tokens = self._burst
        self._filled_ns = 0
        self._turned_away = 0.0

    def admit(self, now_ns: int) -> int:
        """Take one in and return 0, or return the seconds after which that one shall come again."""
        since_s = (now_ns - self._filled_ns) / 1e9
        self._filled_ns = now_ns
        self._tokens = min(self._burst, self._tokens + since_s * self._rate)
        self._turned_away = max(0.0, self._turned_away - since_s * self._rate)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0
        self._turned_away += 1.0
        return 1 + min(_MAX_RETRY_S - 1, int(self._uniform() * self._turned_away / self._rate))
