"""Detections that are announced and do not belong to a block yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from qedge.qkd.distillation.ports import Bytes


@dataclass(slots=True)
class _Batch:
    """What one announcement holds; `body` is None once the announcement belongs to a block."""

    body: bytes | None
    columns: tuple[Bytes, ...]

    def __len__(self) -> int:
        return len(self.columns[0])


class Pending:
    """Columns of equal length, one entry a detection, and the announcements that they came in."""

    def __init__(self) -> None:
        self._batches: deque[_Batch] = deque()
        self.number = 0
        """How many detections wait."""

    def add(self, announcement: bytes, *columns: Bytes) -> None:
        """Append what one announcement holds, which is one detection at least."""
        self._batches.append(_Batch(announcement, columns))
        self.number += len(columns[0])

    def place_of(self, wanted: int, column: int) -> int:
        """Return how many detections there are up to the `wanted`-th one with a 1 in a column."""
        place = 0
        for batch in self._batches:
            ones = int(np.count_nonzero(batch.columns[column]))
            if ones >= wanted:
                return place + int(np.flatnonzero(batch.columns[column])[wanted - 1]) + 1
            wanted -= ones
            place += len(batch)
        raise ValueError("fewer detections than are wanted")

    def cut(self, number: int) -> tuple[list[bytes], list[Bytes]]:
        """Take the first `number` detections: the announcements up to the last of them not taken before, and columns.

        Both ends cut at the same detections, so both take the same announcements for the same block.
        """
        if not 0 < number <= self.number:
            raise ValueError("a block of more detections than were announced, or of none")
        self.number -= number
        announcements: list[bytes] = []
        parts: list[tuple[Bytes, ...]] = []
        while number:
            batch = self._batches[0]
            if batch.body is not None:
                announcements.append(batch.body)
                batch.body = None
            if len(batch) <= number:
                parts.append(batch.columns)
                number -= len(batch)
                self._batches.popleft()
            else:
                parts.append(tuple(column[:number] for column in batch.columns))
                batch.columns = tuple(column[number:] for column in batch.columns)
                number = 0
        return announcements, [np.concatenate(column) for column in zip(*parts, strict=True)]
