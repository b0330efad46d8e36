"""Apps in programs of their own follow segments, of this node and of others, for as long as policy lets them.

About a segment of this node its policy decides with the app as the subject. About a segment of another node two do: the
policy here about the app, and the policy there about this node, which is the peer that asks. What was let through is
judged again whenever the policy changes, and once a minute, since a rule may hold at some times of day only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from qedge.base.clock import Clock
from qedge.base.errors import QedgeError
from qedge.base.service import Ready
from qedge.devices.segments.admission import admit, is_out
from qedge.devices.segments.feeds import Feed
from qedge.devices.segments.model import Reading
from qedge.devices.segments.ports import Denied, Subjects
from qedge.devices.segments.service import SegmentService
from qedge.devices.segments.visiting import Visitor
from qedge.security.model import Reason, Subject, SubjectKind
from qedge.security.ports import Judge
from qedge.wire.segments import AppReading, ReadingsEnded, ReadingsLost, SegmentNews

MAX_FEEDS: Final = 16
"""Feeds that one app may have open at a time."""

_BATCH: Final = 256
_HEARTBEAT_S: Final = 15.0
_REVIEW_S: Final = 60.0


class WatchDesk:
    """Opens feeds for apps and turns them into what goes over HTTP."""

    name = "segment-watches"

    def __init__(
        self,
        node: str,
        segments: SegmentService,
        visitor: Visitor,
        subjects: Subjects,
        judge: Judge,
        *,
        clock: Clock,
        denied: Denied,
    ) -> None:
        self._node = node
        self._segments = segments
        self._visitor = visitor
        self._subjects = subjects
        self._judge = judge
        self._clock = clock
        self._denied = denied
        self._open: dict[str, int] = {}
        self._visits: dict[Feed, tuple[Subject, str, tuple[str, ...]]] = {}

    def subject(self, app: str) -> Subject | None:
        """Return who an app is to policy; None where no app has the name."""
        return self._subjects.find(SubjectKind.APP, app)

    @asynccontextmanager
    async def follow(
        self, app: str, segment: str, channels: tuple[str, ...], node: str = ""
    ) -> AsyncIterator[AsyncIterator[tuple[SegmentNews, ...]]]:
        """Open a feed and close it in the end; it gives `()` where nothing came for some seconds.

        Raises `segment.not_found`, `segment.refused`, `peer.*`, `session.*`, and `http.busy` over `MAX_FEEDS`.
        """
        if self._open.get(app, 0) >= MAX_FEEDS:
            raise QedgeError("http.busy", f"{app} follows {MAX_FEEDS} segments already.", fix="Close one.")
        self._open[app] = self._open.get(app, 0) + 1
        elsewhere = node if node != self._node else ""
        try:
            feed = await self._feed(app, segment, channels, elsewhere)
            try:
                yield _news(feed, elsewhere)
            finally:
                feed.close()
                self._visits.pop(feed, None)
        finally:
            self._open[app] -= 1
            if not self._open[app]:
                del self._open[app]

    async def run(self, ready: Ready) -> None:
        """Judge again what was let through, until cancelled."""
        ready()
        while True:
            await asyncio.sleep(_REVIEW_S)
            self._segments.policy_changed()
            self.policy_changed()

    def policy_changed(self) -> None:
        """Judge anew those who read segments of other nodes."""
        for feed, (subject, segment, channels) in list(self._visits.items()):
            out = is_out(subject, self._clock.now_ns())
            if out or set(self._granted(subject, segment, channels)) != set(channels):
                del self._visits[feed]
                feed.close(Reason.NO_RULE.value)

    async def _feed(self, app: str, segment: str, channels: tuple[str, ...], node: str) -> Feed:
        if not node:
            return self._segments.open_feed(app, segment, channels)
        subject = self.subject(app)
        granted = self._granted(subject, segment, channels)
        if subject is None or not granted:
            raise QedgeError(
                "segment.refused",
                f"Policy lets {app} read none of these channels of the segment {segment!r} of {node}.",
                fix="Name channels; both this node's policy and that of the other have to permit them.",
            )
        feed = await self._visitor.open_feed(node, segment, granted)
        self._visits[feed] = (subject, segment, granted)
        self.policy_changed()  # it may have while the other node was asked
        return feed

    def _granted(self, subject: Subject | None, segment: str, channels: tuple[str, ...]) -> tuple[str, ...]:
        now_ns, utc_ns = self._clock.now_ns(), self._clock.utc_ns()
        return admit(self._judge, subject, segment, channels, channels, now_ns, utc_ns, self._denied).granted


async def _news(feed: Feed, node: str) -> AsyncIterator[tuple[SegmentNews, ...]]:
    """Give what comes, with how much was lost where that has grown, and the reason at the end."""
    lost = 0
    while True:
        try:
            async with asyncio.timeout(_HEARTBEAT_S):
                readings = await feed.some(_BATCH)
        except TimeoutError:
            yield ()
            continue
        if not readings:
            yield (ReadingsEnded(feed.refusal),)
            return
        news: tuple[SegmentNews, ...] = tuple(_app_reading(each, node) for each in readings)
        before, lost = lost, sum(feed.dropped.values())
        yield (ReadingsLost(lost), *news) if lost > before else news


def _app_reading(reading: Reading, node: str) -> AppReading:
    return AppReading(reading.device, reading.segment, reading.channel, reading.utc_ns, reading.body, node)
