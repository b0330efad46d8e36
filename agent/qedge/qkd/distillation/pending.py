"""Detections that are announced and do not belong to a block yet."""

from __future__ import annotations

from collections import deque

import numpy as np

from qedge.qkd.distillation.ports import Bytes


class Pending:
    """Columns of equal length, one entry a detection, and the announcements that they came in."""

    def __init__(self, columns: int) -> None:
        self._columns: list[list[Bytes]] = [[] for _ in range(columns)]
        self._announced: deque[tuple[int, bytes]] = deque()
        self._first = 0
        self._end = 0

    @property
    def number(self) -> int:
        """How many detections wait."""
        return self._end - self._first

    def add(self, announcement: bytes, *columns: Bytes) -> None:
        """Append what one announcement holds."""
        self._announced.append((self._end, announcement))
        for column, part in zip(self._columns, columns, strict=True):
            column.append(part)
        self._end += len(columns[0])

    def column(self, index: int) -> Bytes:
        """Return one column of all detections that wait."""
        return self._joined(index)

    def cut(self, number: int) -> tuple[list[bytes], list[Bytes]]:
        """Take the first `number` detections: the announcements up to the last of them not taken before, and columns.

        Both ends cut at the same detections, so both take the same announcements for the same block.
        """
        if not 0 < number <= self.number:
            raise ValueError("a block of more detections than were announced, or of none")
        taken = []
        for index in range(len(self._columns)):
            whole = self._joined(index)
            taken.append(whole[:number])
            self._columns[index] = [whole[number:].copy()]
        self._first += number
        announcements = []
        while self._announced and self._announced[0][0] < self._first:
            announcements.append(self._announced.popleft()[1])
        return announcements, taken

    def _joined(self, index: int) -> Bytes:
        parts = self._columns[index]
        if len(parts) != 1:
            parts[:] = [np.concatenate(parts) if parts else np.zeros(0, np.uint8)]
        return parts[0]
