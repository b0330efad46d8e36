"""What was written and may not have arrived: QoS 0 is not acknowledged, but a PINGRESP proves what was read. Pure.

Packets of a connection are read in order, so a PINGRESP to a PINGREQ says that the server has read all that was written
before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from qedge.fleet.sparkplug.model import Past

MAX_UNCONFIRMED: Final = 20_000


@dataclass(slots=True)
class _Asked:
    number: int
    sent_ns: int
    written: int
    """How many rows had been written in all when the question was."""


class InFlight:
    """Counts PINGREQs, which are answered in order, and keeps the readings that none of them has confirmed."""

    def __init__(self) -> None:
        self._rows: deque[Past] = deque(maxlen=MAX_UNCONFIRMED)
        self._asked: deque[_Asked] = deque()
        self._written = 0
        self._confirmed = 0
        self._number = 0

    @property
    def newest(self) -> int:
        """Number of the newest PINGREQ, 0 before the first."""
        return self._number

    @property
    def unmarked(self) -> int:
        """Rows written after the newest PINGREQ."""
        return self._written - (self._asked[-1].written if self._asked else self._confirmed)

    def add(self, rows: Iterable[Past]) -> None:
        """Take readings that were written just now."""
        for row in rows:
            self._rows.append(row)
            self._written += 1

    def ask(self, now_ns: int) -> int:
        """Count a PINGREQ that is written now; returns its number."""
        self._number += 1
        self._asked.append(_Asked(self._number, now_ns, self._written))
        return self._number

    def answered(self) -> int:
        """Take a PINGRESP; returns the number of the PINGREQ that it answers, 0: of none."""
        if not self._asked:
            return 0
        asked = self._asked.popleft()
        self._confirm(asked.written)
        return asked.number

    def all_read(self) -> None:
        """Take another proof that the server has read everything: the PUBACK of the last message."""
        self._confirm(self._written)

    def waiting_ns(self, now_ns: int) -> int:
        """Return how long the oldest PINGREQ has been without its answer; 0 where none is."""
        return now_ns - self._asked[0].sent_ns if self._asked else 0

    def unconfirmed(self) -> tuple[Past, ...]:
        """Return what may be lost, the oldest first."""
        return tuple(self._rows)

    def _confirm(self, written: int) -> None:
        waiting = max(0, self._written - written)
        while len(self._rows) > waiting:
            self._rows.popleft()
        self._confirmed = max(self._confirmed, written)
