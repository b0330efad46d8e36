from __future__ import annotations

import json
import logging
import random
from contextlib import aclosing

import msgspec
import pytest
import structlog

from qedge.base.clock import ManualClock
from qedge.base.log import LogConfig, configure, get_logger, listening
from qedge.base.metrics import Metrics
from qedge.client.sse import EventParser, ServerEvent
from qedge.web.events.buffer import History
from qedge.web.events.hub import FROM_START, HISTORY, EventHub, event_of
from qedge.web.fake import FakeNode
from qedge.wire.events import NodeEvent
from qedge.wire.jobs import JobState, JobView


def hub() -> EventHub:
    clock = ManualClock()
    node = FakeNode(clock, random.Random(7).randbytes)
    return EventHub(node, Metrics(), clock=clock, interval_s=1, max_streams=4, buffer_limit=64)


def job(number: int, state: JobState = JobState.QUEUED) -> JobView:
    return JobView(str(number), state, 1, 1, "test")


def event(number: int) -> NodeEvent:
    return NodeEvent("peer.up", number, fields={"number": number})


async def first(hub: EventHub, last_id: str = "") -> list[ServerEvent]:
    """What a reader gets at once."""
    with hub.stream(last_id) as stream:
        async with aclosing(stream.frames()) as frames:  # type: ignore[type-var]  # an async generator
            return EventParser().feed(await anext(frames))


async def test_a_reader_who_comes_back_gets_what_came_meanwhile_and_then_the_status() -> None:
    events = hub()
    for number in range(3):
        events.tell(event(number))
    told = await first(events, FROM_START)
    assert [each.name for each in told] == ["event", "event", "event", "status"]
    events.tell(job(1))
    again = await first(events, told[1].id)
    assert [each.name for each in again] == ["event", "job", "status"]
    assert again[0].id == told[2].id
    assert [each.name for each in await first(events, again[1].id)] == ["status"]
    assert [each.name for each in await first(events)] == ["status"]


@pytest.mark.parametrize(
    "last_id", ["deadbeef-1", "nonsense", "00000000-99", "00000000-" + "9" * 50, "-", "00000000-²"]
)
async def test_an_id_of_another_run_or_of_nobody_gives_all_and_says_that_some_may_be_missing(last_id: str) -> None:
    events = hub()
    events.tell(event(1))
    told = await first(events, last_id)
    assert [each.name for each in told] == ["gap", "event", "status"]
    assert json.loads(told[0].data)["missed"] == -1


async def test_what_is_no_longer_kept_is_counted() -> None:
    events = hub()
    for number in range(HISTORY + 10):
        events.tell(event(number))
    told = await first(events, "00000000-4")
    assert (told[0].name, json.loads(told[0].data)["missed"]) == ("gap", 6)
    assert len(told) == HISTORY + 2


def test_many_jobs_do_not_push_out_the_few_events() -> None:
    history = History(4)
    history.add(event(0))
    for number in range(100):
        history.add(job(number))
    missed, kept = history.after(0)
    assert missed == 96
    assert [number for number, _ in kept] == [1, 98, 99, 100, 101]


def test_an_event_has_bounded_fields_and_only_values_that_json_knows() -> None:
    line = {"event": "peer.up", "level": "info", "room": "mesh", "timestamp": "x", "long": "x" * 5000, "list": [1, "a"]}
    odd: dict[str, object] = {"huge": 2**80, "thing": object(), "none": None, "yes": True}
    made = event_of({**line, **odd, **{f"n{number}": number for number in range(50)}}, 5)
    assert (made.name, made.room, made.utc_ns, made.kind) == ("peer.up", "mesh", 5, "peer")
    assert len(made.fields) == 24
    assert len(str(made.fields["long"])) == 300
    assert made.fields["list"] == '[1,"a"]'
    assert made.fields["huge"] == str(2**80)
    assert made.fields["yes"] is True
    assert msgspec.json.decode(msgspec.json.encode(made), type=NodeEvent) == made


def test_a_file_name_that_is_no_text_spoils_no_stream() -> None:
    path = b"/etc/\xff.pem".decode("utf-8", "surrogateescape")
    made = event_of({"event": "keys.tls_refused", "path": path, "files": [path]}, 5)
    assert b"/etc/?.pem" in msgspec.json.encode(made)


def test_events_are_heard_whatever_level_is_written_and_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[dict[str, object]] = []
    configure(LogConfig(level="error", format="json"))
    try:
        log = get_logger("test")
        with listening(lambda line: heard.append(dict(line))):
            log.info("peer.up", peer="b", password="x")
            log.debug("job.accepted", job="1")
            log.error("peer.dead", peer="b")
        log.info("peer.up", peer="c")
    finally:
        structlog.reset_defaults()
        logging.basicConfig(force=True)
    assert [(line["event"], line["level"]) for line in heard] == [("peer.up", "info"), ("peer.dead", "error")]
    assert heard[0]["password"] == "[scrubbed]"
    written = capsys.readouterr().err
    assert "peer.dead" in written
    assert "peer.up" not in written
