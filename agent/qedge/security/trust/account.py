"""What is remembered of one device: points by class of evidence, and its last changes, packed small. Pure.

Twenty thousand devices have one each, so it is two byte strings and a few numbers: below half a KiB where a device is
quiet. Times are nanoseconds on the boot-time clock.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from qedge.security.trust.evidence import CLASSES

MAX_ROWS: Final = 12
NEGLIGIBLE: Final = 0.05
"""Points that are as good as none."""

_MARK: Final = struct.Struct("<Bdq")
_ROW: Final = struct.Struct("<qBfBBH")
_MERGE_NS: Final = 3_600_000_000_000
_HALVES: Final = tuple(math.log(2) / (each.half_life_s * 1e9) for each in CLASSES)


class Sums(NamedTuple):
    """Points that evidence gives a device now: `good` ≥ 0, `bad` ≥ 0."""

    good: float
    bad: float


class HistoryRow(NamedTuple):
    """One change: `kind` is the number of an evidence class or one of a deed; trust before and after."""

    at_ns: int
    kind: int
    points: float
    before: int
    after: int
    times: int


class Account:
    """One device. `published` is the trust that policy goes by; `review_ns` > 0 while it is quarantined."""

    __slots__ = ("_history", "_marks", "allowance", "allowance_ns", "demanded", "demanded_ns", "published", "review_ns")

    def __init__(self, published: int, allowance: float) -> None:
        self._marks = b""
        self._history = b""
        self.published = published
        self.allowance = allowance
        self.allowance_ns = 0
        self.review_ns = 0
        self.demanded = 0
        self.demanded_ns = 0

    def add(self, kind: int, points: float, now_ns: int) -> None:
        """Add points to a class: what it had is decayed first, and the sum is capped."""
        cap = CLASSES[kind].cap
        kept = b""
        for mark, value, at_ns in _MARK.iter_unpack(self._marks):
            if mark == kind:
                points += value * math.exp((at_ns - now_ns) * _HALVES[kind])
            else:
                kept += _MARK.pack(mark, value, at_ns)
        self._marks = kept + _MARK.pack(kind, max(-cap, min(cap, points)), now_ns)

    def sums(self, now_ns: int) -> Sums:
        """Sum up all classes as they have decayed by now."""
        good = bad = 0.0
        for mark, value, at_ns in _MARK.iter_unpack(self._marks):
            points = value * math.exp((at_ns - now_ns) * _HALVES[mark])
            good += max(0.0, points)
            bad -= min(0.0, points)
        return Sums(good, bad)

    def forgive(self, share: float, now_ns: int) -> None:
        """Leave `share` (0 … 1) of the points against the device."""
        kept = b""
        for mark, value, at_ns in _MARK.iter_unpack(self._marks):
            kept += _MARK.pack(mark, value * share, at_ns) if value < 0 else _MARK.pack(mark, value, at_ns)
        self._marks = kept
        self.tidy(now_ns)

    def tidy(self, now_ns: int) -> bool:
        """Drop points that are as good as none; says whether any are left."""
        kept = b""
        for mark, value, at_ns in _MARK.iter_unpack(self._marks):
            if abs(value) * math.exp((at_ns - now_ns) * _HALVES[mark]) >= NEGLIGIBLE:
                kept += _MARK.pack(mark, value, at_ns)
        self._marks = kept
        return bool(kept)

    def note(self, row: HistoryRow) -> None:
        """Write down a change; one like the last, within an hour, is counted with it."""
        last = self.last_row()
        if last is not None and last.kind == row.kind and 0 <= row.at_ns - last.at_ns < _MERGE_NS:
            times = min(65_535, last.times + row.times)
            row = row._replace(points=row.points + last.points, before=last.before, times=times)
            self._history = self._history[: -_ROW.size]
        self._history = (self._history + _ROW.pack(*row))[-MAX_ROWS * _ROW.size :]

    def last_row(self) -> HistoryRow | None:
        """Return the newest change."""
        return HistoryRow(*_ROW.unpack(self._history[-_ROW.size :])) if self._history else None

    def rows(self) -> Iterator[HistoryRow]:
        """Return the changes that are remembered, oldest first."""
        return (HistoryRow(*row) for row in _ROW.iter_unpack(self._history))

    def pack(self, now_ns: int) -> bytes:
        """Write the account down with ages instead of times, for a start after which the clock has begun anew."""
        marks = b"".join(
            _MARK.pack(mark, value, now_ns - at_ns) for mark, value, at_ns in _MARK.iter_unpack(self._marks)
        )
        history = b"".join(_ROW.pack(now_ns - row.at_ns, *row[1:]) for row in self.rows())
        return bytes([1, self.published, len(marks) // _MARK.size]) + marks + history

    @classmethod
    def unpack(cls, data: bytes, age_ns: int, now_ns: int, allowance: float) -> Account:
        """Read an account that was written `age_ns` ago; raises `ValueError` for what is none.

        Its allowance for good evidence begins anew; quarantine is told to it by whoever remembers it.
        """
        end = 3 + _MARK.size * data[2] if len(data) >= 3 else 0
        if end == 0 or data[0] != 1 or len(data) < end or (len(data) - end) % _ROW.size or data[1] > 100:
            raise ValueError("no account of a device")
        account = cls(data[1], allowance)
        account.allowance_ns = now_ns
        for mark, value, age in _MARK.iter_unpack(data[3:end]):
            if mark >= len(CLASSES) or not abs(value) <= CLASSES[mark].cap:
                raise ValueError("no account of a device")
            account._marks += _MARK.pack(mark, value, now_ns - age - age_ns)
        rows = [HistoryRow(*row) for row in _ROW.iter_unpack(data[end:])][-MAX_ROWS:]
        account._history = b"".join(_ROW.pack(now_ns - row.at_ns - age_ns, *row[1:]) for row in rows)
        return account
