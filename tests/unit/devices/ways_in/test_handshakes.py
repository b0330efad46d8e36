"""Handshakes of the listener: whatever the thread is at, no socket outlives the end."""

from __future__ import annotations

import socket
import threading

from OpenSSL import SSL

from qedge.base.system_clock import SystemClock
from qedge.devices.ways_in.handshakes import Handshakes
from qedge.devices.ways_in.lanes import Lanes


async def test_a_step_that_waits_for_the_thread_at_the_end_leaves_no_socket_open() -> None:
    lanes = Lanes(SystemClock())
    lanes.start()
    handshakes = Handshakes(SSL.Context(SSL.TLS_SERVER_METHOD), lanes, lambda _: None, lambda _: None)
    held = threading.Event()
    handshakes._thread.submit(held.wait, 20)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        shaking = handshakes.begin(ours, "203.0.113.1")
        shaking.serve(1, 0, 0)
        shaking.abandon()
        assert ours.fileno() != -1  # the thread may be at it
        held.set()
        handshakes.close()
        lanes.close()
        assert ours.fileno() == -1
