"""The spool's rows: functions that the store calls with its connection, in its thread.

A class of readings is a table that grows at its end and shrinks at its front. Sequence numbers of devices are given
here, in the transaction that writes the reading, so a number is never seen upstream before it is on the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from qedge.devices.segments.model import RetentionClass
from qedge.devices.segments.ports import KnownCommand
from qedge.store.fifo import ROW_BYTES, Fifo, Span, Taken

KEPT_COMMANDS: Final = 10_000
LANES: Final = (RetentionClass.CRITICAL, RetentionClass.TELEMETRY, RetentionClass.BULK)


class Waiting(NamedTuple):
    """A reading before it has its sequence number."""

    device: str
    segment: str
    channel: str
    utc_ns: int
    body: bytes


class Row(NamedTuple):
    """A reading on the disk."""

    id: int
    device: str
    sequence: int
    segment: str
    channel: str
    utc_ns: int
    body: bytes


@dataclass(slots=True)
class LaneState:
    """How much of a class is on the disk; ids up to `sending` are on their way upstream now."""

    rows: int = 0
    num_bytes: int = 0
    sending: int = 0
    oldest_utc_ns: int = 0


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """Bounds of a class."""

    max_bytes: int
    drop_oldest: bool


@dataclass(slots=True)
class Change:
    """What a transaction changes; it counts once the transaction has been committed (`Spool.apply`).

    `erased`: readings that are gone; `refused`: new ones that were not written.
    """

    lane: RetentionClass
    rows: int = 0
    num_bytes: int = 0
    erased: int = 0
    refused: int = 0
    oldest_utc_ns: int = 0
    last: dict[str, int] = field(default_factory=dict)

    def take(self, taken: Taken) -> None:
        """Count what is gone."""
        self.rows -= taken.rows
        self.erased += taken.rows
        self.num_bytes -= taken.num_bytes


class Spool:
    """What is on the disk. Its methods with a connection run in the store's thread, the others in the event loop."""

    def __init__(self, limits: Mapping[RetentionClass, LaneLimits]) -> None:
        self._limits = limits
        self._last: dict[str, int] = {}
        self.lanes: dict[RetentionClass, LaneState] = {each: LaneState() for each in LANES}
        self._queues = {each: Fifo(each.value, before_erase=partial(_keep_sequences, each)) for each in LANES}

    def load(self, connection: sqlite3.Connection) -> None:
        """Count what an earlier run has left."""
        self._last = dict(connection.execute("SELECT device, last FROM sequences"))
        for lane, state in self.lanes.items():
            found = self._queues[lane].size(connection)
            state.rows, state.num_bytes = found.rows, found.num_bytes
            for device, last in connection.execute(
                f"SELECT device, max(sequence) FROM {lane.value} GROUP BY device"  # noqa: S608 - a name of ours
            ):
                self._last[device] = max(last, self._last.get(device, 0))
            state.oldest_utc_ns = self._queues[lane].oldest_utc_ns(connection)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over what was committed."""
        for change in changes:
            state = self.lanes[change.lane]
            state.rows += change.rows
            state.num_bytes += change.num_bytes
            state.oldest_utc_ns = change.oldest_utc_ns
            self._last.update(change.last)

    def append(self, connection: sqlite3.Connection, batch: Mapping[RetentionClass, Sequence[Waiting]]) -> list[Change]:
        """Write readings at the end of their classes. What needs room first takes it from the oldest, or is refused."""
        last: dict[str, int] = {}
        return [self._append_lane(connection, lane, readings, last) for lane, readings in batch.items() if readings]

    def _append_lane(
        self, connection: sqlite3.Connection, lane: RetentionClass, readings: Sequence[Waiting], last: dict[str, int]
    ) -> Change:
        state, limits = self.lanes[lane], self._limits[lane]
        wanted = sum(len(each.body) + ROW_BYTES for each in readings) + state.num_bytes - limits.max_bytes
        change = Change(lane, last=last)
        if wanted > 0 and limits.drop_oldest:
            taken = Taken()
            self._queues[lane].free(connection, taken, num_bytes=wanted, busy=Span(0, state.sending))
            change.take(taken)
        room = limits.max_bytes - state.num_bytes - change.num_bytes
        kept: list[tuple[str, int, str, str, int, bytes]] = []
        for each in readings:
            size = len(each.body) + ROW_BYTES
            if size > room:
                change.refused += 1
                continue
            room -= size
            change.num_bytes += size
            device = each.device
            sequence = last[device] = (last.get(device) or self._last.get(device, 0)) + 1
            kept.append((device, sequence, each.segment, each.channel, each.utc_ns, each.body))
        connection.executemany(
            f"INSERT INTO {lane.value} (device, sequence, segment, channel, utc_ns, body)"  # noqa: S608 - a name of ours
            " VALUES (?, ?, ?, ?, ?, ?)",
            kept,
        )
        change.rows += len(kept)
        change.oldest_utc_ns = self._queues[lane].oldest_utc_ns(connection)
        return change

    def read(self, connection: sqlite3.Connection, lane: RetentionClass, limit: int, max_bytes: int) -> list[Row]:
        """Return the first readings of a class, at least one where there is any, and mark them as on their way."""
        rows: list[Row] = []
        size = 0
        for found in connection.execute(
            f"SELECT id, device, sequence, segment, channel, utc_ns, body FROM {lane.value}"  # noqa: S608 - a name of ours
            " ORDER BY id LIMIT ?",
            (limit,),
        ):
            row = Row(*found)
            size += len(row.body) + ROW_BYTES
            if rows and size > max_bytes:
                break
            rows.append(row)
        self.lanes[lane].sending = rows[-1].id if rows else 0
        return rows

    def remove(self, connection: sqlite3.Connection, lane: RetentionClass, upto: int) -> list[Change]:
        """Erase readings that the upstream has, those with ids up to `upto`."""
        change, taken = Change(lane), Taken()
        self._queues[lane].erase(connection, Span(0, upto), taken)
        change.take(taken)
        self.lanes[lane].sending = 0
        change.oldest_utc_ns = self._queues[lane].oldest_utc_ns(connection)
        return [change]

    def expire(self, connection: sqlite3.Connection, lane: RetentionClass, utc_ns: int) -> list[Change]:
        """Erase readings older than `utc_ns` from the front of a class, unless they are on their way."""
        change, taken = Change(lane), Taken()
        self._queues[lane].expire(connection, taken, before_ns=utc_ns, busy=Span(0, self.lanes[lane].sending))
        change.take(taken)
        change.oldest_utc_ns = self._queues[lane].oldest_utc_ns(connection)
        return [change]


def _keep_sequences(lane: RetentionClass, connection: sqlite3.Connection, span: Span) -> None:
    """Keep the sequence numbers that go with readings."""
    connection.execute(
        f"INSERT INTO sequences (device, last) SELECT device, max(sequence) FROM {lane.value}"  # noqa: S608 - as above
        " WHERE id > ? AND id <= ? GROUP BY device"
        " ON CONFLICT (device) DO UPDATE SET last = max(last, excluded.last)",
        span,
    )


def reserved(connection: sqlite3.Connection) -> dict[str, int]:
    """Return for each segment the first number of an epoch that was never taken."""
    return dict(connection.execute("SELECT segment, taken FROM epochs"))


def reserve(connection: sqlite3.Connection, segment: str, upto: int) -> None:
    """Take all numbers below `upto`."""
    connection.execute(
        "INSERT INTO epochs (segment, taken) VALUES (?, ?)"
        " ON CONFLICT (segment) DO UPDATE SET taken = max(taken, excluded.taken)",
        (segment, upto),
    )


def begin_command(
    connection: sqlite3.Connection, client: str, key: str, digest: bytes, request: bytes, utc_ns: int
) -> KnownCommand | None:
    """Write a command down, or return the one that has its key; the oldest beyond 10,000 are forgotten.

    The newest never is, wherever the clock stood for those before it: none is written down as earlier than another.
    """
    found = connection.execute(
        "SELECT request, digest, outcome, detail FROM commands WHERE client = ? AND client_key = ?", (client, key)
    ).fetchone()
    if found is not None:
        return KnownCommand(*found)
    connection.execute(
        "INSERT INTO commands (client, client_key, digest, request, outcome, detail, utc_ns)"
        " VALUES (?, ?, ?, ?, '', '', max(?, (SELECT coalesce(max(utc_ns), -1) + 1 FROM commands)))",
        (client, key, digest, request, utc_ns),
    )
    connection.execute(
        "DELETE FROM commands WHERE (client, client_key) IN"
        " (SELECT client, client_key FROM commands ORDER BY utc_ns DESC LIMIT 64 OFFSET ?)",
        (KEPT_COMMANDS,),
    )
    return None


def end_command(connection: sqlite3.Connection, client: str, key: str, outcome: str, detail: str) -> None:
    """Write down how a command ended."""
    connection.execute(
        "UPDATE commands SET outcome = ?, detail = ? WHERE client = ? AND client_key = ?",
        (outcome, detail, client, key),
    )
