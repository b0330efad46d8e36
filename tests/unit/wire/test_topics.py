"""The topic map and its inverse."""

from __future__ import annotations

import pytest

from qedge.wire.attached import DeviceLeaf, device_topic
from qedge.wire.commands import command_topic, every_command, every_state, parse_command_topic, state_topic
from qedge.wire.envelope import SealKind
from qedge.wire.segments import every_channel, parse_segment_topic, segment_topic
from qedge.wire.telemetry import TelemetryClass
from qedge.wire.topics import (
    MAX_LEVELS,
    TOPICS,
    Channel,
    every_node,
    listened,
    matches,
    parse_topic,
    telemetry_topic,
    topic,
)

COMMAND = "01a2246a-6fcc-7d9f-829a-ff8a1f1967df"


@pytest.mark.parametrize("channel", list(Channel))
def test_every_channel_has_one_row_and_a_topic_that_leads_back(channel: Channel) -> None:
    assert [row.channel for row in TOPICS].count(channel) == 1
    name = topic("fleet", "node", channel)
    assert parse_topic(name) == ("fleet", "node", channel)
    assert name.count("/") < MAX_LEVELS


def test_every_row_carries_a_tagged_struct_of_its_own() -> None:
    tags = [row.message.__struct_config__.tag for row in TOPICS if row.message is not None]
    assert all(isinstance(tag, str) and "/" in tag for tag in tags)
    assert len(set(tags)) == len(tags)


def test_nothing_retained_is_a_question() -> None:
    retained = {row.channel for row in TOPICS if row.retain}
    told = {Channel.BIRTH, Channel.REVOKED, Channel.POLICY, Channel.INCIDENTS, Channel.DEVICES_REVOKED}
    # commands stand until they are done: their journal, and not the broker, sees to it that they are done once
    assert retained == told | {Channel.COMMANDS, None}
    assert {row.place for row in TOPICS if row.retain and row.channel is None} == {
        "cmd/{command}",
        "cmd-state/{command}",
    }


def test_every_message_has_a_seal_or_says_why_it_is_believed() -> None:
    assert all(row.proof for row in TOPICS)
    assert {row.channel for row in TOPICS if row.seal is SealKind.SEALED} == {Channel.SEALED}
    signed = {str(row.channel or row.pattern) for row in TOPICS if row.seal is SealKind.SIGNED}
    shared = {"state", "shared", "results", "compare", "renewal"}
    assert signed == {"birth", "onward", "incidents", "commands", "telemetry/{kind}", "cmd-state/{command}"} | shared


def test_rows_with_more_levels_have_the_topics_that_their_functions_make() -> None:
    patterns = {row.place for row in TOPICS if row.channel is None}
    made = {device_topic("f", "n", "d", leaf) for leaf in DeviceLeaf} | {segment_topic("f", "n", "s", "c")}
    made |= {command_topic("f", "n", COMMAND), state_topic("f", "n", COMMAND)}
    made.add(telemetry_topic("f", "n", TelemetryClass.ALARM))
    levels = {"device": "d", "segment": "s", "channel": "c", "command": COMMAND, "kind": "alarm"}
    filled = {each.format(**levels) for each in patterns}
    assert {f"qedge/v1/f/n/{each}" for each in filled} == made
    assert all(name.count("/") < MAX_LEVELS for name in made)
    assert parse_segment_topic(segment_topic("f", "n", "s", "c")) == ("f", "n", "s", "c")
    assert [parse_segment_topic(each) for each in ("", "qedge/v1/f/n/seg/s", "qedge/v1/f/n/dev/d/up")] == [None] * 3
    assert matches(every_channel("f", "n", "s"), segment_topic("f", "n", "s", "c"))
    assert parse_command_topic(command_topic("f", "n", COMMAND)) == ("f", "n", "cmd", COMMAND)
    assert parse_command_topic(state_topic("f", "n", COMMAND)) == ("f", "n", "cmd-state", COMMAND)
    for text in (
        "",
        "qedge/v1/f/n/cmd",
        f"qedge/v1/f/n/other/{COMMAND}",
        "qedge/v1/f/n/cmd/x",
        f"qedge/v1/f/+/cmd/{COMMAND}",
    ):
        assert parse_command_topic(text) is None
    assert matches(every_command("f", "n"), command_topic("f", "n", COMMAND))
    assert matches(every_state("f"), state_topic("f", "n", COMMAND))
    assert not matches(every_state("f"), command_topic("f", "n", COMMAND))
    with pytest.raises(ValueError, match="UUIDv7"):
        command_topic("f", "n", "x")


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "ä", "x" * 37, "a b", "a\n", "$SYS"])
def test_a_name_that_is_no_topic_segment_makes_no_topic(name: str) -> None:
    for fleet, node in ((name, "node"), ("fleet", name)):
        with pytest.raises(ValueError, match="names"):
            topic(fleet, node, Channel.HELLO)
        assert parse_topic(f"qedge/v1/{fleet}/{node}/hello") is None


@pytest.mark.parametrize(
    "text",
    ["", "qedge/v1/f/n", "qedge/v1/f/n/hello/x", "qedge/v2/f/n/hello", "qedge/v1/f/n/other", "/qedge/v1/f/n/hello"],
)
def test_a_foreign_topic_is_none_of_ours(text: str) -> None:
    assert parse_topic(text) is None


def test_a_node_listens_to_its_questions_and_answers_only() -> None:
    heard = ("hello", "sealed", "join", "reply", "renewed")
    assert listened("f", "n") == tuple(f"qedge/v1/f/n/{each}" for each in heard)
    assert every_node("f", Channel.BIRTH) == "qedge/v1/f/+/birth"


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("+/+", "/x", True),
        ("a", "a/", False),
    ],
)
def test_patterns_match_as_mqtt_says(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected
