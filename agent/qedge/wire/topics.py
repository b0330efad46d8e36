"""The topic map: one table with its inverse. Subscriptions, access lists and the reference page are made from it.

Topics are `qedge/v1/{fleet}/{node}/…`: at most 7 levels, each `[A-Za-z0-9_-]{1,36}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from qedge.base.ids import is_name
from qedge.wire.attached import DeviceLeaf
from qedge.wire.channels import Channel as Channel
from qedge.wire.channels import Publisher as Publisher
from qedge.wire.commands import CommandOrder, CommandReport, NodeCommands
from qedge.wire.envelope import SealKind
from qedge.wire.gateway import SignedByNode
from qedge.wire.incidents import IncidentBoard
from qedge.wire.mesh import Birth, Lost, Pulse
from qedge.wire.policy import PolicyNotice
from qedge.wire.renewal import RenewalAnswer, RenewalRequest
from qedge.wire.segments import OnwardSealed, SegmentReadings
from qedge.wire.session import Call, Hello
from qedge.wire.state import SharedEntry, StateEntry
from qedge.wire.telemetry import TelemetryBatch, TelemetryClass
from qedge.wire.trust import AUTHORITY, JoinAnswer, JoinRequest, RevocationNotice
from qedge.wire.uplink import ResultReports, SharedAsk

ROOT: Final = "qedge/v1"
MAX_LEVELS: Final = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of topic. `message` is the body of the envelope, or of the one inside where it is sealed.

    `read_by_owner`: its node listens to it; the others are read by all nodes, or by `reader` where that is set.
    `proof` says what makes a reader believe a message whose envelope has no seal. Topics of devices, segments and
    telemetry have more levels, `pattern`, and no channel of the node; those of devices and segments carry a frame
    without an envelope (`seal` None), and for a program alone where `message` is None.
    """

    channel: Channel | None
    message: type[msgspec.Struct] | None
    qos: int
    retain: bool
    publisher: Publisher
    read_by_owner: bool
    seal: SealKind | None
    proof: str
    meaning: str
    pattern: str = ""
    reader: str = ""

    @property
    def place(self) -> str:
        """Return what stands behind `qedge/v1/{fleet}/{node}/`."""
        return self.pattern or str(self.channel)

    @property
    def readers(self) -> str:
        """Return who listens, in words."""
        return self.reader or ("its node" if self.read_by_owner else "all nodes")


def _of_device(leaf: DeviceLeaf, proof: str, meaning: str) -> Row:
    from_device = leaf in (DeviceLeaf.HELLO, DeviceLeaf.UP)
    publisher = Publisher.DEVICE if from_device else Publisher.OWNER
    reader = "" if from_device else "the device"
    return Row(None, None, 1, False, publisher, from_device, None, proof, meaning, f"dev/{{device}}/{leaf}", reader)


TOPICS: Final[tuple[Row, ...]] = (
    Row(
        Channel.BIRTH,
        Birth,
        1,
        True,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature",
        "What the node is and can do.",
    ),
    Row(
        Channel.LOST,
        Lost,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.NONE,
        "none: a hint that makes peers ask the node",
        "The last will: the broker lost its connection to the node.",
    ),
    Row(
        Channel.PULSE,
        Pulse,
        0,
        False,
        Publisher.OWNER,
        False,
        SealKind.NONE,
        "the hash chain that the birth committed to",
        "A heartbeat.",
    ),
    Row(
        Channel.HELLO,
        Hello,
        1,
        False,
        Publisher.PEERS,
        True,
        SealKind.NONE,
        "TLS 1.3 with certificates on both sides",
        "One flight of the handshake of a session.",
    ),
    Row(
        Channel.SEALED,
        Call,
        1,
        False,
        Publisher.PEERS,
        True,
        SealKind.SEALED,
        "the keys of the session",
        "Questions, answers and parts of them, in the frames of a session.",
    ),
    Row(
        Channel.REVOKED,
        RevocationNotice,
        1,
        True,
        Publisher.PEERS,
        False,
        SealKind.NONE,
        "the authority's signature inside; the serial only grows",
        f"Keys that count no more. Its node is always `{AUTHORITY}`.",
    ),
    Row(
        Channel.POLICY,
        PolicyNotice,
        1,
        True,
        Publisher.PEERS,
        False,
        SealKind.NONE,
        "the authority's signature inside; the serial only grows",
        f"What attached devices may do at all nodes. Its node is always `{AUTHORITY}`.",
    ),
    Row(
        Channel.JOIN,
        JoinRequest,
        1,
        False,
        Publisher.ANYONE,
        True,
        SealKind.NONE,
        "a MAC with the secret of a one-time token",
        "A box asks to become a member.",
    ),
    Row(
        Channel.REPLY,
        JoinAnswer,
        1,
        False,
        Publisher.PEERS,
        True,
        SealKind.NONE,
        "a MAC with the secret of a one-time token",
        "The answer to a box that wants to join.",
    ),
    Row(
        Channel.INCIDENTS,
        IncidentBoard,
        1,
        True,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature; the serial only grows",
        "The incidents that a node has not resolved. Peers enforce its quarantines.",
    ),
    Row(
        Channel.DEVICES_REVOKED,
        SignedByNode,
        1,
        True,
        Publisher.OWNER,
        False,
        SealKind.NONE,
        "the node's signature inside; the serial only grows, and a list has a greatest age",
        "Keys of its devices that a node has revoked. Peers refuse them, too.",
    ),
    Row(
        Channel.ONWARD,
        OnwardSealed,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature; HPKE hides the readings from all but the recipient",
        "Readings of attached devices on their way upstream.",
        reader="the upstream",
    ),
    Row(
        Channel.STATE,
        StateEntry,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature; of two entries of one key the later stamp or higher serial counts",
        "A new entry of the state that the nodes of a site share.",
    ),
    Row(
        Channel.SHARED,
        SharedEntry,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature; of two entries of one key the later stamp counts",
        "A new entry of the state that all nodes of the fleet share; bridges between sites carry it.",
    ),
    Row(
        Channel.RESULTS,
        ResultReports,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature",
        "Jobs of the node that ended, on the broker of the cloud; `results-heard/1` says that they are on a disk.",
        reader="nodes of the class cloud",
    ),
    Row(
        Channel.COMPARE,
        SharedAsk,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature, and of each entry its writer's",
        "What a node holds of the state that all nodes share, on the broker of the cloud; `shared-told/1` answers.",
        reader="nodes of the class cloud",
    ),
    Row(
        Channel.RENEWAL,
        RenewalRequest,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature with its present key, and a signing request that proves the key to be certified",
        "The node asks for its next certificate before the present one ends.",
        reader="the fleet's authority",
    ),
    Row(
        Channel.RENEWED,
        RenewalAnswer,
        1,
        False,
        Publisher.AUTHORITY,
        True,
        SealKind.NONE,
        "the authority's signature inside, over node, nonce and certificate",
        "The next certificate of the node, or why there is none.",
    ),
    _of_device(
        DeviceLeaf.HELLO,
        "the device's signature or MAC over the node's nonce",
        "A step of an enrolment, a handshake or a resumption.",
    ),
    _of_device(DeviceLeaf.WELCOME, "the node's signature or MAC over the device's nonce", "The answer to a step."),
    _of_device(DeviceLeaf.UP, "the keys of the device's session", "Readings of a device."),
    _of_device(DeviceLeaf.DOWN, "the keys of the device's session", "Commands to a device, and keys of its segment."),
    Row(
        None,
        SegmentReadings,
        1,
        False,
        Publisher.OWNER,
        False,
        None,
        "the group key of the segment's epoch, which members alone have: any of them could have made it",
        "Readings of a channel of a segment, for consumers that policy lets in.",
        "seg/{segment}/{channel}",
        "members of the segment",
    ),
    Row(
        Channel.COMMANDS,
        NodeCommands,
        1,
        True,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature",
        "The kinds of commands that a node carries out.",
        reader="operators of the fleet",
    ),
    Row(
        None,
        CommandOrder,
        1,
        True,
        Publisher.OPERATORS,
        True,
        SealKind.NONE,
        "the operator's signature inside, with role, serial and expiry; approvals of others over the same bytes",
        "What an operator wants of one node, once. An empty message orders nothing.",
        "cmd/{command}",
    ),
    Row(
        None,
        CommandReport,
        1,
        True,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature; the revision only grows",
        "How a command stands, until the node clears it some days after its end.",
        "cmd-state/{command}",
        "operators of the fleet",
    ),
    Row(
        None,
        TelemetryBatch,
        1,
        False,
        Publisher.OWNER,
        False,
        SealKind.SIGNED,
        "the node's signature; of two items of one spool, class and number the first counts",
        "Readings, health, events and alarms of the node; `kind` is one of these in the singular.",
        "telemetry/{kind}",
        "those who watch the fleet",
    ),
)


def topic(fleet: str, node: str, channel: Channel) -> str:
    """Return the topic of a node's channel; raises `ValueError` for names that are no topic segments."""
    if not (is_name(fleet) and is_name(node)):
        raise ValueError(f"{fleet!r} and {node!r} have to be names")
    return f"{ROOT}/{fleet}/{node}/{channel}"


def telemetry_topic(fleet: str, node: str, kind: TelemetryClass) -> str:
    """Return the topic of a class of telemetry; raises `ValueError` for names that are no topic segments."""
    if not (is_name(fleet) and is_name(node)):
        raise ValueError(f"{fleet!r} and {node!r} have to be names")
    return f"{ROOT}/{fleet}/{node}/telemetry/{kind}"


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
    """Return the topics that a node itself listens to; those of its devices and of commands are beside."""
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
