"""How fast messages of a kind may go out: so many a second, with a burst before that. Pure."""

from __future__ import annotations


class Pace:
    """A token bucket kept as one time: when the next message would be due without a burst."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._gap_ns = 1e9 / per_s
        self._slack_ns = self._gap_ns * (burst - 1)
        self._due_ns = 0.0

    def ready_ns(self, now_ns: int) -> int:
        """Return the time of the boot clock from which the next may go."""
        return max(now_ns, round(self._due_ns - self._slack_ns))

    def take(self, now_ns: int, number: int = 1) -> None:
        """Count what went out."""
        self._due_ns = max(self._due_ns, float(now_ns)) + self._gap_ns * number
