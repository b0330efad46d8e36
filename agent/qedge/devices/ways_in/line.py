"""One socket of a device in a lane: what is read goes to its taker, what is written leaves at once or waits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from qedge.devices.ways_in.lanes import Lanes

READ_BYTES: Final = 4096
_READS_BEFORE_CLOSE: Final = 4
_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_BROKEN: Final = select.EPOLLHUP | select.EPOLLERR


class Taker(Protocol):
    """Takes what a socket gives."""

    def take(self, data: bytes, now_ns: int, utc_ns: int) -> None:
        """Take some bytes; never raises."""
        ...


class Line:
    """One socket that does not block. `receive` and `transmit` are those of the socket, or of TLS on it.

    Both raise `BlockingIOError` where they have to wait and any other `OSError` where the connection is broken.
    """

    __slots__ = (
        "_closed",
        "_ended",
        "_held",
        "_lane",
        "_lanes",
        "_mask",
        "_max_bytes",
        "_out",
        "_pending",
        "_receive",
        "_take",
        "_transmit",
        "address",
        "fd",
        "group",
        "quick_ack",
        "sock",
        "stalled_ns",
        "taker",
    )

    def __init__(
        self,
        sock: socket.socket,
        lanes: Lanes,
        taker: Taker,
        ended: Callable[[Line, str], None],
        *,
        address: str,
        max_bytes: int,
        receive: Callable[[int], bytes] | None = None,
        transmit: Callable[[bytes], int] | None = None,
        pending: Callable[[], int] | None = None,
        group: str = "",
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.taker = taker
        self._take = taker.take
        self.address = address
        self.group = group
        self.quick_ack = False
        self.stalled_ns = 0
        self._receive = receive
        self._transmit = transmit
        self._pending = pending
        self._lanes = lanes
        self._lane = lanes.ordinary
        self._ended = ended
        self._max_bytes = max_bytes
        self._out: bytearray | None = None
        self._held: asyncio.TimerHandle | None = None
        self._closed = False
        self._mask = _IN
        lanes.add(self.fd, self)
        self._lane.register(self.fd, _IN)

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self._closed

    def promote(self) -> None:
        """Move to the urgent lane, and acknowledge segments at once from now on."""
        if self._closed or self._lane is self._lanes.urgent:
            return
        mask, self._mask = self._mask, 0
        if mask:
            self._lane.unregister(self.fd)
        self._lane = self._lanes.urgent
        self.quick_ack = True
        self._watch(mask)

    def serve(self, events: int, now_ns: int, utc_ns: int) -> None:
        """Read a little, write what waits."""
        if events == _IN == self._mask and self._receive is None and not self.quick_ack:
            try:
                data = os.read(self.fd, READ_BYTES)  # with ten thousand sockets, one object less to look at
            except BlockingIOError:
                return
            except OSError:
                self._finish("broken")
                return
            if data:
                self._take(data, now_ns, utc_ns)
            else:
                self._finish("closed_by_peer")
            return
        if events & _OUT:
            self._flush(now_ns)
        if self._closed:
            return
        if self._mask & _IN:
            if events & ~_OUT:
                self._read(now_ns, utc_ns)
        elif events & _BROKEN:
            self._finish("broken")

    def write(self, data: bytes) -> bool:
        """Send at once, or keep what does not fit; False where too much waits already, and nothing was taken."""
        if self._closed:
            return False
        waiting = self._out
        if waiting is not None:
            if len(waiting) + len(data) > self._max_bytes:
                return False
            waiting += data
            return True
        try:
            sent = self.sock.send(data) if self._transmit is None else self._transmit(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._finish("broken")
            return False
        if sent < len(data):
            self._out = bytearray(data[sent:])
            self.stalled_ns = self._lanes.now()[0]
            self._lanes.stalled[self] = None
            self._watch(self._mask | _OUT)
        return True

    @contextlib.contextmanager
    def corked(self) -> Iterator[None]:
        """Send what is written within in one piece at the end."""
        if self._out is None and not self._closed:
            self._out = bytearray()
        try:
            yield
        finally:
            self._uncork()

    def hold(self, seconds: float) -> None:
        """Read nothing for so long; 0: read on."""
        if self._closed:
            return
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if seconds > 0:
            self._watch(self._mask & ~_IN)
            self._held = self._lanes.later(seconds, self._read_on)
        else:
            self._read_on()

    def close(self, reason: str) -> None:
        """Close at once; what was sent still arrives."""
        if self._closed:
            return
        self._uncork()
        # A socket that is closed with data unread is reset, and the other side may lose what it was told last.
        with contextlib.suppress(OSError):
            for _ in range(_READS_BEFORE_CLOSE):  # of one that broke when it was written to, nothing is read
                if not self.sock.recv(65_536):
                    break
        self._finish(reason)

    def cut(self, reason: str) -> None:
        """Close now, whatever is still under way."""
        self._finish(reason)

    def _uncork(self) -> None:
        waiting = self._out
        if waiting is None or self._mask & _OUT:
            return  # not corked, or the socket has to take more first
        self._out = None
        if waiting:
            self.write(bytes(waiting))

    def _read(self, now_ns: int, utc_ns: int) -> None:
        try:
            data = self.sock.recv(READ_BYTES) if self._receive is None else self._receive(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._finish("broken")
            return
        if not data:
            self._finish("closed_by_peer")
            return
        if self.quick_ack:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._take(data, now_ns, utc_ns)
        if self._pending is not None and not self._closed and self._mask & _IN and self._pending():
            self._lanes.soon(self._read_pending)

    def _read_pending(self) -> None:
        """TLS holds data that the socket no longer announces."""
        if not self._closed and self._mask & _IN:
            self._read(*self._lanes.now())

    def _read_on(self) -> None:
        self._held = None
        if not self._closed and not self._mask & _IN:
            self._watch(self._mask | _IN)
            if self._pending is not None and self._pending():
                self._lanes.soon(self._read_pending)

    def _flush(self, now_ns: int) -> None:
        waiting = self._out
        if waiting is None:
            self._watch(self._mask & ~_OUT)
            return
        try:
            some = bytes(waiting[:65_536])
            sent = self.sock.send(some) if self._transmit is None else self._transmit(some)
        except BlockingIOError:
            return
        except OSError:
            self._finish("broken")
            return
        self.stalled_ns = now_ns
        if sent == len(waiting):
            self._out = None
            self._lanes.stalled.pop(self, None)
            self._watch(self._mask & ~_OUT)
        else:
            del waiting[:sent]

    def _watch(self, mask: int) -> None:
        if mask == self._mask:
            return
        if not mask:
            self._lane.unregister(self.fd)  # a hang-up would be reported again and again even with no events wanted
        elif not self._mask:
            self._lane.register(self.fd, mask)
        else:
            self._lane.modify(self.fd, mask)
        self._mask = mask

    def _finish(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if self._mask:
            self._lane.unregister(self.fd)
            self._mask = 0
        self._lanes.remove(self.fd)
        self._lanes.stalled.pop(self, None)
        self._out = None
        self.sock.close()
        self._ended(self, reason)
