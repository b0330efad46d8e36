"""One segment at work: its members, its feeds, and the readings that wait to go out on the bus."""

from __future__ import annotations

import msgspec

from qedge.base.ids import RandomBytes
from qedge.devices.segments.config import SegmentConfig
from qedge.devices.segments.feeds import Feed
from qedge.devices.segments.membership import Membership
from qedge.devices.segments.model import MemberId, Pace, Reader
from qedge.wire.segments import MAX_READINGS, SegmentMemberView, SegmentReading, SegmentReadings, SegmentView

MAX_FRAME_BYTES = 128 * 1024
MAX_WAITING = 8 * MAX_READINGS
_ENCODE = msgspec.msgpack.Encoder().encode


class Segment:
    """State of one segment. `readings` and `dropped` count since the start."""

    __slots__ = (
        "base",
        "channels",
        "config",
        "dropped",
        "feeds",
        "membership",
        "name",
        "outbox",
        "readers",
        "readings",
        "retention",
    )

    def __init__(
        self, name: str, base: str, config: SegmentConfig, start: int, pace: Pace, random_bytes: RandomBytes
    ) -> None:
        self.name = name
        self.base = base
        self.config = config
        self.retention = config.retention_class
        self.channels = frozenset(config.channels)
        self.membership = Membership(base, start, pace, random_bytes)
        self.readers: dict[MemberId, Reader] = {}
        self.feeds: dict[str, tuple[Feed, ...]] = {}
        self.outbox: dict[str, list[SegmentReading]] = {}
        self.readings = 0
        self.dropped = 0

    def add_feed(self, feed: Feed, channels: tuple[str, ...]) -> None:
        """Let a feed have the readings of some channels."""
        for channel in channels:
            self.feeds[channel] = (*self.feeds.get(channel, ()), feed)

    def drop_feed(self, feed: Feed) -> None:
        """Let a feed have nothing more."""
        for channel, feeds in list(self.feeds.items()):
            left = tuple(each for each in feeds if each is not feed)
            if left:
                self.feeds[channel] = left
            else:
                del self.feeds[channel]

    def post(self, channel: str, reading: SegmentReading) -> bool:
        """Let a reading wait for the bus; says whether it is the first that does."""
        waiting = self.outbox.get(channel)
        if waiting is None:
            self.outbox[channel] = [reading]
            return True
        if len(waiting) >= MAX_WAITING:
            self.dropped += 1
        else:
            waiting.append(reading)
        return False

    def frames(self, channel: str, now_ns: int) -> list[bytes]:
        """Seal what waits for the bus on a channel, for those who are members now."""
        waiting = self.outbox.pop(channel, [])
        sealed: list[bytes] = []
        start = 0
        while start < len(waiting):
            end, size = start, 0
            while end < len(waiting) and end - start < MAX_READINGS and (size < MAX_FRAME_BYTES or end == start):
                size += len(waiting[end].body) + 64
                end += 1
            frame = self.membership.seal(channel, _ENCODE(SegmentReadings(tuple(waiting[start:end]))), now_ns)
            if frame is None:
                self.dropped += end - start
            else:
                sealed.append(frame)
            start = end
        return sealed

    def view(self, now_ns: int) -> SegmentView:
        """Describe the segment."""
        line = self.membership.line
        generation = line.generation
        is_open = not line.stalled and generation is not None
        return SegmentView(
            name=self.name,
            channels=self.config.channels,
            retention=self.config.retention,
            bus=self.config.bus,
            upstream=self.config.upstream,
            members=len(self.membership),
            feeds=len({id(feed) for feeds in self.feeds.values() for feed in feeds}),
            epoch=line.current if is_open else -1,
            epoch_age_s=round((now_ns - generation.opened_ns) / 1e9, 3) if is_open and generation is not None else 0.0,
            readings=self.readings,
            dropped=self.dropped,
        )

    def member_views(self, limit: int) -> tuple[SegmentMemberView, ...]:
        """Describe members."""
        members = self.membership.members()[:limit]
        return tuple(SegmentMemberView(str(each.kind), each.id, self.membership.channels_of(each)) for each in members)
