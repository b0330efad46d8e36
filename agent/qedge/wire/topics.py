"""The topic map: one table with its inverse. Subscriptions, access lists and the reference page are made from it.

Topics are `qedge/v1/{fleet}/{node}/…`: at most 7 levels, each `[A-Za-z0-9_-]{1,36}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from qedge.base.ids import is_name
from qedge.wire.attached import DeviceLeaf
from qedge.wire.envelope import SealKind
from qedge.wire.incidents import IncidentBoard
from qedge.wire.mesh import Birth, Lost, Pulse
from qedge.wire.policy import PolicyNotice
from qedge.wire.segments import OnwardSealed, SegmentReadings
from qedge.wire.session import Call, Hello
from qedge.wire.trust import AUTHORITY, JoinAnswer, JoinRequest, RevocationNotice

ROOT: Final = "qedge/v1"
MAX_LEVELS: Final = 7


class Channel(StrEnum):
    """What a node's topics carry."""

    BIRTH = "birth"
    LOST = "lost"
    PULSE = "pulse"
    HELLO = "hello"
    SEALED = "sealed"
    REVOKED = "revoked"
    POLICY = "policy"
    JOIN = "join"
    REPLY = "reply"
    INCIDENTS = "incidents"
    ONWARD = "onward"


class Publisher(StrEnum):
    """Who may publish on a topic."""

    OWNER = "the node itself"
    PEERS = "any node of the fleet"
    ANYONE = "anyone with an invitation"
    DEVICE = "the device"


class Reader(StrEnum):
    """Who listens to a topic."""

    NODES = "all nodes"
    OWNER = "its node"
    DEVICE = "the device"
    MEMBERS = "members of the segment"
    UPSTREAM = "the upstream"


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of topic: `pattern` is what stands behind `qedge/v1/{fleet}/{node}/`.

    `channel` is set where that is a single level. `message` is the body of the envelope, or of what is inside where it
    is sealed; None where what it carries is no struct. `seal` None: no envelope, a frame of `qedge_device.frame` alone.
    `proof` says what makes a reader believe a message whose envelope has no seal.
    """

    pattern: str
    channel: Channel | None
    message: type[msgspec.Struct] | None
    qos: int
    retain: bool
    publisher: Publisher
    reader: Reader
    seal: SealKind | None
    proof: str
    meaning: str

    @property
    def read_by_owner(self) -> bool:
        """Whether its node listens to it."""
        return self.reader is Reader.OWNER


def _of_node(
    channel: Channel,
    message: type[msgspec.Struct],
    qos: int,
    retain: bool,
    publisher: Publisher,
    reader: Reader,
    seal: SealKind,
    proof: str,
    meaning: str,
) -> Row:
    return Row(channel.value, channel, message, qos, retain, publisher, reader, seal, proof, meaning)


def _of_device(leaf: DeviceLeaf, publisher: Publisher, seal: SealKind | None, proof: str, meaning: str) -> Row:
    reader = Reader.OWNER if publisher is Publisher.DEVICE else Reader.DEVICE
    return Row(f"dev/{{device}}/{leaf}", None, None, 1, False, publisher, reader, seal, proof, meaning)


TOPICS: Final[tuple[Row, ...]] = (
    _of_node(
        Channel.BIRTH,
        Birth,
        1,
        True,
        Publisher.OWNER,
        Reader.NODES,
        SealKind.SIGNED,
        "the node's signature",
        "What the node is and can do.",
    ),
    _of_node(
        Channel.LOST,
        Lost,
        1,
        False,
        Publisher.OWNER,
        Reader.NODES,
        SealKind.NONE,
        "none: a hint that makes peers ask the node",
        "The last will: the broker lost its connection to the node.",
    ),
    _of_node(
        Channel.PULSE,
        Pulse,
        0,
        False,
        Publisher.OWNER,
        Reader.NODES,
        SealKind.NONE,
        "the hash chain that the birth committed to",
        "A heartbeat.",
    ),
    _of_node(
        Channel.HELLO,
        Hello,
        1,
        False,
        Publisher.PEERS,
        Reader.OWNER,
        SealKind.NONE,
        "TLS 1.3 with certificates on both sides",
        "One flight of the handshake of a session.",
    ),
    _of_node(
        Channel.SEALED,
        Call,
        1,
        False,
        Publisher.PEERS,
        Reader.OWNER,
        SealKind.SEALED,
        "the keys of the session",
        "Questions, answers and parts of them, in the frames of a session.",
    ),
    _of_node(
        Channel.REVOKED,
        RevocationNotice,
        1,
        True,
        Publisher.PEERS,
        Reader.NODES,
        SealKind.NONE,
        "the authority's signature inside; the serial only grows",
        f"Keys that count no more. Its node is always `{AUTHORITY}`.",
    ),
    _of_node(
        Channel.POLICY,
        PolicyNotice,
        1,
        True,
        Publisher.PEERS,
        Reader.NODES,
        SealKind.NONE,
        "the authority's signature inside; the serial only grows",
        f"What attached devices may do at all nodes. Its node is always `{AUTHORITY}`.",
    ),
    _of_node(
        Channel.JOIN,
        JoinRequest,
        1,
        False,
        Publisher.ANYONE,
        Reader.OWNER,
        SealKind.NONE,
        "a MAC with the secret of a one-time token",
        "A box asks to become a member.",
    ),
    _of_node(
        Channel.REPLY,
        JoinAnswer,
        1,
        False,
        Publisher.PEERS,
        Reader.OWNER,
        SealKind.NONE,
        "a MAC with the secret of a one-time token",
        "The answer to a box that wants to join.",
    ),
    _of_node(
        Channel.INCIDENTS,
        IncidentBoard,
        1,
        True,
        Publisher.OWNER,
        Reader.NODES,
        SealKind.SIGNED,
        "the node's signature; the serial only grows",
        "The incidents that a node has not resolved. Peers enforce its quarantines.",
    ),
    _of_node(
        Channel.ONWARD,
        OnwardSealed,
        1,
        False,
        Publisher.OWNER,
        Reader.UPSTREAM,
        SealKind.SIGNED,
        "the node's signature; HPKE hides the readings from all but the recipient",
        "Readings of attached devices on their way upstream.",
    ),
    _of_device(
        DeviceLeaf.HELLO,
        Publisher.DEVICE,
        None,
        "the device's signature or MAC over the node's nonce",
        "A step of an enrolment, a handshake or a resumption.",
    ),
    _of_device(
        DeviceLeaf.WELCOME,
        Publisher.OWNER,
        None,
        "the node's signature or MAC over the device's nonce",
        "The answer to a step.",
    ),
    _of_device(DeviceLeaf.UP, Publisher.DEVICE, None, "the keys of the device's session", "Readings of a device."),
    _of_device(
        DeviceLeaf.DOWN,
        Publisher.OWNER,
        None,
        "the keys of the device's session",
        "Commands to a device, and keys of its segment.",
    ),
    Row(
        "seg/{segment}/{channel}",
        None,
        SegmentReadings,
        1,
        False,
        Publisher.OWNER,
        Reader.MEMBERS,
        None,
        "the group key of the segment's epoch, which members alone have: any of them could have made it",
        "Readings of a channel of a segment, for consumers that policy lets in.",
    ),
)


def topic(fleet: str, node: str, channel: Channel) -> str:
    """Return the topic of a node's channel; raises `ValueError` for names that are no topic segments."""
    if not (is_name(fleet) and is_name(node)):
        raise ValueError(f"{fleet!r} and {node!r} have to be names")
    return f"{ROOT}/{fleet}/{node}/{channel}"


def every_node(fleet: str, channel: Channel) -> str:
    """Return the filter for a channel of all nodes of a fleet."""
    return f"{ROOT}/{fleet}/+/{channel}"


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
    """Return the topics that a node itself listens to; those of its devices are beside them."""
    return tuple(topic(fleet, node, row.channel) for row in TOPICS if row.channel is not None and row.read_by_owner)


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
