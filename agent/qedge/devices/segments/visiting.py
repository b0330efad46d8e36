"""Reads segments of other nodes: asks for them, takes their keys, opens what they publish."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.log import get_logger
from qedge.base.service import Ready
from qedge.bus.model import Incoming
from qedge.devices.segments.feeds import Feed
from qedge.devices.segments.model import Reading, RetentionClass
from qedge.devices.segments.ports import Peers, SegmentBus
from qedge.wire.segments import (
    SegmentAsk,
    SegmentGranted,
    SegmentHeard,
    SegmentKey,
    SegmentQuit,
    SegmentReadings,
    every_channel,
    parse_segment_topic,
    segment_base,
)
from qedge_device.group import GroupError, GroupKey, GroupReader

_LOG: Final = get_logger("devices")
_CALL_S: Final = 10.0
_TICK_S: Final = 1.0
_ASK_AGAIN_S: Final = 2.0
_LONGEST_S: Final = 2 * 86_400.0
_DECODER: Final = msgspec.msgpack.Decoder(SegmentReadings)


class _Visit:
    """One segment of one node, and the feeds that it fills."""

    def __init__(self, fleet: str, node: str, segment: str) -> None:
        self.node = node
        self.segment = segment
        self.base = segment_base(fleet, node, segment)
        self.reader = GroupReader(self.base)
        self.channels: set[str] = set()
        self.feeds: list[tuple[Feed, frozenset[str]]] = []
        self.opening = 0
        self.asked_ns = -(2**63)
        self.until_ns = 0
        self.behind = False


class Visitor:
    """Segments of other nodes for apps of this one. Who may read them is for the other node's policy to say."""

    name = "segment-visits"

    def __init__(self, fleet: str, peers: Peers, bus: SegmentBus, *, clock: Clock, feed_readings: int = 10_000) -> None:
        self._fleet = fleet
        self._peers = peers
        self._bus = bus
        self._clock = clock
        self._feed_readings = feed_readings
        self._visits: dict[tuple[str, str], _Visit] = {}
        self._listened: set[str] = set()
        peers.serve(SegmentKey, self._take_key)

    async def open_feed(self, node: str, segment: str, channels: tuple[str, ...]) -> Feed:
        """Read channels of a segment of another node; raises `segment.*`, `peer.*`, `session.*`."""
        visit = self._visits.get((node, segment))
        if visit is None:
            visit = self._visits[node, segment] = _Visit(self._fleet, node, segment)
        visit.opening += 1
        try:
            granted = await self._ask(visit, visit.channels | set(channels))
        except QedgeError:
            if not visit.feeds and visit.opening == 1:
                self._visits.pop((node, segment), None)
            raise
        finally:
            visit.opening -= 1
        pattern = every_channel(self._fleet, node, segment)
        if pattern not in self._listened:
            self._listened.add(pattern)
            self._bus.subscribe(pattern, self._hear)
        mine = frozenset(channels) & frozenset(granted.channels)
        if not mine:
            raise QedgeError(
                "segment.refused",
                f"The policy of {node} lets this node read none of these channels of {segment!r}.",
                fix="A rule there has to permit it to this node, as a peer.",
            )
        feed = Feed(self._feed_readings)
        visit = self._visits.setdefault((node, segment), visit)  # it may have been ended while the node was asked
        visit.channels |= set(channels)
        visit.feeds.append((feed, mine))
        return feed

    async def run(self, ready: Ready) -> None:
        """Ask again before time is over, and where a key has not come, until cancelled."""
        ready()
        while True:
            await asyncio.sleep(_TICK_S)
            for visit in list(self._visits.values()):
                await self._look_after(visit)

    async def _look_after(self, visit: _Visit) -> None:
        visit.feeds = [each for each in visit.feeds if not each[0].closed]
        try:
            if not visit.feeds:
                if visit.opening:
                    return
                self._visits.pop((visit.node, visit.segment), None)
                await self._peers.call(visit.node, SegmentQuit(visit.segment), SegmentHeard, deadline_s=_CALL_S)
                return
            now_ns = self._clock.now_ns()
            since_s = (now_ns - visit.asked_ns) / 1e9
            if (visit.behind and since_s >= _ASK_AGAIN_S) or now_ns >= visit.until_ns:
                await self._ask(visit, visit.channels)
        except QedgeError as error:
            _LOG.debug("segment.not_asked", peer=visit.node, segment=visit.segment, code=error.code)
            if error.code in ("segment.refused", "segment.not_found"):
                self._end(visit, error.code)

    async def _ask(self, visit: _Visit, channels: set[str]) -> SegmentGranted:
        visit.asked_ns = self._clock.now_ns()
        visit.until_ns = visit.asked_ns + round(_ASK_AGAIN_S * 1e9)
        ask = SegmentAsk(visit.segment, tuple(sorted(channels)))
        granted = await self._peers.call(visit.node, ask, SegmentGranted, deadline_s=_CALL_S)
        visit.channels |= channels
        visit.behind = False
        # no number of a peer counts as it is: of another kind than a time it is as good as none
        lease_s = granted.lease_s if _ASK_AGAIN_S * 2 < granted.lease_s < _LONGEST_S else _ASK_AGAIN_S * 2
        visit.until_ns = visit.asked_ns + round(lease_s / 2 * 1e9)
        return granted

    async def _take_key(self, peer: str, key: SegmentKey) -> SegmentHeard:
        visit = self._visits.get((peer, key.segment))
        if visit is not None and not key.secrets:
            self._end(visit, key.reason or "left")
        elif visit is not None:
            secrets = {each.channel: each.secret for each in key.secrets}
            for channel, payload in visit.reader.take(GroupKey(key.segment, key.epoch, secrets)):
                self._deliver(visit, channel, payload)
        return SegmentHeard()

    async def _hear(self, message: Incoming) -> None:
        parsed = parse_segment_topic(message.topic)
        visit = self._visits.get((parsed[1], parsed[2])) if parsed is not None and parsed[0] == self._fleet else None
        if visit is None or parsed is None:
            return
        try:
            payload = visit.reader.open(parsed[3], message.payload)
        except GroupError as error:
            visit.behind = visit.behind or error.reason == "ahead"
            return
        self._deliver(visit, parsed[3], payload)

    def _deliver(self, visit: _Visit, channel: str, payload: bytes) -> None:
        try:
            readings = _DECODER.decode(payload).readings
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        now_ns = self._clock.now_ns()
        for each in readings:
            reading = Reading(each.device, visit.segment, channel, each.body, now_ns, each.utc_ns)
            for feed, channels in visit.feeds:
                if channel in channels:
                    feed.put(RetentionClass.TELEMETRY, reading)

    def _end(self, visit: _Visit, reason: str) -> None:
        self._visits.pop((visit.node, visit.segment), None)
        for feed, _ in visit.feeds:
            feed.close(reason)
