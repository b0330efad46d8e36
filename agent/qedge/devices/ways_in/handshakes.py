"""TLS handshakes of the listener, in one thread, while the loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from OpenSSL import SSL

from qedge.devices.ways_in.lanes import Lanes
from qedge.devices.ways_in.tls import TlsSocket


class Handshakes:
    """Carries handshakes out; `done(handshake)` or `failed(handshake)` hears how each ended, in the loop's thread."""

    def __init__(
        self,
        context: SSL.Context,
        lanes: Lanes,
        done: Callable[[Shaking], None],
        failed: Callable[[Shaking], None],
    ) -> None:
        self._context = context
        self._lanes = lanes
        self._done = done
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device-tls")
        self._with_thread: dict[Shaking, None] = {}

    def use(self, context: SSL.Context) -> None:
        """Begin handshakes with another certificate from now on; those under way go on with theirs."""
        self._context = context

    def begin(self, sock: socket.socket, address: str) -> Shaking:
        """Begin the handshake of an accepted connection."""
        connection = SSL.Connection(self._context, sock)
        connection.set_accept_state()
        return Shaking(sock, address, TlsSocket(connection), self._lanes, self._step)

    def close(self) -> None:
        """Begin no more steps, and close the sockets that the thread had; waits for the step that it is at."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        for shaking in self._with_thread:  # no turn of the loop may come that concludes them
            shaking.sock.close()

    def _step(self, shaking: Shaking) -> None:
        with contextlib.suppress(RuntimeError):  # the thread was shut down
            self._with_thread[shaking] = None
            self._loop.run_in_executor(self._thread, self._advance, shaking)

    def _advance(self, shaking: Shaking) -> None:
        try:
            wanted = shaking.tls.shake_hands()
        except OSError:
            wanted = "failed"
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._conclude, shaking, wanted)

    def _conclude(self, shaking: Shaking, wanted: str) -> None:
        shaking.busy = False
        self._with_thread.pop(shaking, None)
        if shaking.abandoned:
            shaking.sock.close()
        elif wanted == "done":
            self._lanes.remove(shaking.fd)
            self._done(shaking)
        elif wanted == "failed":
            shaking.abandon()
            self._failed(shaking)
        else:
            shaking.wait(wanted)


class Shaking:
    """One handshake under way."""

    __slots__ = ("_lanes", "_step", "abandoned", "address", "busy", "fd", "sock", "tls", "watched")

    def __init__(
        self, sock: socket.socket, address: str, tls: TlsSocket, lanes: Lanes, step: Callable[[Shaking], None]
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.address = address
        self.tls = tls
        self.busy = False
        self.abandoned = False
        self.watched = False
        self._lanes = lanes
        self._step = step
        lanes.add(self.fd, self)
        self.wait("read")

    def wait(self, what: str) -> None:
        """Go on once the socket is ready."""
        self._lanes.ordinary.register(self.fd, select.EPOLLIN if what == "read" else select.EPOLLOUT)
        self.watched = True

    def serve(self, events: int, now_ns: int, utc_ns: int) -> None:
        """Have the thread take the next step; until then nobody else touches the socket."""
        self._unwatch()
        self.busy = True
        self._step(self)

    def abandon(self) -> None:
        """Give up; the socket is closed as soon as the thread has let go of it."""
        if self.abandoned:
            return
        self.abandoned = True
        self._unwatch()
        self._lanes.remove(self.fd)
        if not self.busy:
            self.sock.close()

    def _unwatch(self) -> None:
        if self.watched:
            self._lanes.ordinary.unregister(self.fd)
            self.watched = False
