"""Which bytes of a block are spent: a sorted list of half-open intervals that never touch. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Intervals:
    """A set of byte numbers; what is in it never leaves it."""

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0
        for start, end in pairs:
            if not self.add(start, end):
                raise ValueError("the intervals overlap")

    def pairs(self) -> list[tuple[int, int]]:
        """Return the intervals in order."""
        return list(zip(self._starts, self._ends, strict=True))

    def is_free(self, start: int, end: int) -> bool:
        """Say whether nothing from `start` to `end` is in the set."""
        place = bisect_right(self._starts, start)
        if place and self._ends[place - 1] > start:
            return False
        return place == len(self._starts) or self._starts[place] >= end

    def add(self, start: int, end: int) -> bool:
        """Add an interval; says whether nothing of it was there, and changes nothing otherwise."""
        if not 0 <= start < end or not self.is_free(start, end):
            return False
        place = bisect_left(self._starts, start)
        joins_before = place > 0 and self._ends[place - 1] == start
        joins_after = place < len(self._starts) and self._starts[place] == end
        if joins_before and joins_after:
            self._ends[place - 1] = self._ends.pop(place)
            del self._starts[place]
        elif joins_before:
            self._ends[place - 1] = end
        elif joins_after:
            self._starts[place] = start
        else:
            self._starts.insert(place, start)
            self._ends.insert(place, end)
        self.total += end - start
        return True

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """Give what is free of the first `size` bytes, in order."""
        free_from = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            if start > free_from:
                yield free_from, start
            free_from = end
        if free_from < size:
            yield free_from, size
