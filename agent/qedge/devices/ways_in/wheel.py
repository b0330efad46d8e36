"""Deadlines of many connections, looked at once each time they may have passed, and never all at once."""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Wheel(Generic[Item]):
    """Keeps things under the time at which they want to be looked at, `slot_ns` nanoseconds exact.

    A thing that moves its deadline back is not touched: whoever looks at it finds that it is not due and adds it anew.
    A thing that is gone has to be removed, or it would be kept until its deadline, half an hour for a silent device.
    """

    def __init__(self, slot_ns: int, now_ns: int) -> None:
        self._slot_ns = slot_ns
        self._next = now_ns // slot_ns
        self._slots: dict[int, dict[Item, None]] = {}
        self._where: dict[Item, int] = {}

    def add(self, item: Item, due_ns: int) -> None:
        """Have `item` returned by the first `due` at or after `due_ns`, and not by an earlier time it was added for."""
        self.remove(item)
        slot = self._where[item] = max(-(-due_ns // self._slot_ns), self._next)
        self._slots.setdefault(slot, {})[item] = None

    def remove(self, item: Item) -> None:
        """Forget an item, if it is here."""
        slot = self._where.pop(item, None)
        if slot is not None:
            items = self._slots[slot]
            del items[item]
            if not items:
                del self._slots[slot]

    def due(self, now_ns: int) -> list[Item]:
        """Take out what is due."""
        found: list[Item] = []
        last = now_ns // self._slot_ns
        if last - self._next > len(self._slots):  # the clock jumped: what is kept is less than what was passed
            for slot in sorted(each for each in self._slots if each <= last):
                found += self._slots.pop(slot)
        else:
            for slot in range(self._next, last + 1):
                found += self._slots.pop(slot, {})
        self._next = max(self._next, last + 1)
        for item in found:
            del self._where[item]
        return found

    def __len__(self) -> int:
        return len(self._where)
