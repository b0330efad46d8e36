"""Times of the day and of the week, in zones: whether one is open at a moment, decided once a minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from qedge.security.policy.model import DAYS, Window

MINUTE_NS: Final = 60 * 1_000_000_000
_DAY: Final = 24 * 60
_WEEK: Final = 7 * _DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MINUTE: Final = 2**63 // MINUTE_NS
"""Wall time is a signed number of 64 bits; whatever else comes is taken for its nearest end."""


def spans(windows: tuple[Window, ...]) -> tuple[tuple[int, int], ...]:
    """Return the minutes of the week, Monday 00:00 first, at which windows begin and end (exclusive), in order.

    What goes past Sunday's midnight is two spans.
    """
    found: list[tuple[int, int]] = []
    for window in windows:
        begin, until = _minutes(window.begin), _minutes(window.until)
        length = until - begin if until > begin else until - begin + _DAY
        for day in window.days:
            start = DAYS.index(day) * _DAY + begin
            found.append((start, min(start + length, _WEEK)))
            if start + length > _WEEK:
                found.append((0, start + length - _WEEK))
    return tuple(sorted(found))


class Windows:
    """The windows of one condition; remembers its answer for the minute it was last asked about."""

    __slots__ = ("_minute", "_open", "_spans", "_zone")

    def __init__(self, windows: tuple[Window, ...], zone: str) -> None:
        self._spans = spans(windows)
        self._zone = ZoneInfo(zone)
        self._minute: int | None = None
        self._open = False

    def is_open(self, minute: int) -> bool:
        """Say whether a window is open in a minute since 1970 UTC. Summer time begins and ends on whole minutes."""
        if minute != self._minute:
            now = minute_of_week(minute, self._zone)
            self._open = any(begin <= now < end for begin, end in self._spans)
            self._minute = minute
        return self._open


def minute_of_week(minute: int, zone: ZoneInfo) -> int:
    """Return how many minutes after Monday 00:00 a zone's clocks show at a minute since 1970 UTC."""
    bounded = max(-_LAST_MINUTE, min(minute, _LAST_MINUTE))
    local = (_EPOCH + timedelta(minutes=bounded)).astimezone(zone)
    return local.weekday() * _DAY + local.hour * 60 + local.minute


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)
