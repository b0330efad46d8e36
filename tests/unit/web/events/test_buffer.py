from __future__ import annotations

import msgspec

from qedge.web.events.buffer import EventBuffer, sse_frame


def test_a_newer_frame_replaces_the_one_that_waits() -> None:
    buffer = EventBuffer(4)
    buffer.put("status", b"1")
    buffer.put("job", b"2")
    buffer.put("status", b"3")
    assert buffer.take() == (b"3", b"2")
    assert buffer.take() == ()


def test_a_slow_reader_costs_bounded_memory() -> None:
    buffer = EventBuffer(4)
    for number in range(10_000):
        buffer.put(str(number), b"x")
    assert len(buffer) == 4
    assert buffer.dropped == 9_996


def test_json_never_breaks_a_frame() -> None:
    frame = sse_frame("job", msgspec.json.encode({"text": "a\n\nb\r"}))
    assert frame.count(b"\n") == 3
    assert b"\r" not in frame
