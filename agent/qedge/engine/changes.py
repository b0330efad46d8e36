"""Tells followers which jobs changed: waiters for one job, and streams of all, each with a bounded buffer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import msgspec

from qedge.wire.jobs import JobView

STREAM_LIMIT: Final = 256
_KEPT: Final = 8
_KEPT_BYTES: Final = 48 * 1024
_LARGE: Final = 4
_LARGE_BYTES: Final = 2 * 2**20
_LARGE_S: Final = 1.0
"""Whoever waited for a large result reads it within this time; from the database it would be unpacked once for each."""


def keeps(view: JobView) -> bool:
    """Tell whether the end of a job is small enough to be kept at hand."""
    return _size_bytes(view) <= _KEPT_BYTES


def _size_bytes(view: JobView) -> int:
    if view.result is None:
        return 0
    return view.estimate.result_bytes if view.estimate is not None else 32 * len(view.result.counts)


class Changes:
    """Published job views. A stream that is read too slowly loses its oldest entries, never the newest."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._streams: set[_Stream] = set()
        self._hooks: list[Callable[[JobView], None]] = []
        self._last: OrderedDict[str, JobView] = OrderedDict()
        self._large: dict[str, JobView] = {}

    def publish(self, view: JobView) -> None:
        """Tell every hook and stream."""
        for hook in tuple(self._hooks):
            hook(view)
        for stream in self._streams:
            if len(stream.entries) == stream.entries.maxlen:
                stream.lost()
            stream.entries.append(view)
            stream.arrived.set()

    def last(self, job_id: str) -> JobView | None:
        """Return a job that ended a moment ago, with its result; the last few are kept, and large ones for a second."""
        return self._last.get(job_id) or self._large.get(job_id)

    def ended(self, view: JobView) -> None:
        """Tell streams without the result, and wake those who wait for the end of the job."""
        self.publish(msgspec.structs.replace(view, result=None))
        self._last.pop(view.id, None)  # another end of it, of another size, may be there
        self._large.pop(view.id, None)
        if keeps(view):
            self._last[view.id] = view
            if len(self._last) > _KEPT:
                self._last.popitem(last=False)
        elif _size_bytes(view) <= _LARGE_BYTES:
            if len(self._large) == _LARGE:
                self._large.pop(next(iter(self._large)))
            self._large[view.id] = view
            asyncio.get_running_loop().call_later(_LARGE_S, self._large.pop, view.id, None)
        for waiter in self._waiters.pop(view.id, ()):
            waiter.set()

    async def wait_end(self, job_id: str, timeout_s: float) -> None:
        """Return when the job has ended, or after `timeout_s` seconds."""
        ended = asyncio.Event()
        waiters = self._waiters.setdefault(job_id, set())
        waiters.add(ended)
        try:
            async with asyncio.timeout(timeout_s):
                await ended.wait()
        except TimeoutError:
            return
        finally:
            # who went away, or waited long enough, leaves nothing behind
            waiters.discard(ended)
            if not waiters and self._waiters.get(job_id) is waiters:
                del self._waiters[job_id]

    @property
    def waiting(self) -> int:
        """How many wait for the end of a job."""
        return sum(map(len, self._waiters.values()))

    @contextlib.contextmanager
    def heard_by(self, hook: Callable[[JobView], None]) -> Iterator[None]:
        """Call `hook` with every change, without its result, in the moment in which it happens; it must not raise.

        For rooms of this node, which do little for most jobs: a stream of each would wake a task twice for every job.
        """
        self._hooks.append(hook)
        try:
            yield
        finally:
            self._hooks.remove(hook)

    async def follow(self, lost: Callable[[], None] = lambda: None) -> AsyncIterator[JobView]:
        """Yield every change from now on; `lost` is called for each that is lost."""
        stream = _Stream(lost)
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
    def __init__(self, lost: Callable[[], None]) -> None:
        self.lost = lost
        self.entries: deque[JobView] = deque(maxlen=STREAM_LIMIT)
        self.arrived = asyncio.Event()
