"""Readings of an outage on their way to hosts: one batch of the spool at a time, marked historical and paced. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from qedge.fleet.sparkplug.model import Past
from qedge.fleet.sparkplug.pace import Pace
from qedge.fleet.sparkplug.ports import Spooled

BATCH_ROWS: Final = 500
MESSAGE_ROWS: Final = 100
_LOOK_NS: Final = 5_000_000_000
PATIENCE_NS: Final = 60_000_000_000
"""How long after the first birth readings of a device without a birth wait: drivers take their time to open."""


class Replay:
    """One batch: given, written, confirmed by a PINGRESP to a PINGREQ written after it, done."""

    def __init__(self, per_s: float) -> None:
        self._pace = Pace(per_s, MESSAGE_ROWS)
        self._rows: deque[Past] = deque()
        self._up_to = 0
        self._ping = 0
        self._open = False
        self._look_ns = 0
        self.strangers = 0
        """Readings that no birth of this session has, which therefore cannot be sent."""

    def wants(self, now_ns: int) -> bool:
        """Say whether a batch should be fetched now."""
        return not self._open and now_ns >= self._look_ns

    def give(self, batch: Sequence[Spooled], now_ns: int) -> None:
        """Take a batch; an empty one means that there is none, and that it is looked for again after a while."""
        if not batch:
            self._look_ns = now_ns + _LOOK_NS
            return
        self._open, self._ping, self._up_to = True, 0, batch[-1].id
        self._rows.extend(row.past for row in batch)

    def message(self, known: Callable[[Past], bool], waits: Callable[[Past], bool], now_ns: int) -> list[Past]:
        """Return the next readings of one owner, at most `MESSAGE_ROWS`; none: nothing may go now.

        `known` says whether a reading stands in a birth, `waits` of one that does not whether it may do so soon.
        """
        while self._rows and not known(self._rows[0]):
            if waits(self._rows[0]):
                return []
            self._rows.popleft()
            self.strangers += 1
        if not self._rows or self.ready_ns(now_ns) > now_ns:
            return []
        owner, rows = self._rows[0].owner, list[Past]()
        while self._rows and len(rows) < MESSAGE_ROWS and self._rows[0].owner == owner and known(self._rows[0]):
            rows.append(self._rows.popleft())
        self._pace.take(now_ns, len(rows))
        return rows

    def ready_ns(self, now_ns: int) -> int:
        """Return when the next message may go; -1 where no row waits."""
        return self._pace.ready_ns(now_ns) if self._rows else -1

    @property
    def wants_proof(self) -> bool:
        """Whether all rows are written and a PINGREQ is due."""
        return self._open and not self._rows and not self._ping

    def asked(self, ping: int) -> None:
        """Take note of a PINGREQ that is written now."""
        if self.wants_proof:
            self._ping = ping

    def answered(self, ping: int) -> int:
        """Take note that a PINGREQ was answered; returns up to which id the server has all rows, 0: nothing new."""
        if not self._open or not self._ping or ping < self._ping:
            return 0
        self._open = False
        return self._up_to
