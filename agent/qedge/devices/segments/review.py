"""Judges members again: when their subject changes, when policy does, when their time is over. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from qedge.devices.segments.admission import Admission, is_out
from qedge.devices.segments.model import MemberId
from qedge.devices.segments.segment import Segment
from qedge.security.model import Reason, Subject

LOOKED_AT: Final = 4096
JUDGED: Final = 256
"""Members in one round: a policy decision costs some microseconds, and the loop must not stand still."""

Admit = Callable[[Subject | None, Segment, tuple[str, ...]], Admission]
Leave = Callable[[Segment, MemberId, str], None]


class Reviewer:
    """Goes round all members of all segments, some at a time."""

    def __init__(self, segments: Mapping[str, Segment], admit: Admit, leave: Leave) -> None:
        self._segments = segments
        self._admit = admit
        self._leave = leave
        self._round: Iterator[tuple[Segment, MemberId]] = iter(())

    def all_anew(self) -> None:
        """Let all members be judged, and begin with the first."""
        for segment in self._segments.values():
            for reader in segment.readers.values():
                reader.seen_epoch = -1
        self._round = iter(())

    def go_on(self, now_ns: int) -> bool:
        """Look at some members; says whether there is more to judge than was done."""
        judged = 0
        for _ in range(LOOKED_AT):
            following = next(self._round, None)
            if following is None:
                self._round = iter([(each, member) for each in self._segments.values() for member in each.readers])
                return False
            judged += self._look_at(*following, now_ns)
            if judged >= JUDGED:
                return True
        return True

    def _look_at(self, segment: Segment, member: MemberId, now_ns: int) -> bool:
        reader = segment.readers.get(member)
        if reader is None:
            return False
        if is_out(reader.subject, now_ns) or 0 < reader.until_ns <= now_ns:
            self._leave(segment, member, Reason.LEASE.value)
            return True
        if reader.seen_epoch == reader.subject.epoch:
            return False
        reader.seen_epoch = reader.subject.epoch
        granted = self._admit(reader.subject, segment, reader.channels).granted
        if not granted:
            self._leave(segment, member, Reason.NO_RULE.value)
        elif set(granted) != set(segment.membership.channels_of(member)):
            segment.membership.join(member, granted, now_ns)
        return True
