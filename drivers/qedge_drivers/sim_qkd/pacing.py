"""Real time: light comes at the clock of the source, however fast it was computed."""

from __future__ import annotations

from collections import deque
from typing import Final

_CATCH_UP_S: Final = 0.1
"""Light of so long waits for a Bob who comes late; what is older he has missed, as with a real source."""
_SPANS: Final = 32


class Pacer:
    """Says when a block of light has come in; times are those of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._due_s: float | None = None
        self._spans: deque[tuple[float, float]] = deque(maxlen=_SPANS)

    def due_s(self, asked_s: float, duration_s: float) -> float:
        """Return when the last pulse arrives of a block that was asked for at `asked_s`."""
        begin_s = asked_s if self._due_s is None else max(self._due_s, asked_s - _CATCH_UP_S)
        self._due_s = begin_s + duration_s
        return self._due_s

    def handed_over(self, asked_s: float, now_s: float, duration_s: float) -> None:
        """Note that a block of `duration_s` was given, which began to be wanted at `asked_s`."""
        self._spans.append((max(now_s - asked_s, 1e-9), duration_s))

    @property
    def clock_share(self) -> float:
        """Simulated time per time that somebody waited for light, over the last blocks; at most 1, −1 without any."""
        if not self._spans:
            return -1.0
        waited, simulated = (sum(span[place] for span in self._spans) for place in (0, 1))
        return min(1.0, simulated / waited)
