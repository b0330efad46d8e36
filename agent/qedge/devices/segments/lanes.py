"""Bounded queue of three classes: what is critical leaves first and gives way last. Pure; every step is O(1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Generic, TypeVar

from qedge.devices.segments.model import RetentionClass

T = TypeVar("T")
_ORDER: Final = (RetentionClass.CRITICAL, RetentionClass.TELEMETRY, RetentionClass.BULK)


class Lanes(Generic[T]):
    """Keeps at most `limit` items. `dropped` counts, by class, what had to give way."""

    __slots__ = ("_lanes", "_limit", "_size", "dropped")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._lanes: dict[RetentionClass, deque[T]] = {each: deque() for each in _ORDER}
        self.dropped: dict[RetentionClass, int] = dict.fromkeys(_ORDER, 0)

    def __len__(self) -> int:
        return self._size

    def put(self, retention: RetentionClass, item: T) -> bool:
        """Add an item; the oldest of the lowest class gives way. False where that is the new item itself.

        Old readings give way to new ones of their class, except that of critical ones the new gives way: what was taken
        first may be the cause of all that follows.
        """
        if self._size >= self._limit:
            for lowest in reversed(_ORDER):
                if self._lanes[lowest] or lowest is retention:
                    break
            self.dropped[lowest] += 1
            if not self._lanes[lowest] or (lowest is retention and lowest is RetentionClass.CRITICAL):
                return False
            self._lanes[lowest].popleft()
            self._size -= 1
        self._lanes[retention].append(item)
        self._size += 1
        return True

    def put_back(self, taken: Mapping[RetentionClass, Sequence[T]]) -> None:
        """Put what was taken from the front there again; where there is no room now, the usual ones give way."""
        for retention, items in taken.items():
            self._lanes[retention].extendleft(reversed(items))
            self._size += len(items)
        for lowest in reversed(_ORDER):
            while self._size > self._limit and self._lanes[lowest]:
                if lowest is RetentionClass.CRITICAL:
                    self._lanes[lowest].pop()
                else:
                    self._lanes[lowest].popleft()
                self._size -= 1
                self.dropped[lowest] += 1

    def take_many(self, limit: int) -> dict[RetentionClass, list[T]]:
        """Take the next items, at most `limit`, by class and each in its order."""
        taken: dict[RetentionClass, list[T]] = {}
        for retention, lane in self._lanes.items():
            number = min(len(lane), limit)
            taken[retention] = [lane.popleft() for _ in range(number)]
            limit -= number
            self._size -= number
        return taken

    def take(self) -> tuple[RetentionClass, T] | None:
        """Take the next item, of the highest class that has one."""
        for retention, lane in self._lanes.items():
            if lane:
                self._size -= 1
                return retention, lane.popleft()
        return None
