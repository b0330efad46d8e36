"""Deadlines of many connections, looked at once each time they may have passed, and never all at once."""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Wheel(Generic[Item]):
    """Keeps things under the time at which they want to be looked at, `slot_ns` nanoseconds exact.

    A thing that moves its deadline back is not touched: whoever looks at it finds that it is not due and adds it anew.
    """

    def __init__(self, slot_ns: int, now_ns: int) -> None:
        self._slot_ns = slot_ns
        self._next = now_ns // slot_ns
        self._slots: dict[int, list[Item]] = {}

    def add(self, item: Item, due_ns: int) -> None:
        """Have `item` returned by the first `due` at or after `due_ns`."""
        slot = max(-(-due_ns // self._slot_ns), self._next)
        self._slots.setdefault(slot, []).append(item)

    def due(self, now_ns: int) -> list[Item]:
        """Take out what is due."""
        found: list[Item] = []
        last = now_ns // self._slot_ns
        if last - self._next > len(self._slots):  # the clock jumped: what is kept is less than what was passed
            for slot in sorted(each for each in self._slots if each <= last):
                found += self._slots.pop(slot)
        else:
            for slot in range(self._next, last + 1):
                found += self._slots.pop(slot, ())
        self._next = max(self._next, last + 1)
        return found

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())
