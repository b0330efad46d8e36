"""Listening sockets of devices: taken up within the limits of file descriptors, accepted a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from collections.abc import Callable
from typing import Final

from qedge.base.bucket import Bucket
from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.devices.ways_in.pace import Pace

_LOG: Final = get_logger("devices")
_BACKLOG: Final = 4096
_ACCEPTS_AT_ONCE: Final = 8
_FULL_WAIT_S: Final = 0.1
_NO_DESCRIPTOR_WAIT_S: Final = 0.5
_SPARE_DESCRIPTORS: Final = 256
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def room_for(max_connections: int) -> int:
    """Return how many connections the limit of file descriptors allows, having raised it as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max_connections + _SPARE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return max_connections
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard if hard < 0 else max(hard, needed)))  # root may
        return max_connections
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed >= needed:
        return max_connections
    room = max(1, allowed - _SPARE_DESCRIPTORS)
    _LOG.warning("devices.few_descriptors", wanted=max_connections, possible=room, limit=allowed)
    return room


def open_listener(address: str) -> socket.socket:
    """Listen at `IP:PORT`; port 0 takes a free one. Raises `start.port_taken`."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
        listener.bind((host, int(port)))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise QedgeError(
            "start.port_taken",
            f"Port {port} of {host} cannot be used for devices: {getattr(error, 'strerror', None) or error}.",
            fix="Set devices.listener to free addresses of this box.",
        ) from error
    return listener


class Door:
    """Accepts connections at some sockets, `per_s` a second in all, none while there is no room or `pace` rests.

    Who is not accepted yet waits in the backlog of the kernel, so that a storm of ten thousand is taken in at a pace
    that leaves the loop to everything else.
    """

    def __init__(
        self,
        accept: Callable[[socket.socket, str, bool], None],
        has_room: Callable[[], bool],
        *,
        per_s: float,
        pace: Pace,
        clock: Clock,
    ) -> None:
        self._accept = accept
        self._has_room = has_room
        self._pace = pace
        self._clock = clock
        self._bucket = Bucket(per_s, max(1.0, per_s / 4), clock.now_ns())
        self._listeners: list[tuple[socket.socket, bool]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._num_accepted = 0
        self.paused = ""
        """Why nobody is accepted at the moment; empty: they are."""

    def open(self, addresses: tuple[str, ...], tls_addresses: tuple[str, ...]) -> tuple[str, ...]:
        """Listen at all addresses, or at none and raise; returns them with their ports."""
        try:
            for address in addresses:
                self._listeners.append((open_listener(address), False))
            for address in tls_addresses:
                self._listeners.append((open_listener(address), True))
        except QedgeError:
            self.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._watch()
        return tuple(_shown(listener.getsockname()) for listener, _ in self._listeners)

    def close(self) -> None:
        """Listen no more."""
        self._unwatch()
        for listener, _ in self._listeners:
            listener.close()
        self._listeners.clear()
        self._loop = None

    def _watch(self) -> None:
        self.paused = ""
        if self._loop is not None:
            for listener, tls in self._listeners:
                self._loop.add_reader(listener.fileno(), self._ready, listener, tls)

    def _unwatch(self) -> None:
        if self._loop is not None:
            for listener, _ in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _pause(self, why: str, seconds: float) -> None:
        if self._loop is not None and not self.paused:
            self._unwatch()
            self.paused = why
            self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if self._loop is not None and self.paused:
            if self._has_room():
                self._watch()
            else:
                self._loop.call_later(_FULL_WAIT_S, self._resume)

    def _ready(self, listener: socket.socket, tls: bool) -> None:
        rest_s = self._pace.rest_s()
        if rest_s > 0:
            self._pause("rate", rest_s)
            return
        began_ns, before = self._pace.begin(), self._num_accepted
        self._accept_some(listener, tls)
        self._pace.spent(began_ns, self._num_accepted - before)

    def _accept_some(self, listener: socket.socket, tls: bool) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if not self._has_room():
                self._pause("full", _FULL_WAIT_S)
                return
            try:
                connection, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                why = "descriptors" if error.errno in _NO_DESCRIPTORS else "error"
                self._pause(why, _NO_DESCRIPTOR_WAIT_S)
                return
            connection.setblocking(False)
            self._num_accepted += 1
            self._accept(connection, str(address[0]), tls)
            wait_s = self._bucket.take(1, self._clock.now_ns())
            if wait_s > 0:
                self._pause("rate", wait_s)
                return


def _shown(address: tuple[object, ...]) -> str:
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
