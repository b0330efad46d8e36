"""Lines of the listener on real sockets."""

from __future__ import annotations

import asyncio
import socket

from qedge.base.system_clock import SystemClock
from qedge.devices.ways_in.lanes import Lanes
from qedge.devices.ways_in.line import Line


class Silent:
    def take(self, data: bytes, now_ns: int, utc_ns: int) -> None:
        """Take nothing."""


async def _line() -> tuple[Lanes, Line, socket.socket, list[str]]:
    lanes, ended = Lanes(SystemClock()), []
    lanes.start()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    line = Line(ours, lanes, Silent(), lambda _, why: ended.append(why), address="", max_bytes=4096)
    return lanes, line, theirs, ended


async def test_what_is_written_corked_leaves_in_one_piece_and_in_its_order() -> None:
    lanes, line, theirs, _ = await _line()
    with line.corked():
        assert line.write(b"one")
        assert line.write(b"two")
        await asyncio.sleep(0)
        try:
            early = theirs.recv(100)
        except BlockingIOError:
            early = b""
    assert (early, theirs.recv(100)) == (b"", b"onetwo")
    line.write(b"three")
    assert theirs.recv(100) == b"three"
    line.cut("done")
    lanes.close()
    theirs.close()


async def test_what_was_written_corked_is_sent_before_the_line_is_closed() -> None:
    lanes, line, theirs, ended = await _line()
    with line.corked():
        line.write(b"no")
        line.close("refused")
    assert (theirs.recv(100), theirs.recv(100), ended) == (b"no", b"", ["refused"])
    lanes.close()
    theirs.close()
