"""Bounded queue of readings by their class: what is critical leaves first and gives way last. Pure."""

from __future__ import annotations

from typing import Final, TypeVar

from qedge.base import lanes
from qedge.devices.segments.model import RetentionClass

T = TypeVar("T")
_ORDER: Final = (RetentionClass.CRITICAL, RetentionClass.TELEMETRY, RetentionClass.BULK)


class Lanes(lanes.Lanes[RetentionClass, T]):
    """Keeps at most `limit` items; of critical ones the first, of the others the newest."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _ORDER, (RetentionClass.CRITICAL,))
