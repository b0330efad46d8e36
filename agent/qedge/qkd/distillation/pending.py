"""Detections that are announced and do not belong to a block yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from qedge.qkd.distillation.bits import join_bits, ones_in, place_of_one, take_bits
from qedge.qkd.distillation.ports import Bytes
from qedge.qkd.finite_key.limits import Seen

_NOTHING: Final = Seen()


@dataclass(slots=True)
class _Batch:
    """What one announcement holds; `body` is None once the announcement belongs to a block."""

    body: bytes | None
    number: int
    columns: tuple[Bytes, ...]
    seen: Seen


class Pending:
    """Columns of packed bits, one bit a detection each, and the announcements that they came in."""

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque()
        self.number = 0
        """How many detections wait."""

    def add(self, announcement: bytes, number: int, *columns: Bytes, seen: Seen = _NOTHING) -> None:
        """Append what one announcement holds, which is one detection at least."""
        self._batches.append(_Batch(announcement, number, columns, seen))
        self.number += number

    def place_of(self, wanted: int, column: int) -> int:
        """Return how many detections there are up to the `wanted`-th one with a 1 in a column."""
        place = 0
        for batch in self._batches:
            ones = ones_in(batch.columns[column])
            if ones >= wanted:
                return place + place_of_one(batch.columns[column], wanted) + 1
            wanted -= ones
            place += batch.number
        raise ValueError("fewer detections than are wanted")

    def cut(self, number: int) -> tuple[list[bytes], list[Bytes], Seen]:
        """Take the first `number` detections: announcements up to the last of them not taken before, columns, the rest.

        Both ends cut at the same detections, so both take the same announcements for the same block.
        """
        if not 0 < number <= self.number:
            raise ValueError("a block of more detections than were announced, or of none")
        self.number -= number
        announcements: list[bytes] = []
        parts: list[_Batch] = []
        while number:
            batch = self._batches[0]
            if batch.body is not None:
                announcements.append(batch.body)
                batch.body = None
            if batch.number <= number:
                parts.append(batch)
                number -= batch.number
                self._batches.popleft()
            else:
                columns = tuple(take_bits(column, 0, number) for column in batch.columns)
                parts.append(_Batch(None, number, columns, batch.seen.part(number)))
                batch.columns = tuple(take_bits(column, number, batch.number) for column in batch.columns)
                batch.seen = batch.seen.part(batch.number - number)
                batch.number -= number
                number = 0
        places = range(len(parts[0].columns))
        joined = [join_bits([(part.columns[place], part.number) for part in parts]) for place in places]
        return announcements, joined, sum((part.seen for part in parts), _NOTHING)
