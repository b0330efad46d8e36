"""A node's segments over fakes, with devices that read their segment by `qedge_device` alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from qedge.base.clock import ManualClock
from qedge.base.metrics import Metrics
from qedge.devices.segments.commanding import CommandDesk
from qedge.devices.segments.config import GroupKeyConfig, SegmentConfig
from qedge.devices.segments.fake import (
    FakeDownlink,
    FakeJudge,
    FakeKeep,
    FakeOnward,
    FakePeers,
    FakeSegmentBus,
    FakeSubjects,
)
from qedge.devices.segments.hosting import PeerHost
from qedge.devices.segments.model import FOREVER
from qedge.devices.segments.service import SegmentService
from qedge.devices.segments.visiting import Visitor
from qedge.security.model import Action, Decision, Resource, Subject, SubjectKind
from qedge.wire.segments import SegmentReadings, segment_base
from qedge_device.commands import KEY, pack_key_request
from qedge_device.group import GroupError, GroupKey, GroupReader, unpack_group_key

FLEET, NODE = "fleet", "box-1"
SEGMENTS = {
    "plant": SegmentConfig(("level", "flow"), apps=("dashboard",)),
    "office": SegmentConfig(("light",), retention="critical", upstream=True, apps=("dashboard",)),
}


class Member:
    """A device that asks for its segment's key and reads what the broker brings."""

    def __init__(self, name: str, site: Site, segment: str) -> None:
        self.name = name
        self.site = site
        self.segment = segment
        self.reader = GroupReader(segment_base(FLEET, NODE, segment))
        self.read: list[bytes] = []
        self.refusals: list[str] = []
        self.keys: list[GroupKey] = []
        self._seen = 0
        site.downlink.devices[name] = self.hear

    def ask(self, segment: str = "", channels: tuple[str, ...] = ()) -> None:
        subject = self.site.subjects.known[SubjectKind.DEVICE, self.name]
        self.site.service.take(subject, KEY, pack_key_request(segment, channels), self.site.clock.now_ns())

    def hear(self, command: str, body: bytes) -> None:
        if command != KEY:
            return
        key = unpack_group_key(body)
        if not key.secrets:
            self.refusals.append(key.segment)
            return
        self.keys.append(key)
        for _, payload in self.reader.take(key):
            self._note(payload)

    def listen(self) -> list[bytes]:
        """Read everything that is new on the bus; returns all bodies read so far."""
        for topic, frame in self.site.bus.posted[self._seen :]:
            if topic.startswith(segment_base(FLEET, NODE, self.segment) + "/"):
                try:
                    self._note(self.reader.open(topic.rpartition("/")[2], frame))
                except GroupError as error:
                    self.refusals.append(error.reason)
        self._seen = len(self.site.bus.posted)
        return self.read

    def _note(self, payload: bytes) -> None:
        self.read += [each.body for each in msgspec.msgpack.decode(payload, type=SegmentReadings).readings]


class Site:
    """Everything of one node."""

    def __init__(self, network: dict[str, FakePeers] | None = None, keep: FakeKeep | None = None) -> None:
        self.clock = ManualClock(10**9)
        self.metrics = Metrics()
        self.judge = FakeJudge()
        self.subjects = FakeSubjects()
        self.downlink = FakeDownlink()
        self.bus = FakeSegmentBus()
        self.keep = keep or FakeKeep()
        self.onward = FakeOnward()
        self.denials: list[tuple[str, Action, str]] = []
        self.service = SegmentService(
            FLEET,
            NODE,
            SEGMENTS,
            GroupKeyConfig(leave_window_ms=20, join_window_ms=0, batch_ms=0),
            judge=self.judge,
            subjects=self.subjects,
            downlink=self.downlink,
            bus=self.bus,
            keep=self.keep,
            onward=self.onward,
            clock=self.clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
            denied=self._denied,
        )
        self.desk = CommandDesk(
            self.judge,
            self.subjects,
            self.downlink,
            self.keep,
            clock=self.clock,
            metrics=self.metrics,
            random_bytes=os.urandom,
            denied=self._denied,
        )
        self.service.bind(answers=self.desk)
        network = {} if network is None else network
        self.host = PeerHost(self.service, self.desk, FakePeers(NODE, network), self.subjects, clock=self.clock)
        self.visitor = Visitor(FLEET, FakePeers("box-2", network), self.bus, clock=self.clock)

    def _denied(self, subject: Subject | None, action: Action, resource: Resource, _decision: Decision) -> None:
        self.denials.append((subject.id if subject else "", action, resource.name))

    def device(self, name: str, segment: str = "plant", *, reads: bool = True) -> Member:
        """Add a device that may read its segment, or not."""
        self.subjects.known[SubjectKind.DEVICE, name] = Subject(
            name, SubjectKind.DEVICE, segment=segment, lease_until_ns=FOREVER
        )
        if reads:
            for channel in SEGMENTS[segment].channels:
                self.judge.permits.add((name, Action.SUBSCRIBE, channel))
        return Member(name, self, segment)

    def say(self, device: str, channel: str, body: bytes) -> None:
        """Let a reading of a device through, as the enforcement point does."""
        self.service.take(self.subjects.known[SubjectKind.DEVICE, device], channel, body, self.clock.now_ns())

    async def settle(self, seconds: float = 0.1) -> None:
        """Let time pass for the service's timers and tasks."""
        for _ in range(6):
            self.clock.advance_s(seconds / 6)
            self.service._wake.set()
            await asyncio.sleep(0.012)


@asynccontextmanager
async def segments(site: Site | None = None) -> AsyncIterator[Site]:
    """Run a node's segments."""
    site = site or Site()
    ups = [asyncio.Event() for _ in range(3)]
    tasks = [
        asyncio.create_task(each.run(up.set))
        for each, up in zip((site.service, site.host, site.visitor), ups, strict=True)
    ]
    try:
        await asyncio.wait_for(asyncio.gather(*(up.wait() for up in ups)), 20)
        yield site
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
