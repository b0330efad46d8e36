"""Rows of a spool: functions that the store calls with its connection, in its thread.

Numbers of a class are given here, in the transaction that writes the item, also to items that find no room: so a gap
between numbers is always something that gave way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from qedge.fleet.telemetry.model import KINDS, Row, Waiting
from qedge.store.fifo import NOTHING, ROW_BYTES, Fifo, Span, Taken
from qedge.wire.telemetry import TelemetryClass

_MOST_PASSES: Final = 32


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of a class, and what gives way at them: `oldest`, `newest` or `thin`."""

    max_rows: int
    max_bytes: int
    drop: str


@dataclass(slots=True)
class LaneState:
    """How much of a class is on the disk; `last_id` and `last` are id and number of its newest item."""

    rows: int = 0
    num_bytes: int = 0
    oldest_utc_ns: int = 0
    last_id: int = 0
    last: int = 0


@dataclass(slots=True)
class Change:
    """What a transaction changes; it counts once the transaction has been committed (`Rows.apply`).

    `gave_way` rows were erased to make room, `refused` new ones were not written.
    """

    kind: TelemetryClass
    rows: int = 0
    num_bytes: int = 0
    gave_way: int = 0
    refused: int = 0
    oldest_utc_ns: int = 0
    last_id: int = 0
    last: int = 0

    def take(self, taken: Taken) -> None:
        """Count what is gone."""
        self.rows -= taken.rows
        self.num_bytes -= taken.num_bytes


class Rows:
    """What is on the disk. Methods with a connection run in the store's thread, the others in the event loop."""

    def __init__(self, limits: Mapping[TelemetryClass, LaneLimits]) -> None:
        self._limits = limits
        self._queues = {each: Fifo("items", f"kind = '{each.value}'") for each in KINDS}
        self._busy: dict[TelemetryClass, Span] = dict.fromkeys(KINDS, NOTHING)
        self.lanes: dict[TelemetryClass, LaneState] = {each: LaneState() for each in KINDS}

    def load(self, connection: sqlite3.Connection) -> None:
        """Count what an earlier run has left."""
        numbers: dict[str, int] = dict(connection.execute("SELECT kind, last FROM sequences"))
        for kind, state in self.lanes.items():
            found = self._queues[kind].size(connection)
            state.rows, state.num_bytes, state.last = found.rows, found.num_bytes, numbers.get(kind.value, 0)
            state.oldest_utc_ns = self._queues[kind].oldest_utc_ns(connection)
            state.last_id = _last_id(connection, kind)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over what was committed."""
        for change in changes:
            state = self.lanes[change.kind]
            state.rows += change.rows
            state.num_bytes += change.num_bytes
            state.oldest_utc_ns = change.oldest_utc_ns
            state.last_id = max(state.last_id, change.last_id)
            state.last = max(state.last, change.last)

    def append(
        self, connection: sqlite3.Connection, *, batch: Mapping[TelemetryClass, Sequence[Waiting]]
    ) -> list[Change]:
        """Write items at the end of their classes; what needs room takes it as its class says, or is refused."""
        return [self._append(connection, kind, items) for kind, items in batch.items() if items]

    def _append(self, connection: sqlite3.Connection, kind: TelemetryClass, items: Sequence[Waiting]) -> Change:
        state, limits, change = self.lanes[kind], self._limits[kind], Change(kind)
        if limits.drop != "newest":
            self._make_room(connection, change, len(items), sum(len(each.body) + ROW_BYTES for each in items))
        rows = limits.max_rows - state.rows - change.rows
        room = limits.max_bytes - state.num_bytes - change.num_bytes
        numbered = [(state.last + place, each) for place, each in enumerate(items, 1)]
        kept: list[tuple[str, int, int, str, bytes]] = []
        # where even an empty class has no room for all of them, the same end gives way as on the disk
        for sequence, each in numbered if limits.drop == "newest" else reversed(numbered):
            size = len(each.body) + ROW_BYTES
            if size > room or rows <= 0:
                change.refused += 1
                continue
            room, rows = room - size, rows - 1
            change.num_bytes += size
            kept.append((kind.value, sequence, each.utc_ns, each.series, each.body))
        connection.executemany(
            "INSERT INTO items (kind, sequence, utc_ns, name, body) VALUES (?, ?, ?, ?, ?)",
            kept if limits.drop == "newest" else reversed(kept),
        )
        change.last = state.last + len(items)
        connection.execute(
            "INSERT INTO sequences (kind, last) VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET last = excluded.last",
            (kind.value, change.last),
        )
        change.rows += len(kept)
        change.last_id = _last_id(connection, kind)
        change.oldest_utc_ns = self._queues[kind].oldest_utc_ns(connection)
        return change

    def _make_room(self, connection: sqlite3.Connection, change: Change, rows: int, num_bytes: int) -> None:
        """Erase until so much fits, as far as that is possible."""
        state, limits, queue = self.lanes[change.kind], self._limits[change.kind], self._queues[change.kind]
        busy, taken = self._busy[change.kind], Taken()

        def missing() -> tuple[int, int]:
            return (
                state.rows - taken.rows + rows - limits.max_rows,
                state.num_bytes - taken.num_bytes + num_bytes - limits.max_bytes,
            )

        if limits.drop == "thin":
            for _ in range(_MOST_PASSES):
                before = taken.rows
                if max(missing()) <= 0:
                    break
                queue.thin(connection, taken, by="name", busy=busy)
                if taken.rows == before:
                    break
        too_many, too_large = missing()
        queue.free(connection, taken, num_bytes=too_large, rows=too_many, busy=busy)
        change.take(taken)
        change.gave_way += taken.rows

    def read(
        self,
        connection: sqlite3.Connection,
        *,
        limit: int,
        kind: TelemetryClass | None = None,
        span: Span | None = None,
        max_bytes: int = 2**62,
    ) -> list[Row]:
        """Return the first rows, of one class or of all; with `span` only those with ids in it.

        At least one where there is any. They count as on their way: nothing gives way among them until `erase`,
        `release` or another read.
        """
        after, upto = span or Span(0, 2**62)
        where, chosen = ("kind = ? AND", (kind.value,)) if kind is not None else ("", ())
        rows: list[Row] = []
        size = 0
        for row_id, name, *rest in connection.execute(
            "SELECT id, kind, sequence, utc_ns, name, body FROM items"  # noqa: S608 - words of ours
            f" WHERE {where} id > ? AND id <= ? ORDER BY id LIMIT ?",
            (*chosen, after, upto, limit),
        ):
            row = Row(row_id, TelemetryClass(name), *rest)
            size += len(row.body) + ROW_BYTES
            if rows and size > max_bytes:
                break
            rows.append(row)
        for each in KINDS if kind is None else (kind,):
            self._busy[each] = Span(after, rows[-1].id) if rows else NOTHING
        return rows

    def erase(self, connection: sqlite3.Connection, *, span: Span, kind: TelemetryClass | None = None) -> list[Change]:
        """Erase what was acknowledged: rows with ids in `span`, of one class or of all."""
        changes = []
        for each in KINDS if kind is None else (kind,):
            change, taken = Change(each), Taken()
            self._queues[each].erase(connection, span, taken)
            change.take(taken)
            change.oldest_utc_ns = self._queues[each].oldest_utc_ns(connection)
            self._busy[each] = NOTHING
            changes.append(change)
        return changes

    def release(self) -> None:
        """Let everything give way again: what was on its way did not arrive."""
        self._busy = dict.fromkeys(KINDS, NOTHING)

    def expire(self, connection: sqlite3.Connection, *, before_ns: Mapping[TelemetryClass, int]) -> list[Change]:
        """Erase rows from the front of classes that were made before a wall time, unless they are on their way."""
        changes = []
        for kind, limit_ns in before_ns.items():
            change, taken = Change(kind), Taken()
            self._queues[kind].expire(connection, taken, before_ns=limit_ns, busy=self._busy[kind])
            change.take(taken)
            change.gave_way = taken.rows
            change.oldest_utc_ns = self._queues[kind].oldest_utc_ns(connection)
            changes.append(change)
        return changes


def _last_id(connection: sqlite3.Connection, kind: TelemetryClass) -> int:
    found = connection.execute("SELECT max(id) FROM items WHERE kind = ?", (kind.value,)).fetchone()[0]
    return int(found or 0)
