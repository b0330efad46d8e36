"""Who may open what a segment says: joins, leaves and the keys that follow from them. Pure.

One rule carries all: whatever is sealed, is sealed in an epoch whose secrets nobody holds but members. So

- a member that leaves and holds a secret of the current generation ends that generation at once: the next reading is
  sealed under a new one. Only *handing it over* waits for a short window, so that many leaves cost one round; whoever
  leaves within the window was not handed anything yet and is merely struck from the round;
- a member that joins gets the epoch after the current one, and cannot derive any before. Joins within a window share
  one step; the others follow by themselves when they see the first frame of it.

Frames that are sealed while a round is under way wait at the members that have not been served yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from qedge.base.ids import RandomBytes
from qedge.devices.segments.epochs import EpochLine, Generation
from qedge.devices.segments.model import Cause, Handover, MemberId, Pace

NEVER: Final = 2**63 - 1


class _Member:
    """`since`: for each channel the first epoch it may open, −1 while it joins.

    `served`: first epoch of the newest generation of which it was handed anything.
    """

    __slots__ = ("served", "since")

    def __init__(self) -> None:
        self.since: dict[str, int] = {}
        self.served = -1


class _Round:
    """Hands one generation to all who were members when it began."""

    __slots__ = ("due_ns", "generation", "queue")

    def __init__(self, generation: Generation, members: list[tuple[MemberId, _Member]], due_ns: int) -> None:
        self.generation = generation
        self.queue = deque(members)
        self.due_ns = due_ns


class Membership:
    """The members of one segment and its epochs."""

    def __init__(self, base: str, start: int, pace: Pace, random_bytes: RandomBytes) -> None:
        self.line = EpochLine(base, start, random_bytes)
        self._pace = pace
        self._members: dict[MemberId, _Member] = {}
        self._joining: dict[MemberId, None] = {}
        self._readers: dict[str, int] = {}
        self._rounds: deque[_Round] = deque()
        self._ready: deque[Handover] = deque()
        self._join_due_ns = NEVER
        self._last_join_ns = -NEVER
        self._missed = Cause.START
        self.begun: dict[Cause, int] = dict.fromkeys(Cause, 0)
        """How many epochs began, by cause."""

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: MemberId) -> bool:
        return member in self._members

    def members(self) -> tuple[MemberId, ...]:
        """Return all members, those that still join included."""
        return tuple(self._members)

    def channels_of(self, member: MemberId) -> tuple[str, ...]:
        """Return the channels that a member may open."""
        known = self._members.get(member)
        return tuple(known.since) if known is not None else ()

    def has_readers(self, channel: str) -> bool:
        """Say whether anybody could open what is sealed for a channel."""
        return bool(self._readers.get(channel))

    def extend(self, reserved: int, now_ns: int) -> None:
        """Hear of a reservation; an epoch that waits for its number begins, the first one too."""
        self.line.extend(reserved)
        if self.line.stalled:
            self._renew(self._missed, now_ns)

    def join(self, member: MemberId, channels: tuple[str, ...], now_ns: int) -> None:
        """Let a member read these channels and no others; one that asks again is served again."""
        known = self._members.get(member)
        if known is None:
            known = self._members[member] = _Member()
        lost = [channel for channel in known.since if channel not in channels]
        gained = [channel for channel in channels if channel not in known.since]
        for channel in lost:
            del known.since[channel]
        known.since.update(dict.fromkeys(gained, -1))
        self._count(lost, -1)
        self._count(gained, 1)
        if lost:
            self._shut_out(known, now_ns)
        self._joining[member] = None
        if self._join_due_ns == NEVER:
            self._join_due_ns = max(now_ns, self._last_join_ns + self._pace.join_window_ns)

    def leave(self, member: MemberId, now_ns: int) -> bool:
        """Shut a member out from now on; says whether it was one."""
        known = self._members.pop(member, None)
        if known is None:
            return False
        self._count(known.since, -1)
        self._joining.pop(member, None)
        self._shut_out(known, now_ns)
        return True

    def rekey(self, now_ns: int) -> None:
        """Begin a new generation because an operator wants one."""
        self._renew(Cause.OPERATOR, now_ns)

    def seal(self, channel: str, payload: bytes, now_ns: int) -> bytes | None:
        """Seal for all who may open a channel now; None where no epoch can be open."""
        frame = self.line.seal(channel, payload)
        if frame is None:
            return self.line.seal(channel, payload) if self._renew(self._missed, now_ns) else None
        if self.line.stalled:
            self._renew(Cause.FRAMES, now_ns)
        return frame

    def next_deadline(self) -> int:
        """Return when something is due (boot-time clock); `NEVER` where nothing is."""
        if self._ready:
            return 0
        generation = self.line.generation
        age = generation.opened_ns + self._pace.max_age_ns if generation is not None else NEVER
        first_round = self._rounds[0].due_ns if self._rounds else NEVER
        return min(self._join_due_ns, first_round, age)

    def on_timer(self, now_ns: int) -> None:
        """Do what is due: end generations that are too old, let in who joins."""
        generation = self.line.generation
        if generation is not None and now_ns - generation.opened_ns >= self._pace.max_age_ns:
            self._renew(Cause.AGE, now_ns)
        if now_ns >= self._join_due_ns:
            self._admit(now_ns)

    def handovers(self, now_ns: int, limit: int) -> list[Handover]:
        """Take at most `limit` of the secrets that are due, in the order in which members need them."""
        due: list[Handover] = []
        while len(due) < limit and self._rounds and self._rounds[0].due_ns <= now_ns:
            current = self._rounds[0]
            if not current.queue:
                self._rounds.popleft()
                continue
            member, known = current.queue.popleft()
            if self._members.get(member) is known:  # otherwise it has left since, and is struck from the round
                due += self._hand(member, known, current.generation, current.generation.first)
        while self._rounds and not self._rounds[0].queue:
            self._rounds.popleft()
        while len(due) < limit and self._ready:
            due.append(self._ready.popleft())
        return [each for each in due if each.member in self._members]

    def _admit(self, now_ns: int) -> None:
        """Let in all who joined within the window: they may open the next epoch and what follows."""
        self._join_due_ns, self._last_join_ns = NEVER, now_ns
        line = self.line
        if self._pace.rekey_on_join and line.used and not line.stalled:
            renewed = line.step(now_ns)
            self.begun[Cause.JOINED] += 1
            if renewed:
                self._open_round(now_ns)
        generation = line.generation
        if line.stalled or generation is None:
            self._join_due_ns = now_ns + self._pace.join_window_ns
            return
        joining, self._joining = self._joining, {}
        for member in joining:
            known = self._members[member]
            for channel, since in known.since.items():
                known.since[channel] = line.current if since < 0 else since
            self._ready += self._hand(member, known, generation, line.current)

    @staticmethod
    def _hand(member: MemberId, known: _Member, generation: Generation, epoch: int) -> list[Handover]:
        """Make what a member gets for an epoch: nothing of channels that it joined later."""
        secrets = {
            channel: generation.secret(channel, epoch) for channel, since in known.since.items() if 0 <= since <= epoch
        }
        if not secrets:
            return []
        known.served = max(known.served, generation.first)
        return [Handover(member, epoch, secrets)]

    def _shut_out(self, known: _Member, now_ns: int) -> None:
        """End the current generation where somebody holds secrets of it who may not any more."""
        generation = self.line.generation
        if generation is not None and known.served >= generation.first:
            self._renew(Cause.LEFT, now_ns)

    def _renew(self, cause: Cause, now_ns: int) -> bool:
        if not self.line.renew(now_ns):
            self._missed = cause
            return False
        self.begun[cause] += 1
        self._open_round(now_ns)
        return True

    def _open_round(self, now_ns: int) -> None:
        generation = self.line.generation
        members = list(self._members.items())
        if generation is not None and members:
            self._rounds.append(_Round(generation, members, now_ns + self._pace.leave_window_ns))

    def _count(self, channels: Iterable[str], change: int) -> None:
        for channel in channels:
            self._readers[channel] = self._readers.get(channel, 0) + change
