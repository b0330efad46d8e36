"""The topic map: one table with its inverse. Subscriptions, access lists and the reference page are made from it.

Topics are `qedge/v1/{fleet}/{node}/…`: at most 7 levels, each `[A-Za-z0-9_-]{1,36}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from qedge.base.ids import is_name
from qedge.wire.mesh import Birth, Ping, Pong

ROOT: Final = "qedge/v1"
MAX_LEVELS: Final = 7


class Channel(StrEnum):
    """What a node's topics carry."""

    BIRTH = "birth"
    PING = "ping"
    REPLY = "reply"


class Publisher(StrEnum):
    """Who may publish on a topic."""

    OWNER = "the node itself"
    PEERS = "any node of the fleet"


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of topic. `message` is the body of the envelope; `read_by_owner`: its node listens to it."""

    channel: Channel
    message: type[msgspec.Struct]
    qos: int
    retain: bool
    publisher: Publisher
    read_by_owner: bool
    meaning: str


TOPICS: Final[tuple[Row, ...]] = (
    Row(Channel.BIRTH, Birth, 1, True, Publisher.OWNER, False, "What the node is and can do."),
    Row(Channel.PING, Ping, 1, False, Publisher.PEERS, True, "A question, answered at once."),
    Row(Channel.REPLY, Pong, 1, False, Publisher.PEERS, True, "Answers to its own questions."),
)


def topic(fleet: str, node: str, channel: Channel) -> str:
    """Return the topic of a node's channel; raises `ValueError` for names that are no topic segments."""
    if not (is_name(fleet) and is_name(node)):
        raise ValueError(f"{fleet!r} and {node!r} have to be names")
    return f"{ROOT}/{fleet}/{node}/{channel}"


def parse_topic(text: str) -> tuple[str, str, Channel] | None:
    """Return fleet, node and channel of a topic, or None where it is not one of ours."""
    parts = text.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != ROOT or not (is_name(parts[2]) and is_name(parts[3])):
        return None
    try:
        return parts[2], parts[3], Channel(parts[4])
    except ValueError:
        return None


def listened(fleet: str, node: str) -> tuple[str, ...]:
    """Return the topics that a node listens to."""
    return tuple(topic(fleet, node, row.channel) for row in TOPICS if row.read_by_owner)


def matches(pattern: str, text: str) -> bool:
    """Say whether a topic matches an MQTT filter with `+` and `#` (MQTT 5 §4.7)."""
    wanted, levels = pattern.split("/"), text.split("/")
    if text.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)
