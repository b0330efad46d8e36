"""A process that does nothing but answer: how late a program is on this machine, whatever it does, at that moment.

It has a loop as the daemon has (uvloop), and sends back what it gets over TCP on the loopback. Asked between the
questions to a node, it says how much of a latency is the machine's: that of two wake-ups and two ways.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import cast

import uvloop

LOAD_NICE = 5
"""Niceness of processes that stand for devices: in the field they are machines of their own."""


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        self._transport = cast(asyncio.WriteTransport, transport)  # those of uvloop are of no class of asyncio's

    def data_received(self, data: bytes) -> None:
        """Send it back."""
        self._transport.write(data)


async def _serve(pipe: Connection) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(_Echo, "127.0.0.1", 0)
    pipe.send(server.sockets[0].getsockname()[1])
    loop.add_reader(pipe.fileno(), ended.set)
    await ended.wait()


def serve(pipe: Connection) -> None:
    """Answer until the pipe closes."""
    uvloop.run(_serve(pipe))


class Bystander:
    """The process."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None

    def __enter__(self) -> Bystander:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._sock = socket.create_connection(("127.0.0.1", self._pipe.recv()))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()
        self._pipe.close()
        if self._process is not None:
            self._process.join(5)
            if self._process.exitcode is None:
                self._process.kill()

    def ask_ms(self) -> float:
        """Ask once; returns the time until the answer."""
        started = time.perf_counter()
        self._sock.sendall(b"?" * 64)
        self._sock.recv(4096)
        return (time.perf_counter() - started) * 1e3
