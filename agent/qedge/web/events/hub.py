"""Follows the node once and hands every event to all open streams, each with a bounded buffer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger, listening
from qedge.base.metrics import Metrics
from qedge.web.events.buffer import HEARTBEAT, EventBuffer, History, sse_frame
from qedge.wire.events import Detail, EventGap, NodeEvent
from qedge.wire.jobs import JobView
from qedge.wire.node import NodeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qedge.web.events.ports import EventsPort

_LOG = get_logger("web")
_RETRY_S = 1.0
HISTORY: Final = 512
"""Jobs, and as many events, that a reader who comes back can still have."""
FROM_START: Final = "0"
"""`Last-Event-ID` of a reader that wants all that is kept."""
_MAX_TEXT: Final = 300
_MAX_FIELDS: Final = 24
_NOT_FIELDS: Final = frozenset({"event", "level", "timestamp", "room"})


class Stream:
    """One reader: `frames` gives what is new, or a heartbeat where nothing came for `heartbeat_s` seconds."""

    def __init__(self, limit: int, heartbeat_s: float, first: bytes) -> None:
        self._heartbeat_s = heartbeat_s
        self._news = asyncio.Event()
        self._closed = False
        self._first = first
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
        yield self._first
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
    """Streams of one node: jobs and log events as they come, the status every `interval_s` s while anyone reads.

    Jobs and events have ids, `BOOT-NUMBER`, from which a reader can go on; the newest `HISTORY` are kept for that.
    """

    def __init__(
        self,
        node: EventsPort,
        metrics: Metrics,
        *,
        clock: Clock,
        interval_s: float,
        max_streams: int,
        buffer_limit: int,
        heartbeat_s: float = 15.0,
    ) -> None:
        self._node = node
        self._metrics = metrics
        self._clock = clock
        self._interval_s = interval_s
        self._max_streams = max_streams
        self._buffer_limit = buffer_limit
        self._heartbeat_s = heartbeat_s
        self._streams: set[Stream] = set()
        self._watched = asyncio.Event()
        self._history = History(HISTORY)
        self._boot = ""

    @contextmanager
    def stream(self, last_id: str = "") -> Iterator[Stream]:
        """Open a stream; raises `http.busy` where there are too many.

        It begins with what came after `last_id` (`FROM_START`: all that is kept; empty: nothing), then the status of
        now, which so marks the end of what is old.
        """
        if len(self._streams) >= self._max_streams:
            raise QedgeError("http.busy", f"There are {self._max_streams} event streams already.", fix="Close one.")
        status = self._node.status()
        self._boot = status.boot_id.partition("-")[0]
        first = self._since(last_id) + _status_frame(status)
        stream = Stream(self._buffer_limit, self._heartbeat_s, first)
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
        loop = asyncio.get_running_loop()

        def hear(line: Mapping[str, object]) -> None:
            # lines come from any thread, and the last ones when the loop is closed already
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self.tell, event_of(line, self._clock.utc_ns()))

        with listening(hear):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_status())
                group.create_task(self._follow_jobs())

    def tell(self, event: JobView | NodeEvent) -> None:
        """Keep an event and hand it to all readers."""
        number = self._history.add(event)
        if self._streams:
            # of a job only its newest state matters to a slow reader; events are told one by one
            key = event.id if isinstance(event, JobView) else str(number)
            frame = self._frame(number, event)
            for stream in self._streams:
                stream.put(key, frame)

    async def _follow_status(self) -> None:
        while True:
            if not self._streams:
                self._watched.clear()
                await self._watched.wait()
            await asyncio.sleep(self._interval_s)
            if self._streams:
                frame = _status_frame(self._node.status())
                for stream in self._streams:
                    stream.put("status", frame)

    async def _follow_jobs(self) -> None:
        while True:
            try:
                async for job in self._node.job_events():
                    # A result may be megabytes; who wants it asks for the job.
                    self.tell(job if job.result is None else msgspec.structs.replace(job, result=None))
            except QedgeError as error:
                _LOG.warning("http.failed", route="/v1/events", error=str(error))
            await asyncio.sleep(_RETRY_S)

    def _since(self, last_id: str) -> bytes:
        if not last_id:
            return b""
        boot, _, digits = last_id.partition("-")
        known = boot == self._boot and digits.isascii() and digits.isdigit() and len(digits) < 16
        number = int(digits) if known else 0
        if number > self._history.newest:
            number, known = 0, False
        missed, kept = self._history.after(number)
        if last_id == FROM_START:
            missed = 0
        elif not known:
            missed = -1
        gap = sse_frame("gap", msgspec.json.encode(EventGap(missed))) if missed else b""
        return gap + b"".join(self._frame(*each) for each in kept)

    def _frame(self, number: int, event: JobView | NodeEvent) -> bytes:
        name = "job" if isinstance(event, JobView) else "event"
        return sse_frame(name, msgspec.json.encode(event), f"{self._boot}-{number}")


def event_of(line: Mapping[str, object], utc_ns: int) -> NodeEvent:
    """Make an event of a log line, with at most 24 fields of 300 characters."""
    fields = {name: _detail(value) for name, value in line.items() if name not in _NOT_FIELDS}
    return NodeEvent(
        name=_text(line.get("event", "")),
        utc_ns=utc_ns,
        level=str(line.get("level", "info")),
        room=_text(line.get("room", "")),
        fields=dict(list(fields.items())[:_MAX_FIELDS]),
    )


def _detail(value: object) -> Detail:
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)[:_MAX_TEXT]
    if isinstance(value, str):
        return _text(value)
    try:
        return msgspec.json.encode(value).decode()[:_MAX_TEXT]
    except (TypeError, ValueError):
        return repr(value)[:_MAX_TEXT]


def _text(value: object) -> str:
    """Cut a text, and replace what is no text: Python makes half characters of file names that are no UTF-8."""
    return str(value)[:_MAX_TEXT].encode("utf-8", "replace").decode()


def _status_frame(status: NodeStatus) -> bytes:
    return sse_frame("status", msgspec.json.encode(status))
