"""Readings of an outage in the node's database: in order, limited in number and age, the oldest give way."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from qedge.base.clock import Clock
from qedge.base.metrics import Metrics
from qedge.fleet.sparkplug.model import DataType, Past, Quality, Reading
from qedge.fleet.sparkplug.ports import Spooled
from qedge.store.store import Store

_EXPIRE_ROWS: Final = 2000
"""Most rows that are looked at for their age in one write."""


class _Body(msgspec.Struct, frozen=True, array_like=True):
    owner: str
    name: str
    datatype: int
    value: bool | int | float | str | None
    quality: int


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODER: Final = msgspec.msgpack.Decoder(_Body)


class DatabaseSpool:
    """Implements `Spool`; all of it raises `store.*`."""

    def __init__(self, store: Store, *, max_rows: int, max_age_s: float, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._max_rows = max_rows
        self._max_age_ms = round(max_age_s * 1000)
        self._clock = clock
        self._metrics = metrics

    async def keep(self, rows: Sequence[Past]) -> None:
        """Append readings in one transaction."""
        written = [(row.reading.utc_ms, _ENCODE(_body(row))) for row in rows]
        before_ms = self._clock.utc_ns() // 1_000_000 - self._max_age_ms
        work = partial(_append, rows=written, max_rows=self._max_rows, before_ms=before_ms)
        dropped = await self._store.write(work)
        if dropped:
            self._metrics.add("qedge_sparkplug_history_total", ("dropped",), dropped)

    async def batch(self, limit: int) -> Sequence[Spooled]:
        """Return the oldest readings."""
        found = await self._store.read(partial(_oldest, limit=limit))
        return [Spooled(row_id, _past(utc_ms, body)) for row_id, utc_ms, body in found]

    async def done(self, up_to: int) -> None:
        """Erase readings, on a full disk too."""
        await self._store.write(
            lambda connection: connection.execute("DELETE FROM sparkplug_past WHERE id <= ?", (up_to,)), accepted=True
        )


def _append(connection: sqlite3.Connection, rows: Sequence[tuple[int, bytes]], max_rows: int, before_ms: int) -> int:
    """Append, and return how many of the oldest had to go: ids have no gaps but at the front."""
    connection.executemany("INSERT INTO sparkplug_past (utc_ms, body) VALUES (?, ?)", rows)
    gone = connection.execute(
        "DELETE FROM sparkplug_past WHERE id <= (SELECT max(id) - ? FROM sparkplug_past)", (max_rows,)
    ).rowcount
    gone += connection.execute(
        "DELETE FROM sparkplug_past WHERE id <= (SELECT coalesce(max(id), 0) FROM"
        " (SELECT id, utc_ms FROM sparkplug_past ORDER BY id LIMIT ?) WHERE utc_ms < ?)",
        (_EXPIRE_ROWS, before_ms),
    ).rowcount
    return int(gone)


def _oldest(connection: sqlite3.Connection, limit: int) -> list[tuple[int, int, bytes]]:
    return list(connection.execute("SELECT id, utc_ms, body FROM sparkplug_past ORDER BY id LIMIT ?", (limit,)))


def _body(past: Past) -> _Body:
    reading = past.reading
    value = None if isinstance(reading.value, bytes) else reading.value  # no metric of a node is of bytes
    return _Body(past.owner, past.name, reading.datatype, value, reading.quality)


def _past(utc_ms: int, data: bytes) -> Past:
    body = _DECODER.decode(data)
    return Past(body.owner, body.name, Reading(DataType(body.datatype), body.value, utc_ms, Quality(body.quality)))
