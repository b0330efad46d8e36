"""Follows the node once and hands every event to all open streams, each with a bounded buffer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.web.buffer import HEARTBEAT, EventBuffer, sse_frame
from qedge.web.ports import NodePort
from qedge.wire.jobs import JobView
from qedge.wire.node import NodeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = get_logger("web")
_RETRY_S = 1.0


class Stream:
    """One reader: `frames` gives what is new, or a heartbeat where nothing came for `heartbeat_s` seconds."""

    def __init__(self, limit: int, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._news = asyncio.Event()
        self._closed = False
        self.buffer = EventBuffer(limit)

    def put(self, key: str, frame: bytes) -> None:
        """Add a frame and wake the reader."""
        self.buffer.put(key, frame)
        self._news.set()

    def close(self) -> None:
        """Let the reader finish."""
        self._closed = True
        self._news.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Give bytes to send until the stream is closed."""
        while not self._closed:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._news.wait()
            except TimeoutError:
                yield HEARTBEAT
                continue
            self._news.clear()
            frames = self.buffer.take()
            if frames:
                yield b"".join(frames)


class EventHub:
    """Streams of one node. Job events come as they happen, the status every `interval_s` seconds while anyone reads."""

    def __init__(
        self,
        node: NodePort,
        metrics: Metrics,
        *,
        interval_s: float,
        max_streams: int,
        buffer_limit: int,
        heartbeat_s: float = 15.0,
    ) -> None:
        self._node = node
        self._metrics = metrics
        self._interval_s = interval_s
        self._max_streams = max_streams
        self._buffer_limit = buffer_limit
        self._heartbeat_s = heartbeat_s
        self._streams: set[Stream] = set()
        self._watched = asyncio.Event()

    @contextmanager
    def stream(self) -> Iterator[Stream]:
        """Open a stream that begins with the status of now; raises `http.busy` where there are too many."""
        if len(self._streams) >= self._max_streams:
            raise QedgeError("http.busy", f"There are {self._max_streams} event streams already.", fix="Close one.")
        stream = Stream(self._buffer_limit, self._heartbeat_s)
        stream.put("status", _status_frame(self._node.status()))
        self._streams.add(stream)
        self._watched.set()
        self._metrics.set("qedge_http_streams", len(self._streams))
        try:
            yield stream
        finally:
            self._streams.discard(stream)
            self._metrics.set("qedge_http_streams", len(self._streams))
            if stream.buffer.dropped:
                self._metrics.add("qedge_http_events_dropped_total", (), stream.buffer.dropped)

    def close(self) -> None:
        """Let all readers finish."""
        for stream in self._streams:
            stream.close()

    async def run(self) -> None:
        """Follow the node until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_status())
            group.create_task(self._follow_jobs())

    async def _follow_status(self) -> None:
        while True:
            if not self._streams:
                self._watched.clear()
                await self._watched.wait()
            await asyncio.sleep(self._interval_s)
            if self._streams:
                self._publish("status", _status_frame(self._node.status()))

    async def _follow_jobs(self) -> None:
        while True:
            try:
                async for job in self._node.job_events():
                    if self._streams:
                        self._publish(job.id, _job_frame(job))
            except QedgeError as error:
                _LOG.warning("http.failed", route="/v1/events", error=str(error))
            await asyncio.sleep(_RETRY_S)

    def _publish(self, key: str, frame: bytes) -> None:
        for stream in self._streams:
            stream.put(key, frame)


def _status_frame(status: NodeStatus) -> bytes:
    return sse_frame("status", msgspec.json.encode(status))


def _job_frame(job: JobView) -> bytes:
    # A result may be megabytes; who wants it asks for the job.
    return sse_frame("job", msgspec.json.encode(msgspec.structs.replace(job, result=None)))
