"""Segments of attached devices on the bus, between nodes, and as the operator's programs see them.

Readings of a segment go out on `qedge/v1/{fleet}/{node}/seg/{segment}/{channel}`, in frames under the group key of the
segment's epoch (`qedge_device.group`), whose associated data holds the topic.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from qedge.base.ids import is_name

_SEGMENT_LEVEL: Final = "seg"
MAX_READINGS: Final = 1024
MAX_CHANNELS: Final = 64
MAX_ARGUMENT_BYTES: Final = 16_384

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,36}\Z")]
Secret = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


def segment_base(fleet: str, node: str, segment: str) -> str:
    """Return what the topics of a segment begin with; raises `ValueError` for names that are no topic segments."""
    if not (is_name(fleet) and is_name(node) and is_name(segment)):
        raise ValueError(f"{fleet!r}, {node!r} and {segment!r} have to be names")
    return f"qedge/v1/{fleet}/{node}/{_SEGMENT_LEVEL}/{segment}"


def segment_topic(fleet: str, node: str, segment: str, channel: str) -> str:
    """Return the topic of a channel of a segment; raises `ValueError` for names that are no topic segments."""
    if not is_name(channel):
        raise ValueError(f"{channel!r} has to be a name")
    return f"{segment_base(fleet, node, segment)}/{channel}"


def every_channel(fleet: str, node: str, segment: str) -> str:
    """Return the filter for all channels of a segment."""
    return f"{segment_base(fleet, node, segment)}/+"


def parse_segment_topic(text: str) -> tuple[str, str, str, str] | None:
    """Return fleet, node, segment and channel of a topic, or None where it is not one of a segment."""
    parts = text.split("/")
    if len(parts) != 7 or parts[:2] != ["qedge", "v1"] or parts[4] != _SEGMENT_LEVEL:
        return None
    fleet, node, segment, channel = parts[2], parts[3], parts[5], parts[6]
    return (fleet, node, segment, channel) if all(map(is_name, (fleet, node, segment, channel))) else None


# What is on the bus


class SegmentReading(msgspec.Struct, frozen=True, array_like=True):
    """One reading: which device, when the node took it, and what the device said."""

    device: Name
    utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    body: bytes


class SegmentReadings(msgspec.Struct, frozen=True, tag_field="type", tag="segment-readings/1"):
    """Readings of one channel of a segment, in the order in which the node took them."""

    readings: Annotated[tuple[SegmentReading, ...], msgspec.Meta(max_length=MAX_READINGS)]


class OnwardReading(msgspec.Struct, frozen=True, array_like=True):
    """One reading on its way upstream. `sequence` counts the readings of a device, without gaps but for those dropped.

    `historical`: it waited for the way upstream to come back.
    """

    device: Name
    sequence: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    segment: Name
    channel: Name
    utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    body: bytes
    historical: bool = False


class OnwardReadings(msgspec.Struct, frozen=True, tag_field="type", tag="onward-readings/1"):
    """Readings for the upstream, in order for each device; one that comes twice has the same sequence number."""

    readings: Annotated[tuple[OnwardReading, ...], msgspec.Meta(max_length=MAX_READINGS)]


class OnwardSealed(msgspec.Struct, frozen=True, tag_field="type", tag="onward-sealed/1"):
    """`onward-readings` for one recipient: HPKE (X-Wing, HKDF-SHA-256, AES-256-GCM), encapsulated key first."""

    recipient: Annotated[str, msgspec.Meta(max_length=64)]
    sealed: Annotated[bytes, msgspec.Meta(max_length=224 * 1024)]


# Between nodes


class SegmentAsk(msgspec.Struct, frozen=True, tag_field="type", tag="segment-ask/1"):
    """Let me read these channels of a segment of yours; again before the time of the answer is over."""

    segment: Name
    channels: Annotated[tuple[Name, ...], msgspec.Meta(max_length=MAX_CHANNELS)] = ()


class SegmentGranted(msgspec.Struct, frozen=True, tag_field="type", tag="segment-granted/1"):
    """What is granted, for how long, and what is not (with the reason code). The key follows as `segment-key`."""

    channels: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()
    lease_s: float = 0.0


class SegmentQuit(msgspec.Struct, frozen=True, tag_field="type", tag="segment-quit/1"):
    """I read the segment no more."""

    segment: Name


class ChannelSecret(msgspec.Struct, frozen=True, array_like=True):
    """The secret of one channel."""

    channel: Name
    secret: Secret

    def __repr__(self) -> str:
        return f"ChannelSecret({self.channel!r})"


class SegmentKey(msgspec.Struct, frozen=True, tag_field="type", tag="segment-key/1"):
    """Secrets of a segment of the sender from `epoch` on; none: the receiver is shut out, `reason` says why."""

    segment: Name
    epoch: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    secrets: Annotated[tuple[ChannelSecret, ...], msgspec.Meta(max_length=MAX_CHANNELS)] = ()
    reason: Annotated[str, msgspec.Meta(max_length=64)] = ""


class SegmentHeard(msgspec.Struct, frozen=True, tag_field="type", tag="segment-heard/1"):
    """It has arrived."""


class CommandAsk(msgspec.Struct, frozen=True, tag_field="type", tag="command-ask/1"):
    """Command a device of yours. The same `key` again is the same command; empty: this one is like no other."""

    device: Name
    command: Name
    argument: Annotated[bytes, msgspec.Meta(max_length=MAX_ARGUMENT_BYTES)] = b""
    key: Annotated[str, msgspec.Meta(max_length=64)] = ""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 10.0


class CommandView(msgspec.Struct, frozen=True, tag_field="type", tag="command/1"):
    """A command as it ended: `outcome` is `done`, `refused` or `failed` by the device's own word, or `unknown`.

    `unknown`: the device did not answer in time, and may have done it. `request` is the id that the device saw.
    """

    device: str
    command: str
    request: str
    outcome: str
    detail: str = ""
    took_ms: float = 0.0
    repeated: bool = False


# For the operator's programs


class SegmentView(msgspec.Struct, frozen=True):
    """One segment. `epoch` −1: none is open, nothing is sealed; `members` read it over the bus, `feeds` in the node."""

    name: str
    channels: tuple[str, ...]
    retention: str
    bus: bool
    upstream: bool
    members: int
    feeds: int
    epoch: int
    epoch_age_s: float
    readings: int
    dropped: int = 0


class SegmentList(msgspec.Struct, frozen=True, tag_field="type", tag="segment-list/1"):
    """All segments of the node, and what waits for the way upstream."""

    segments: tuple[SegmentView, ...]
    onward: OnwardView | None = None


class OnwardView(msgspec.Struct, frozen=True):
    """The way upstream: how much waits, since when, and what was dropped, by class and reason."""

    up: bool
    waiting: int
    waiting_bytes: int
    oldest_s: float
    sent: int
    dropped: dict[str, int] = {}
    problem: str = ""


class SegmentMemberView(msgspec.Struct, frozen=True):
    """One member: what it is, and which channels it may open."""

    kind: str
    id: str
    channels: tuple[str, ...]


class SegmentDetail(msgspec.Struct, frozen=True, tag_field="type", tag="segment/1"):
    """One segment with its members (at most 1,000 of them) and how many epochs began for which cause."""

    segment: SegmentView
    members: tuple[SegmentMemberView, ...]
    epochs: dict[str, int]


class DeviceCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="device-command/1"):
    """An operator's command; see `command-ask`."""

    command: Name
    argument: Annotated[bytes, msgspec.Meta(max_length=MAX_ARGUMENT_BYTES)] = b""
    key: Annotated[str, msgspec.Meta(max_length=64)] = ""
    deadline_s: Annotated[float, msgspec.Meta(gt=0, le=30)] = 10.0


# For apps in programs of their own


class AppReading(msgspec.Struct, frozen=True, tag_field="type", tag="app-reading/1"):
    """One reading as an app follows it. `node` is where the device is, empty for the node that was asked."""

    device: Name
    segment: Name
    channel: Name
    utc_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    body: bytes
    node: str = ""


class ReadingsLost(msgspec.Struct, frozen=True, tag_field="type", tag="readings-lost/1"):
    """The app is too slow: so many readings gave way since it began to follow."""

    lost: int


class ReadingsEnded(msgspec.Struct, frozen=True, tag_field="type", tag="readings-ended/1"):
    """Nothing more comes; `reason` is a reason code where policy took the right away."""

    reason: str = ""


SegmentNews = AppReading | ReadingsLost | ReadingsEnded
