"""What waits for one reader of the event stream, and what is kept for those who come back: both bounded."""

from __future__ import annotations

from collections import deque

from qedge.wire.events import NodeEvent
from qedge.wire.jobs import JobView


class EventBuffer:
    """Frames by key, oldest first. A newer frame of the same key takes the place of the one that still waits."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: dict[str, bytes] = {}
        self.dropped = 0
        """Frames thrown away unread because the reader was too slow."""

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, key: str, frame: bytes) -> None:
        """Keep a frame; drops the oldest of another key where the buffer is full."""
        if key not in self._frames and len(self._frames) >= self._limit:
            del self._frames[next(iter(self._frames))]
            self.dropped += 1
        self._frames[key] = frame

    def take(self) -> tuple[bytes, ...]:
        """Return all frames and forget them."""
        frames = tuple(self._frames.values())
        self._frames.clear()
        return frames


class History:
    """The newest jobs and events of this run of the node, numbered together; older ones are forgotten.

    Each kind has its own room for `limit`, so that many jobs do not push out the few events that say what went wrong.
    """

    def __init__(self, limit: int) -> None:
        self._jobs: deque[tuple[int, JobView | NodeEvent]] = deque(maxlen=limit)
        self._events: deque[tuple[int, JobView | NodeEvent]] = deque(maxlen=limit)
        self.newest = 0

    def add(self, event: JobView | NodeEvent) -> int:
        """Keep an event and return its number."""
        self.newest += 1
        (self._jobs if isinstance(event, JobView) else self._events).append((self.newest, event))
        return self.newest

    def after(self, number: int) -> tuple[int, list[tuple[int, JobView | NodeEvent]]]:
        """Return how many after `number` are forgotten, and those that are kept, oldest first."""
        kept = sorted(
            (each for row in (self._jobs, self._events) for each in row if each[0] > number), key=lambda each: each[0]
        )
        return self.newest - number - len(kept), kept


def sse_frame(event: str, data: bytes, event_id: str = "") -> bytes:
    """Write one server-sent event (WHATWG HTML §9.2); `data` is JSON, which has no raw line breaks."""
    head = b"id: " + event_id.encode() + b"\n" if event_id else b""
    return head + b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


HEARTBEAT = b": alive\n\n"
"""A comment that keeps the connection in use and lets the reader notice a dead one."""
