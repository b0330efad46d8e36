"""Readings for apps in this node: a bounded queue each, with a count of what it lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from qedge.devices.segments.lanes import Lanes
from qedge.devices.segments.model import Reading, RetentionClass


class AppPort(Protocol):
    """What an app reads: iterate over it; leave with `close`. In order for each device of a segment."""

    @property
    def dropped(self) -> Mapping[RetentionClass, int]:
        """How many readings the app was too slow for, by class."""
        ...

    def __aiter__(self) -> AsyncIterator[Reading]:
        """Give readings until the app closes the feed or loses its right to it."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...


class Feed:
    """Implements `AppPort`. `refusal` says why it ended, empty while it goes on or where the app closed it."""

    def __init__(self, limit: int) -> None:
        self._lanes: Lanes[Reading] = Lanes(limit)
        self._filled = asyncio.Event()
        self._closed = False
        self.refusal = ""

    @property
    def dropped(self) -> Mapping[RetentionClass, int]:
        """How many readings the app was too slow for, by class."""
        return self._lanes.dropped

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""
        return self._closed

    def put(self, retention: RetentionClass, reading: Reading) -> None:
        """Hand over a reading."""
        self._lanes.put(retention, reading)
        self._filled.set()

    def close(self, refusal: str = "") -> None:
        """End the feed; what waits can still be read unless the right to it is gone."""
        if refusal and not self._closed:
            self._lanes = Lanes(1)
        self._closed, self.refusal = True, self.refusal or refusal
        self._filled.set()

    async def some(self, limit: int) -> list[Reading]:
        """Wait for readings and return those that are there, at most `limit`; none only where the feed has ended."""
        found: list[Reading] = []
        while len(found) < limit:
            next_one = self._lanes.take()
            if next_one is not None:
                found.append(next_one[1])
            elif found or self._closed:
                break
            else:
                self._filled.clear()
                await self._filled.wait()
        return found

    async def __aiter__(self) -> AsyncIterator[Reading]:
        while True:
            next_one = self._lanes.take()
            if next_one is not None:
                yield next_one[1]
            elif self._closed:
                return
            else:
                self._filled.clear()
                await self._filled.wait()
