"""Sockets of devices, read in small turns, with an urgent lane.

All device sockets hang on two epoll sets of their own, which the event loop watches as two descriptors (epoll(7) may
be nested). That is what bounds the work: a turn reads a few KiB of each socket and ends after a millisecond, so the
loop gets to everything else between turns however much devices send. Within a turn the urgent set is looked at again
and again, so a safety device waits for a handful of messages at most and never for the burst of the others. And answers
go out with `send` at once; a transport of uvloop writes only after it has read from every socket that is ready.

A turn of the loop for one message costs as much as the message. So where turns follow each other within a quarter of a
millisecond, the ordinary set is no longer watched but looked at every millisecond, as network cards do with their
interrupts, until there is little to find. The urgent set is watched always.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol

from qedge.base.clock import Clock

_EVENTS_AT_ONCE: Final = 8
_URGENT_EVENTS: Final = 16
_TURN_NS: Final = 1_000_000
_LOOK_NS: Final = 50_000
"""For so long ordinary sockets are served before the urgent ones are looked at again."""

_COUNTED: Final = 32
"""So many turns, or steps, in a row are judged together: devices that send at the same moment are no heavy load."""

_CLOSE_NS: Final = 250_000
_STEP_S: Final = 0.001
_ENOUGH: Final = 2
"""A step costs as much as the turns of two messages."""


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
        self._since_ns = clock.now_ns()
        self._num_turns = 0
        self._num_steps = 0
        self._num_stepped = 0
        self.ordinary: select.epoll
        self.urgent: select.epoll
        self.stalled: dict[Stalled, None] = {}
        """Sockets that do not take what is sent to them."""

    def start(self) -> None:
        """Have the running loop watch both sets."""
        self.ordinary, self.urgent = select.epoll(), select.epoll()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.urgent.fileno(), self.serve_urgent)
        self._loop.add_reader(self.ordinary.fileno(), self._ordinary_ready)

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

    def _ordinary_ready(self) -> None:
        """Serve the ordinary lane at once, and go over to steps where that is asked for too often."""
        loop = self._loop
        if loop is None:
            return
        self._turn()
        self._num_turns += 1
        if self._num_turns < _COUNTED:
            return
        since_ns, self._since_ns, self._num_turns = self._since_ns, self._clock.now_ns(), 0
        if self._since_ns - since_ns < _COUNTED * _CLOSE_NS:
            self._num_steps = self._num_stepped = 0
            loop.remove_reader(self.ordinary.fileno())
            loop.call_later(_STEP_S, self._step)

    def _step(self) -> None:
        """Serve the ordinary lane, and do so again after a while, for as long as that finds enough."""
        loop = self._loop
        if loop is None:
            return
        number, is_done = self._turn()
        self._num_steps += 1
        self._num_stepped += number
        if self._num_steps == _COUNTED:
            if self._num_stepped < _COUNTED * _ENOUGH:
                self._num_turns, self._since_ns = 0, self._clock.now_ns()
                loop.add_reader(self.ordinary.fileno(), self._ordinary_ready)
                return
            self._num_steps = self._num_stepped = 0
        if is_done:
            loop.call_later(_STEP_S, self._step)
        else:
            loop.call_soon(self._step)

    def _turn(self) -> tuple[int, bool]:
        """Serve what is ready for a millisecond, the oldest first; returns how often, and whether that was all.

        Some are asked for at a time, and all of them are served: epoll puts what it has named behind all others, so
        what was left over would wait longest. What comes meanwhile is served in the same turn.
        """
        clock_ns, served_by, poll = self._clock.now_ns, self._served.get, self.ordinary.poll
        now_ns, utc_ns = self.now()
        until_ns, look_ns = now_ns + _TURN_NS, now_ns + _LOOK_NS
        number = 0
        while events := poll(0, _EVENTS_AT_ONCE):
            for fd, mask in events:
                served = served_by(fd)
                if served is not None:
                    served.serve(mask, now_ns, utc_ns)
            number += len(events)
            now_ns = clock_ns()
            if now_ns >= until_ns:
                return number, False
            if now_ns >= look_ns:
                self.serve_urgent()
                look_ns = now_ns + _LOOK_NS
        return number, True
