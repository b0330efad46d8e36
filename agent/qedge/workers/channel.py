"""The daemon's end of the socket to a worker: frames out, frames in, without a task between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from qedge.base.errors import QedgeError
from qedge.workers.frames import LENGTH, Frame, check_length, decode, encode


class FrameChannel(asyncio.Protocol):
    """Calls `take` for every frame as it comes, and `broken` once where what comes is no frame."""

    def __init__(self, take: Callable[[Frame], None], broken: Callable[[QedgeError], None]) -> None:
        self._take = take
        self._broken = broken
        self._transport: asyncio.Transport | None = None
        self._waiting = bytearray()
        self._room = asyncio.Event()
        self._room.set()

    @property
    def is_open(self) -> bool:
        """Say whether frames can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    async def open(self, ours: socket.socket) -> None:
        """Take over a connected socket."""
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    def close(self) -> None:
        """Let go of the socket."""
        if self._transport is not None:
            self._transport.close()

    def post(self, frame: Frame) -> None:
        """Send a frame and do not wait; raises `worker.too_large`."""
        if self._transport is not None:
            self._transport.write(encode(frame))

    async def send(self, frame: Frame) -> None:
        """Send a frame; waits while the worker does not take what was sent before."""
        self.post(frame)
        if not self._room.is_set():
            await self._room.wait()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.Transport", transport)  # those of uvloop are no subclass

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.BaseProtocol`: the process ends, and whoever waits for that says how."""
        self._room.set()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._room.clear()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        waiting = self._waiting
        waiting += data
        place = 0
        try:
            while len(waiting) - place >= LENGTH.size:
                begin = place + LENGTH.size
                end = begin + check_length(waiting[place:begin])
                if len(waiting) < end:
                    break
                self._take(decode(waiting[begin:end]))
                place = end
        except QedgeError as error:
            waiting.clear()
            self.close()
            self._broken(error)
            return
        del waiting[:place]
