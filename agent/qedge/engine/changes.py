"""Tells followers which jobs changed: waiters for one job, and streams of all, each with a bounded buffer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from qedge.wire.jobs import JobView

STREAM_LIMIT: Final = 256


class Changes:
    """Published job views. A stream that is read too slowly loses its oldest entries, never the newest."""

    def __init__(self) -> None:
        self._waiters: dict[str, asyncio.Event] = {}
        self._streams: set[_Stream] = set()

    def publish(self, view: JobView) -> None:
        """Tell every stream."""
        for stream in self._streams:
            stream.entries.append(view)
            stream.arrived.set()

    def ended(self, job_id: str) -> None:
        """Wake those who wait for the end of a job."""
        waiter = self._waiters.pop(job_id, None)
        if waiter is not None:
            waiter.set()

    async def wait_end(self, job_id: str, timeout_s: float) -> None:
        """Return when the job has ended, or after `timeout_s` seconds."""
        waiter = self._waiters.setdefault(job_id, asyncio.Event())
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.wait()
        except TimeoutError:
            return

    async def follow(self) -> AsyncIterator[JobView]:
        """Yield every change from now on."""
        stream = _Stream()
        self._streams.add(stream)
        try:
            while True:
                while stream.entries:
                    yield stream.entries.popleft()
                stream.arrived.clear()
                await stream.arrived.wait()
        finally:
            self._streams.discard(stream)


class _Stream:
    def __init__(self) -> None:
        self.entries: deque[JobView] = deque(maxlen=STREAM_LIMIT)
        self.arrived = asyncio.Event()
