"""Lines of the listener on real sockets."""

from __future__ import annotations

import asyncio
import socket

from qedge.base.clock import ManualClock
from qedge.base.system_clock import SystemClock
from qedge.devices.ways_in.lanes import Lanes
from qedge.devices.ways_in.line import Line


class Hearer:
    """Keeps what it takes."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def take(self, data: bytes, now_ns: int, utc_ns: int) -> None:
        """Keep it."""
        self.heard.append(data)


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


async def test_messages_that_come_close_together_are_all_taken_in_their_order_and_so_is_one_that_comes_alone() -> None:
    lanes, hearer = Lanes(SystemClock()), Hearer()
    lanes.start()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    line = Line(ours, lanes, hearer, lambda *_: None, address="", max_bytes=4096)
    sent = [number.to_bytes(2, "big") for number in range(400)]
    for number, each in enumerate(sent):
        theirs.send(each)
        while len(hearer.heard) <= number:
            await asyncio.sleep(0)
    assert hearer.heard == sent
    await asyncio.sleep(0.05)
    theirs.send(b"alone")
    async with asyncio.timeout(30):
        while hearer.heard[-1] != b"alone":
            await asyncio.sleep(0.001)
    line.cut("done")
    lanes.close()
    theirs.close()


async def test_while_messages_come_close_together_an_urgent_one_is_taken_at_once() -> None:
    lanes, hearer, urgent = Lanes(SystemClock()), Hearer(), Hearer()
    lanes.start()
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    lines = []
    for (ours, _), taker in zip(pairs, (hearer, urgent), strict=True):
        ours.setblocking(False)
        lines.append(Line(ours, lanes, taker, lambda *_: None, address="", max_bytes=4096))
    lines[1].promote()
    for number in range(100):
        pairs[0][1].send(b"often")
        while len(hearer.heard) <= number:
            await asyncio.sleep(0)
    pairs[0][1].send(b"later")
    pairs[1][1].send(b"now")
    while not urgent.heard:
        await asyncio.sleep(0)
    assert urgent.heard == [b"now"]
    for line, (_, theirs) in zip(lines, pairs, strict=True):
        line.cut("done")
        theirs.close()
    lanes.close()


async def test_what_a_turn_has_no_time_for_is_taken_before_what_comes_later() -> None:
    clock, order = ManualClock(), list[int]()
    lanes = Lanes(clock)
    lanes.start()
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(24)]

    class Talker:
        """Takes so long that a turn ends, and has sent something new by then."""

        def __init__(self, number: int) -> None:
            self.number = number

        def take(self, data: bytes, now_ns: int, utc_ns: int) -> None:
            """Take something."""
            order.append(self.number)
            clock.advance_s(0.0004)
            pairs[self.number][1].send(b"more")

    lines = []
    for number, (ours, theirs) in enumerate(pairs):
        ours.setblocking(False)
        theirs.send(b"first")
        lines.append(Line(ours, lanes, Talker(number), lambda *_: None, address="", max_bytes=4096))
    while len(order) < 2 * len(pairs):
        await asyncio.sleep(0)
    assert sorted(order[: len(pairs)]) == list(range(len(pairs)))
    for line, (_, theirs) in zip(lines, pairs, strict=True):
        line.cut("done")
        theirs.close()
    lanes.close()
