"""Settings of segments and of their group keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal

import msgspec

from qedge.base.settings import Fault
from qedge.devices.segments.model import Pace, RetentionClass
from qedge.wire.segments import MAX_CHANNELS

_NAME: Final = r"^[A-Za-z0-9_-]{1,36}\Z"
_NAME_WORDS: Final = "at most 36 letters, digits, - and _"
Name = Annotated[str, msgspec.Meta(pattern=_NAME, title=_NAME_WORDS)]
MAX_SEGMENTS: Final = 256


class SegmentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.segments.NAME]`: devices that belong together, what they say, and where that goes.

    Devices see only their segment. Whoever else reads it, devices, apps, peers or the upstream, needs a rule of policy.
    """

    channels: Annotated[
        tuple[Name, ...],
        msgspec.Meta(
            description="Channels of the segment; readings on any other go nowhere. Those that begin with _ are the "
            "gateway's own.",
            min_length=1,
            max_length=MAX_CHANNELS,
        ),
    ]
    retention: Annotated[
        Literal["critical", "telemetry", "bulk"],
        msgspec.Meta(description="What gives way where not everything can be kept: bulk first, critical last."),
    ] = "telemetry"
    bus: Annotated[
        bool,
        msgspec.Meta(description="Publish readings on the segment's topics while anybody may read them there."),
    ] = True
    upstream: Annotated[
        bool, msgspec.Meta(description="Keep readings for the upstream and send them when the way is there.")
    ] = False
    apps: Annotated[
        tuple[Name, ...],
        msgspec.Meta(description="Apps of this node that may ask for the segment at all.", max_length=64),
    ] = ()

    @property
    def retention_class(self) -> RetentionClass:
        """Return the retention class."""
        return RetentionClass(self.retention)


class GroupKeyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[devices.group_keys]`: when segments get new keys, and how they are handed out."""

    max_age_s: Annotated[
        int, msgspec.Meta(description="A key is replaced after this time at the latest.", ge=60, le=86_400)
    ] = 86_400
    leave_window_ms: Annotated[
        int,
        msgspec.Meta(
            description="How long leaves are gathered before the new key is handed out; it is in use at once.",
            ge=0,
            le=10_000,
        ),
    ] = 200
    join_window_ms: Annotated[int, msgspec.Meta(description="How long joins are gathered.", ge=0, le=10_000)] = 1000
    rekey_on_join: Annotated[
        bool, msgspec.Meta(description="Let newcomers read nothing that was said before they came.")
    ] = True
    handovers_per_s: Annotated[
        int,
        msgspec.Meta(description="Keys handed to members in a second, all segments together.", ge=100, le=1_000_000),
    ] = 20_000
    subscription_s: Annotated[
        int,
        msgspec.Meta(description="A peer that reads a segment has to ask again within this time.", ge=10, le=86_400),
    ] = 3600
    batch_ms: Annotated[
        int,
        msgspec.Meta(
            description="How long readings of a channel are gathered into one message on the bus; those of critical "
            "segments go at once.",
            ge=0,
            le=1000,
        ),
    ] = 20
    feed_readings: Annotated[
        int, msgspec.Meta(description="Readings that may wait for one app.", ge=16, le=1_000_000)
    ] = 10_000

    def pace(self) -> Pace:
        """Return the times of a membership."""
        ms = 1_000_000
        return Pace(self.leave_window_ms * ms, self.join_window_ms * ms, self.max_age_s * 1000 * ms, self.rekey_on_join)


def check_segments(
    segments: Mapping[str, SegmentConfig], recipient: str, section: tuple[str, ...] = ("devices", "segments")
) -> Iterator[Fault]:
    """Find channels that are the gateway's own, and segments for an upstream that nobody can read."""
    for name, segment in segments.items():
        own = [channel for channel in segment.channels if channel.startswith("_")]
        if own:
            yield Fault((*section, name, "channels"), f"has {own[0]!r}", "names that do not begin with _")
        if len(set(segment.channels)) != len(segment.channels):
            yield Fault((*section, name, "channels"), "names a channel twice", "each once")
        if segment.upstream and not recipient:
            yield Fault(
                (*section, name, "upstream"), "is true", "devices.onward.recipient, the key of who shall read it"
            )
