"""What waits for one reader of the event stream: bounded, and only the newest of each thing."""

from __future__ import annotations


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


def sse_frame(event: str, data: bytes) -> bytes:
    """Write one server-sent event (WHATWG HTML §9.2); `data` is JSON, which has no raw line breaks."""
    return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"


HEARTBEAT = b": alive\n\n"
"""A comment that keeps the connection in use and lets the reader notice a dead one."""
