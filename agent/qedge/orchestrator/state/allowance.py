"""How many new entries of a writer are looked at: to check them takes time, of which none may get all. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_BURST_S: Final = 2.0
_MAX_NAMES: Final = 4096


class Moments:
    """Says when something short may be done in the event loop, though it is crypto: once in `gap_ns` at most."""

    def __init__(self, gap_ns: int) -> None:
        self._gap_ns = gap_ns
        self._next_ns = 0

    def take(self, now_ns: int) -> bool:
        """Say whether it may be done now, which it then is."""
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + self._gap_ns
        return True


class Allowances:
    """A token bucket for each name: `per_s` a second, two seconds' worth at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, name: str, now_ns: int) -> bool:
        """Say whether another of this name may be looked at."""
        most = self._per_s * _BURST_S
        left, since_ns = self._left.pop(name, (most, now_ns))
        left = min(most, left + (now_ns - since_ns) / 1e9 * self._per_s)
        self._left[name] = (max(0.0, left - 1), now_ns)
        if len(self._left) > _MAX_NAMES:
            self._left.popitem(last=False)
        return left >= 1
