"""Hybrid logical clock: stamps that follow causes, and stay near the wall clock. Pure.

A stamp is milliseconds since 1970 UTC · 2¹⁶ + a count (Kulkarni et al., "Logical physical clocks", OPODIS 2014, in the
form of one integer): the larger of the wall clock and the last stamp plus one. A count that runs over 2¹⁶ carries into
the milliseconds, which keeps the order and is undone by the wall clock at the next one.
"""

from __future__ import annotations

from typing import Final

from qedge.base.errors import QedgeError

COUNT_BITS: Final = 16
_MS: Final = 1_000_000


def stamp_of(utc_ns: int) -> int:
    """Return the smallest stamp of a wall-clock time."""
    return max(0, utc_ns // _MS) << COUNT_BITS


def utc_ns_of(stamp: int) -> int:
    """Return the wall-clock time of a stamp, to the millisecond."""
    return (stamp >> COUNT_BITS) * _MS


class HybridClock:
    """The clock of one node. No stamp that it has seen or given comes again, nor any before it."""

    def __init__(self, max_ahead_ns: int, last: int = 0) -> None:
        self._max_ahead_ns = max_ahead_ns
        self._last = last

    @property
    def last(self) -> int:
        """Return the highest stamp given or seen."""
        return self._last

    def tick(self, utc_ns: int) -> int:
        """Return the stamp of something that happens here now.

        Raises `state.clock` where the wall clock stands so far behind what was seen that peers would refuse the stamp.
        """
        stamp = max(self._last + 1, stamp_of(utc_ns))
        if utc_ns_of(stamp) > utc_ns + self._max_ahead_ns:
            raise QedgeError(
                "state.clock",
                "The clock of this node stands far behind what it has seen of others, or was set back.",
                fix="Set the clock; `qedge status` shows whether it is synchronised.",
            )
        self._last = stamp
        return stamp

    def is_ahead(self, stamp: int, utc_ns: int) -> bool:
        """Say whether a stamp is further in the future than clocks may differ."""
        return utc_ns_of(stamp) > utc_ns + self._max_ahead_ns

    def observe(self, stamp: int, utc_ns: int) -> bool:
        """Take note of a stamp of another node; says whether it was not too far ahead, else nothing changes."""
        if self.is_ahead(stamp, utc_ns):
            return False
        self._last = max(self._last, stamp)
        return True
