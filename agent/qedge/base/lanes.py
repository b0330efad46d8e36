"""Bounded queue of several classes: the first class leaves first and gives way last. Pure; every step is O(1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)
T = TypeVar("T")


class Lanes(Generic[C, T]):
    """Keeps at most `limit` items. `dropped` counts, by class, what had to give way."""

    __slots__ = ("_first_come", "_lanes", "_limit", "_order", "_size", "dropped")

    def __init__(self, limit: int, order: Sequence[C], first_come: Collection[C] = ()) -> None:
        """`order` names the classes from the first to leave to the first to give way.

        In a class the oldest item gives way, in those of `first_come` the newest: what was taken first there may be the
        cause of all that follows.
        """
        self._limit = limit
        self._order = tuple(order)
        self._first_come = frozenset(first_come)
        self._size = 0
        self._lanes: dict[C, deque[T]] = {each: deque() for each in order}
        self.dropped: dict[C, int] = dict.fromkeys(order, 0)

    def __len__(self) -> int:
        return self._size

    def waiting(self) -> dict[C, int]:
        """Count what is here, by class."""
        return {name: len(lane) for name, lane in self._lanes.items()}

    def put(self, lane: C, item: T) -> bool:
        """Add an item; one of the lowest class gives way. False where that is the new item itself."""
        if self._size >= self._limit:
            for lowest in reversed(self._order):
                if self._lanes[lowest] or lowest == lane:
                    break
            self.dropped[lowest] += 1
            if not self._lanes[lowest] or (lowest == lane and lowest in self._first_come):
                return False
            self._give_way(lowest)
        self._lanes[lane].append(item)
        self._size += 1
        return True

    def put_back(self, taken: Mapping[C, Sequence[T]]) -> None:
        """Put what was taken from the front there again; where there is no room now, the usual ones give way."""
        for lane, items in taken.items():
            self._lanes[lane].extendleft(reversed(items))
            self._size += len(items)
        for lowest in reversed(self._order):
            while self._size > self._limit and self._lanes[lowest]:
                self._give_way(lowest)
                self.dropped[lowest] += 1

    def take_many(self, limit: int) -> dict[C, list[T]]:
        """Take the next items, at most `limit`, by class and each in its order."""
        taken: dict[C, list[T]] = {}
        for name, lane in self._lanes.items():
            number = min(len(lane), limit)
            taken[name] = [lane.popleft() for _ in range(number)]
            limit -= number
            self._size -= number
        return taken

    def take_of(self, lanes: Collection[C]) -> dict[C, list[T]]:
        """Take everything of some classes."""
        taken = {name: list(lane) for name, lane in self._lanes.items() if name in lanes and lane}
        for name, items in taken.items():
            self._lanes[name].clear()
            self._size -= len(items)
        return taken

    def take(self) -> tuple[C, T] | None:
        """Take the next item, of the highest class that has one."""
        for name, lane in self._lanes.items():
            if lane:
                self._size -= 1
                return name, lane.popleft()
        return None

    def _give_way(self, lowest: C) -> None:
        if lowest in self._first_come:
            self._lanes[lowest].pop()
        else:
            self._lanes[lowest].popleft()
        self._size -= 1
