"""Properties of group keys: who left opens nothing sent afterwards, who joins nothing before, members everything."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qedge.devices.segments.membership import Membership
from qedge.devices.segments.model import MemberId, Pace
from qedge.security.model import SubjectKind
from qedge_device.frame import parse_header
from qedge_device.group import GroupError, GroupKey, GroupOpener, GroupReader

BASE = "qedge/v1/fleet/box/seg/plant"
CHANNELS = ("level", "flow")
NAMES = [f"d{number}" for number in range(5)]
MS = 1_000_000


@dataclass
class Actor:
    """A device that keeps every secret it was ever handed, and follows the rules for reading besides."""

    reader: GroupReader = field(default_factory=lambda: GroupReader(BASE))
    hoard: list[tuple[int, dict[str, bytes]]] = field(default_factory=list)
    served: set[str] = field(default_factory=set)
    due: set[int] = field(default_factory=set)
    got: set[int] = field(default_factory=set)

    def could_open(self, channel: str, frame: bytes) -> bool:
        """Try every secret of the hoard by itself, as a thief would."""
        for epoch, secrets in self.hoard:
            if channel in secrets:
                thief = GroupOpener(f"{BASE}/{channel}")
                thief.take(epoch, secrets[channel])
                try:
                    thief.open(frame)
                except GroupError:
                    continue
                return True
        return False


class Segment(RuleBasedStateMachine):
    """Devices join, leave and ask again in any order while readings are sealed and secrets are handed over."""

    @initialize(seed=st.integers(0, 2**32), small=st.booleans())
    def begin(self, seed: int, small: bool) -> None:
        self.group = Membership(BASE, 7, Pace(200 * MS, 1000 * MS, 50_000 * MS), random.Random(seed).randbytes)
        self.reserve = 2 if small else 4096
        self.now = 0
        self.actors: dict[str, Actor] = {name: Actor() for name in NAMES}
        self.members: dict[str, tuple[str, ...]] = {}
        self.sent: list[tuple[str, bytes, frozenset[str]]] = []
        self.pairs: set[tuple[str, int, int]] = set()
        self.group.extend(7 + self.reserve, self.now)

    @rule(name=st.sampled_from(NAMES), channels=st.sampled_from([CHANNELS, CHANNELS[:1], CHANNELS[1:]]))
    def join(self, name: str, channels: tuple[str, ...]) -> None:
        self.group.join(MemberId(SubjectKind.DEVICE, name), channels, self.now)
        before = self.members.get(name, ())
        self.members[name] = channels
        actor = self.actors[name]
        actor.served &= set(channels)
        if not set(before) <= set(channels):  # what it may not read any more it does not wait for
            actor.due = {number for number in actor.due if self.sent[number][0] in channels}

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        was = self.group.leave(MemberId(SubjectKind.DEVICE, name), self.now)
        assert was == (name in self.members)
        self.members.pop(name, None)
        self.actors[name].served.clear()
        self.actors[name].due.clear()

    @rule(channel=st.sampled_from(CHANNELS))
    def send(self, channel: str) -> None:
        frame = self.group.seal(channel, len(self.sent).to_bytes(4, "big"), self.now)
        if frame is None:
            assert self.group.line.wanted_reserve
            return
        header = parse_header(frame)
        assert (channel, header.key_id, header.counter) not in self.pairs
        self.pairs.add((channel, header.key_id, header.counter))
        number = len(self.sent)
        readers = frozenset(name for name, channels in self.members.items() if channel in channels)
        self.sent.append((channel, frame, readers))
        for actor in self.actors.values():
            if channel in actor.served:
                actor.due.add(number)
            with contextlib.suppress(GroupError):
                actor.got.add(int.from_bytes(actor.reader.open(channel, frame), "big"))

    @rule()
    def rekey(self) -> None:
        self.group.rekey(self.now)

    @rule(ms=st.sampled_from([1, 150, 250, 1100, 60_000]))
    def wait(self, ms: int) -> None:
        self.now += ms * MS
        if self.group.line.wanted_reserve:
            self.group.extend(self.group.line.reserved + self.reserve, self.now)
        self.group.on_timer(self.now)

    @rule(limit=st.integers(1, 4))
    def hand(self, limit: int) -> None:
        for each in self.group.handovers(self.now, limit):
            name = each.member.id
            assert name in self.members, "a secret for somebody who is no member"
            actor = self.actors[name]
            actor.hoard.append((each.epoch, each.secrets))
            # secrets of an epoch before its rights were cut may still be on their way
            actor.served |= set(each.secrets) & set(self.members[name])
            for _, payload in actor.reader.take(GroupKey("plant", each.epoch, each.secrets)):
                actor.got.add(int.from_bytes(payload, "big"))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def who_was_no_member_cannot_open(self, data: st.DataObject) -> None:
        channel, frame, readers = data.draw(st.sampled_from(self.sent))
        for name, actor in self.actors.items():
            if name not in readers:
                assert not actor.could_open(channel, frame)

    @invariant()
    def nobody_outside_has_read(self) -> None:
        for name, actor in getattr(self, "actors", {}).items():
            for number in actor.got:
                assert name in self.sent[number][2]

    def teardown(self) -> None:
        if not hasattr(self, "group"):
            return
        for _ in range(4):  # let all rounds end
            self.wait(1100)
            self.hand(1000)
        for name in self.members:
            actor = self.actors[name]
            # one that was served while it was a member has read all since, up to what readers keep waiting
            assert actor.due - actor.got == set(), name


TestSegment = Segment.TestCase
TestSegment.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
