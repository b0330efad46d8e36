"""Segments at work: readings in, to apps, to the bus and upstream; keys out to members; nothing past policy.

`take` is what the enforcement point calls with a reading that policy has let through. It never waits: a reading goes
into bounded queues, and tasks of this service do the rest. `shut_out` is for the policy administrator: from its
return on, nothing is sealed that the one shut out could open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.ids import RandomBytes
from qedge.base.log import get_logger
from qedge.base.metrics import Metrics
from qedge.base.service import Ready
from qedge.devices.ports import Way
from qedge.devices.segments.admission import Admission, admit, is_out, refusal
from qedge.devices.segments.audience import Listeners
from qedge.devices.segments.config import GroupKeyConfig, SegmentConfig
from qedge.devices.segments.counts import Counts
from qedge.devices.segments.feeds import Feed
from qedge.devices.segments.model import OPERATOR, Handover, MemberId, Reader, Reading
from qedge.devices.segments.ports import Denied, Downlink, EpochKeep, Onward, SegmentBus, Subjects
from qedge.devices.segments.review import Reviewer
from qedge.devices.segments.segment import Segment
from qedge.security.model import Reason, Subject, SubjectKind
from qedge.security.ports import Judge
from qedge.wire.segments import SegmentDetail, SegmentReading, SegmentView, parse_segment_topic, segment_base
from qedge_device.commands import DONE, KEY, unpack_key_request
from qedge_device.group import GroupKey, pack_group_key

_LOG: Final = get_logger("devices")
_TICK_S: Final = 0.25
_STEP_S: Final = 0.01
_AT_ONCE: Final = 16
_EXPIRY_S: Final = 60
_SHOWN_MEMBERS: Final = 1000

HandToPeer = Callable[[str, str, Handover, str], None]
"""Takes what is for a peer: its name, the segment, the secrets, and the reason where it is shut out."""


class Answers(Protocol):
    """Takes what devices answer to commands."""

    def hear(self, subject: Subject, body: bytes) -> None:
        """Take an answer."""
        ...


class SegmentService:
    """All segments of this node. Implements `qedge.devices.ports.Consumer` and `Audience`."""

    name = "segments"

    def __init__(
        self,
        fleet: str,
        node: str,
        segments: Mapping[str, SegmentConfig],
        config: GroupKeyConfig,
        *,
        judge: Judge,
        subjects: Subjects,
        downlink: Downlink,
        bus: SegmentBus,
        keep: EpochKeep,
        onward: Onward,
        clock: Clock,
        metrics: Metrics,
        random_bytes: RandomBytes,
        denied: Denied = lambda *_: None,
    ) -> None:
        self.config = config
        self._judge = judge
        self._subjects = subjects
        self._downlink = downlink
        self._bus = bus
        self._keep = keep
        self._onward = onward
        self._clock = clock
        self._metrics = metrics
        self._denied = denied
        self._segments = {
            name: Segment(name, segment_base(fleet, node, name), each, 0, config.pace(), random_bytes)
            for name, each in segments.items()
        }
        self._place = (fleet, node)
        self._listeners = Listeners()
        self._feeds: dict[Feed, tuple[Segment, Subject, tuple[str, ...], int]] = {}
        self._answers: Answers | None = None
        self._to_peer: HandToPeer = lambda *_: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._reviewer = Reviewer(self._segments, self._admit, self._leave)
        self._counts = Counts(metrics)
        self._utc_offset_ns = clock.utc_ns() - clock.now_ns()
        self._strays = 0

    def bind(
        self,
        *,
        answers: Answers | None = None,
        to_peer: HandToPeer | None = None,
        ways: Sequence[Way] | None = None,
    ) -> None:
        """Say who takes answers of devices, who carries keys to peers, and by which ways devices hear segments."""
        self._listeners.ways = ways if ways is not None else self._listeners.ways
        self._answers = answers or self._answers
        self._to_peer = to_peer or self._to_peer

    # Readings

    def take(self, subject: Subject, channel: str, body: bytes, now_ns: int) -> None:
        """Take one reading that policy has let through, in the order in which the device sent them."""
        if channel[0] == "_":
            self._hear_own(subject, channel, body, now_ns)
            return
        segment = self._segments.get(subject.segment)
        if segment is None or channel not in segment.channels:
            self._strays += 1
            return
        segment.readings += 1
        utc_ns = now_ns + self._utc_offset_ns
        feeds = segment.feeds.get(channel)
        if feeds is not None:
            reading = Reading(subject.id, segment.name, channel, body, now_ns, utc_ns)
            for feed in feeds:
                feed.put(segment.retention, reading)
        config = segment.config
        if config.bus and segment.membership.has_readers(channel):
            first = segment.post(channel, SegmentReading(subject.id, utc_ns, body))
            if first and self._loop is not None:
                delay_s = 0.0 if config.retention == "critical" else self.config.batch_ms / 1e3
                self._loop.call_later(delay_s, self._publish, segment, channel)
        if config.upstream:
            self._onward.put(subject.id, segment.name, channel, segment.retention, utc_ns, body)

    def _hear_own(self, subject: Subject, channel: str, body: bytes, now_ns: int) -> None:
        if is_out(subject, now_ns):
            return
        if channel == DONE and self._answers is not None:
            self._answers.hear(subject, body)
        elif channel == KEY:
            self._hear_key_request(subject, body, now_ns)

    def _hear_key_request(self, subject: Subject, body: bytes, now_ns: int) -> None:
        try:
            name, channels = unpack_key_request(body)
        except ValueError:
            self._strays += 1
            return
        name = name or subject.segment
        try:
            self.subscribe(subject, name, channels)
        except QedgeError:
            # a clear refusal: a key with nothing in it
            self._downlink.down(subject.id, KEY, pack_group_key(GroupKey(name or "none", 0, {})), now_ns)

    def _publish(self, segment: Segment, channel: str) -> None:
        topic = f"{segment.base}/{channel}"
        for frame in segment.frames(channel, self._clock.now_ns()):
            self._listeners.send(topic, frame)
            try:
                self._bus.post(topic, frame, expiry_s=_EXPIRY_S)
            except QedgeError:
                segment.dropped += 1

    # Consumers

    def subscribe(
        self, subject: Subject | None, segment: str, channels: tuple[str, ...] = (), *, until_ns: int = 0
    ) -> Admission:
        """Let a device or a peer read channels of a segment over the bus, all that are declared where none is named.

        Raises `segment.not_found`, or `segment.refused` where policy grants none of them. The key follows.
        """
        found = self._find(segment)
        admission = self._admit(subject, found, channels)
        if subject is None or not admission.granted:
            raise refusal(segment, admission)
        member = MemberId(subject.kind, subject.id)
        found.readers[member] = Reader(subject, channels or found.config.channels, subject.epoch, until_ns)
        found.membership.join(member, admission.granted, self._clock.now_ns())
        self._wake.set()
        return admission

    def join(self, subject: Subject, topic: str, _now_ns: int, _utc_ns: int) -> bool:
        """Let a device listen to a topic of a segment where policy permits; False where it does not."""
        parsed = parse_segment_topic(topic)
        if parsed is None or parsed[:2] != self._place or not self._listeners.has_room(topic):
            return False
        _, _, segment, channel = parsed
        found = self._segments.get(segment)
        reader = found.readers.get(MemberId(subject.kind, subject.id)) if found is not None else None
        before = reader.channels if reader is not None else ()
        try:
            admission = self.subscribe(subject, segment, tuple(dict.fromkeys((*before, channel))))
        except QedgeError:
            return False
        if channel not in admission.granted:
            return False
        self._listeners.add(subject.id, topic)
        return True

    def leave(self, device_id: str, topic: str) -> None:
        """Send nothing more of a topic to a device; it may still read it elsewhere."""
        self._listeners.drop(device_id, topic)

    def open_feed(self, app: str, segment: str, channels: tuple[str, ...] = ()) -> Feed:
        """Let an app of this node read; raises `segment.not_found`, `segment.refused`."""
        found = self._find(segment)
        subject = self._subjects.find(SubjectKind.APP, app)
        if app not in (*found.config.apps, OPERATOR.id):
            subject = None
        admission = self._admit(subject, found, channels)
        if subject is None or not admission.granted:
            raise refusal(segment, admission)
        feed = Feed(self.config.feed_readings)
        self._feeds[feed] = (found, subject, channels or found.config.channels, subject.epoch)
        found.add_feed(feed, admission.granted)
        return feed

    def shut_out(self, kind: SubjectKind, name: str, reason: str) -> None:
        """Take everything from a subject at once: it was quarantined, revoked, or is in another segment now."""
        member = MemberId(kind, name)
        for segment in self._segments.values():
            self._leave(segment, member, reason)
        for feed, (_, subject, _, _) in list(self._feeds.items()):
            if subject.kind is kind and subject.id == name:
                self._end_feed(feed, reason)

    def let_go(self, kind: SubjectKind, name: str, segment: str) -> None:
        """Let a member go that wants to."""
        found = self._segments.get(segment)
        if found is not None:
            self._leave(found, MemberId(kind, name), "")

    def policy_changed(self) -> None:
        """Judge apps anew at once, and members some at a time."""
        for feed in list(self._feeds):
            self._review_feed(feed)
        self._reviewer.all_anew()
        self._wake.set()

    def rekey(self, segment: str) -> SegmentView:
        """Begin a new generation of keys; raises `segment.not_found`."""
        found = self._find(segment)
        found.membership.rekey(self._clock.now_ns())
        _LOG.info("segment.rekeyed", segment=segment, cause="operator", members=len(found.membership))
        self._wake.set()
        return found.view(self._clock.now_ns())

    def views(self) -> tuple[SegmentView, ...]:
        """Describe all segments."""
        now_ns = self._clock.now_ns()
        return tuple(each.view(now_ns) for each in self._segments.values())

    def detail(self, segment: str) -> SegmentDetail:
        """Describe one segment; raises `segment.not_found`."""
        found = self._find(segment)
        begun = {str(cause): number for cause, number in found.membership.begun.items()}
        return SegmentDetail(found.view(self._clock.now_ns()), found.member_views(_SHOWN_MEMBERS), begun)

    def _admit(self, subject: Subject | None, segment: Segment, channels: tuple[str, ...]) -> Admission:
        now_ns = self._clock.now_ns()
        declared = segment.config.channels
        wanted = channels or declared
        return admit(
            self._judge, subject, segment.name, wanted, declared, now_ns, now_ns + self._utc_offset_ns, self._denied
        )

    def _find(self, segment: str) -> Segment:
        found = self._segments.get(segment)
        if found is None:
            raise QedgeError(
                "segment.not_found", f"No segment is called {segment!r}.", fix="`qedge segment list` shows them."
            )
        return found

    def _leave(self, segment: Segment, member: MemberId, reason: str) -> None:
        segment.readers.pop(member, None)
        if member.kind is SubjectKind.DEVICE:
            self._listeners.drop_all(member.id, segment.base)
        if not segment.membership.leave(member, self._clock.now_ns()):
            return
        self._wake.set()
        if member.kind is SubjectKind.PEER:
            self._to_peer(member.id, segment.name, Handover(member, 0, {}), reason)

    def _end_feed(self, feed: Feed, reason: str) -> None:
        entry = self._feeds.pop(feed, None)
        if entry is not None:
            entry[0].drop_feed(feed)
            feed.close(reason)

    # Tending

    async def run(self, ready: Ready) -> None:
        """Keep keys in order until cancelled."""
        taken = await self._keep.reserved()
        for name, segment in self._segments.items():
            segment.membership.line.restart(taken.get(name, 0))
            await self._reserve(segment)
        self._loop = asyncio.get_running_loop()
        for segment in self._segments.values():
            for channel in list(segment.outbox):
                self._publish(segment, channel)
        ready()
        try:
            while True:
                busy = await self._tend()
                self._wake.clear()
                if busy:
                    await asyncio.sleep(_STEP_S)
                    continue
                try:
                    async with asyncio.timeout(self._pause_s()):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            self._loop = None

    async def _tend(self) -> bool:
        """Do one round of everything that is due; says whether more is."""
        now_ns = self._clock.now_ns()
        self._utc_offset_ns = self._clock.utc_ns() - now_ns
        self._review_feeds(now_ns)
        busy = self._reviewer.go_on(now_ns)
        left = max(1, round(self.config.handovers_per_s * _STEP_S))
        for number, (name, segment) in enumerate(self._segments.items(), 1):
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)  # of some hundred segments others would wait for milliseconds
            self._counts.hand_over(name, segment)
            if segment.membership.line.wanted_reserve:
                await self._reserve(segment)
            segment.membership.on_timer(now_ns)
            due = segment.membership.handovers(now_ns, left)
            left -= len(due)
            for each in due:
                self._hand(segment, each, now_ns)
            if left <= 0:
                return True
        self._counts.hand_over_strays(self._strays)
        return busy

    def _pause_s(self) -> float:
        now_ns = self._clock.now_ns()
        due = min((each.membership.next_deadline() for each in self._segments.values()), default=2**63 - 1)
        return min(_TICK_S, max(_STEP_S, (due - now_ns) / 1e9))

    async def _reserve(self, segment: Segment) -> None:
        line = segment.membership.line
        try:
            wanted = line.wanted_reserve
            if wanted:
                await self._keep.reserve(segment.name, wanted)
                segment.membership.extend(wanted, self._clock.now_ns())
        except QedgeError as error:
            if line.stalled:
                _LOG.warning("segment.stalled", segment=segment.name, code=error.code)

    def _hand(self, segment: Segment, handover: Handover, now_ns: int) -> None:
        """Give a member its secrets, unless it has lost its place this moment."""
        member = handover.member
        reader = segment.readers.get(member)
        if reader is None or is_out(reader.subject, now_ns):
            self._leave(segment, member, Reason.QUARANTINED.value)
            return
        if member.kind is SubjectKind.PEER:
            self._to_peer(member.id, segment.name, handover, "")
            return
        body = pack_group_key(GroupKey(segment.name, handover.epoch, handover.secrets))
        reached = self._downlink.down(member.id, KEY, body, now_ns)
        self._metrics.add("qedge_segment_handovers_total", ("handed" if reached else "unreachable",))

    def _review_feeds(self, now_ns: int) -> None:
        for feed, (_, subject, _, seen) in list(self._feeds.items()):
            if feed.closed:
                self._end_feed(feed, "")
            elif subject.epoch != seen or is_out(subject, now_ns):
                self._review_feed(feed)

    def _review_feed(self, feed: Feed) -> None:
        segment, subject, channels, _ = self._feeds[feed]
        granted = () if is_out(subject, self._clock.now_ns()) else self._admit(subject, segment, channels).granted
        segment.drop_feed(feed)
        if granted:
            segment.add_feed(feed, granted)
            self._feeds[feed] = (segment, subject, channels, subject.epoch)
        else:
            self._end_feed(feed, Reason.NO_RULE.value)
