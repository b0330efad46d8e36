"""Time as an argument: the two clocks of DESIGN.md §4 as protocols, and one that a test turns by hand."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """`now_ns` is the boot-time clock and drives every timer; `utc_ns` is wall time, for display and expiry only."""

    def now_ns(self) -> int:
        """Nanoseconds since boot, suspend included; never goes back."""
        ...

    def utc_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC; may step."""
        ...


class ManualClock:
    """A clock that only moves when told to; the fake that tests use."""

    def __init__(self, now_ns: int = 0, utc_ns: int = 1_800_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._utc_ns = utc_ns

    def now_ns(self) -> int:
        """Return the boot-time clock as it was last set."""
        return self._now_ns

    def utc_ns(self) -> int:
        """Return the wall clock as it was last set."""
        return self._utc_ns

    def advance_s(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`."""
        self._now_ns += round(seconds * 1e9)
        self._utc_ns += round(seconds * 1e9)

    def step_utc_s(self, seconds: float) -> None:
        """Step only the wall clock, as an administrator or NTP does."""
        self._utc_ns += round(seconds * 1e9)
