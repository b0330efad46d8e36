from __future__ import annotations

import pytest

from qedge.base.errors import QedgeError
from qedge.client.sse import MAX_EVENT_BYTES, EventParser, ServerEvent


def test_events_are_found_however_the_bytes_are_cut() -> None:
    text = b'event: status\ndata: {"a":1}\n\n: alive\n\nevent: job\ndata: x\ndata: y\n\n'
    expected = [ServerEvent("status", b'{"a":1}'), ServerEvent("job", b"x\ny")]
    for size in (1, 2, 7, len(text)):
        parser = EventParser()
        found = [event for i in range(0, len(text), size) for event in parser.feed(text[i : i + size])]
        assert found == expected


def test_an_endless_event_is_refused() -> None:
    parser = EventParser()
    parser.feed(b"x" * MAX_EVENT_BYTES)
    with pytest.raises(QedgeError):
        parser.feed(b"x")
