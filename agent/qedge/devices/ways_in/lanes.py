"""Sockets of devices, read in small turns, with an urgent lane.

All device sockets hang on two epoll sets of their own, which the event loop watches as two descriptors (epoll(7) may
be nested). That is what bounds the work: a turn reads a few KiB of each socket and ends after a millisecond, so the
loop gets to everything else between turns however much devices send. Within a turn the urgent set is looked at again
and again, so a safety device waits for a handful of messages at most and never for the burst of the others. And answers
go out with `send` at once; a transport of uvloop writes only after it has read from every socket that is ready.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol

from qedge.base.clock import Clock

_EVENTS_AT_ONCE: Final = 4
_URGENT_EVENTS: Final = 16
_TURN_NS: Final = 1_000_000


class Served(Protocol):
    """What has a descriptor in a lane."""

    def serve(self, events: int, now_ns: int, utc_ns: int) -> None:
        """Read and write as far as `events` say."""
        ...


class Stalled(Protocol):
    """A socket that does not take what is sent to it, since `stalled_ns`."""

    stalled_ns: int

    def cut(self, reason: str) -> None:
        """Close now."""
        ...


class Lanes:
    """The two epoll sets, watched by the running event loop from `start` to `close`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._served: dict[int, Served] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ordinary: select.epoll
        self.urgent: select.epoll
        self.stalled: dict[Stalled, None] = {}
        """Sockets that do not take what is sent to them."""

    def start(self) -> None:
        """Have the running loop watch both sets."""
        self.ordinary, self.urgent = select.epoll(), select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.urgent.fileno(), self.serve_urgent)
        self._loop.add_reader(self.ordinary.fileno(), self._serve_ordinary)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._loop is None:
            return
        self._loop.remove_reader(self.urgent.fileno())
        self._loop.remove_reader(self.ordinary.fileno())
        self._loop = None
        self.urgent.close()
        self.ordinary.close()

    def add(self, fd: int, served: Served) -> None:
        """Say who has a descriptor; it is watched once it is registered with a lane."""
        self._served[fd] = served

    def remove(self, fd: int) -> None:
        """Forget a descriptor, before it is closed."""
        self._served.pop(fd, None)

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle | None:
        """Call something after a while."""
        return self._loop.call_later(seconds, call) if self._loop is not None else None

    def soon(self, call: Callable[[], None]) -> None:
        """Call something in the next turn."""
        if self._loop is not None:
            self._loop.call_soon(call)

    def now(self) -> tuple[int, int]:
        """Return boot-time and wall clock."""
        return self._clock.now_ns(), self._clock.utc_ns()

    def serve_urgent(self) -> None:
        """Serve what is ready in the urgent lane; whoever works long on the loop's thread may call this in between."""
        if self._loop is None:
            return
        events = self.urgent.poll(0, _URGENT_EVENTS)
        if events:
            now_ns, utc_ns = self.now()
            for fd, mask in events:
                served = self._served.get(fd)
                if served is not None:
                    served.serve(mask, now_ns, utc_ns)

    def _serve_ordinary(self) -> None:
        """Serve what is ready for a millisecond, the oldest first.

        A few are asked for at a time, and all of them are served: epoll puts what it has named behind all others, so
        what was left over would wait longest. What comes meanwhile is served in the same turn. After each few the
        urgent lane is looked at.
        """
        clock_ns, served_by, poll = self._clock.now_ns, self._served.get, self.ordinary.poll
        now_ns, utc_ns = self.now()
        until_ns = now_ns + _TURN_NS
        while events := poll(0, _EVENTS_AT_ONCE):
            for fd, mask in events:
                served = served_by(fd)
                if served is not None:
                    served.serve(mask, now_ns, utc_ns)
            self.serve_urgent()
            now_ns = clock_ns()
            if now_ns >= until_ns:
                return  # what was not served is ready still
