"""The clock by which stored keys age: it goes on over restarts of the daemon and of the box. Pure.

While the box is up it follows the boot-time clock, so a step of the wall clock changes nothing. Over a restart of the
box only the wall clock can tell how long it was off; the key clock then goes forward by what that says, and never back:
where the wall clock went back, the time off counts as none. What has expired is erased, so nothing can revive it.
However wrong the wall clock is at a start, the key clock goes on by more than the longest age and no further: a box
without a battery that starts in another century again and again would else reach the last time a database holds.
"""

from __future__ import annotations

from typing import Final

import msgspec

LONGEST_AWAY_NS: Final = 2 * 10**17
"""Twice the longest age of keys that the settings allow."""


class KeyTime(msgspec.Struct, frozen=True):
    """The key clock at one moment, as it is kept in the database."""

    boot_id: str
    now_ns: int
    utc_ns: int
    key_ns: int


def resume(kept: KeyTime | None, boot_id: str, now_ns: int, utc_ns: int) -> KeyTime:
    """Return the key clock at the start of the daemon."""
    if kept is None:
        return KeyTime(boot_id, now_ns, utc_ns, 0)
    away_ns = now_ns - kept.now_ns if kept.boot_id == boot_id else utc_ns - kept.utc_ns
    return KeyTime(boot_id, now_ns, utc_ns, kept.key_ns + min(max(0, away_ns), LONGEST_AWAY_NS))


def advance(time: KeyTime, now_ns: int, utc_ns: int) -> KeyTime:
    """Return the key clock later in the same run."""
    return KeyTime(time.boot_id, now_ns, utc_ns, time.key_ns + max(0, now_ns - time.now_ns))
