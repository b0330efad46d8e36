"""The spool of the Sparkplug edge node in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.fleet.sparkplug.model import DataType, Past, Quality, Reading
from qedge.fleet.sparkplug.spool import DatabaseSpool
from qedge.store.store import Store

NOW_MS = 1_800_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "qedge.sqlite3", metrics=Metrics())
    yield opened
    opened.close()


def make(store: Store, max_rows: int = 1000, max_age_s: float = 1e6) -> DatabaseSpool:
    return DatabaseSpool(store, max_rows=max_rows, max_age_s=max_age_s, clock=ManualClock(), metrics=Metrics())


def past(number: int, utc_ms: int = NOW_MS) -> Past:
    return Past("qpu", "a", Reading(DataType.INT64, number, utc_ms))


async def test_readings_come_back_as_they_were_and_in_order(store: Store) -> None:
    rows = [
        Past("", "a", Reading(DataType.UINT64, 2**64 - 1, NOW_MS)),
        Past("qpu", "b", Reading(DataType.DOUBLE, 0.5, NOW_MS - 5, Quality.BAD)),
        Past("qpu", "c", Reading(DataType.BOOLEAN, False, NOW_MS)),
        Past("qpu", "d", Reading(DataType.STRING, "é", NOW_MS)),
        Past("qpu", "e", Reading(DataType.DOUBLE, None, NOW_MS, Quality.STALE)),
    ]
    await make(store).keep(rows)
    assert [row.past for row in await make(store).batch(10)] == rows


async def test_readings_are_there_until_they_are_done(store: Store) -> None:
    spool = make(store)
    await spool.keep([past(number) for number in range(10)])
    first = await spool.batch(4)
    assert [row.past.reading.value for row in first] == [0, 1, 2, 3]
    assert await spool.batch(4) == first
    await spool.done(first[-1].id)
    assert [row.past.reading.value for row in await spool.batch(100)] == [4, 5, 6, 7, 8, 9]


async def test_the_oldest_give_way_where_there_are_too_many(store: Store) -> None:
    spool = make(store, max_rows=5)
    for number in range(12):
        await spool.keep([past(number)])
    rows = await spool.batch(100)
    assert [row.past.reading.value for row in rows] == [7, 8, 9, 10, 11]
    await spool.done(rows[-1].id)
    await spool.keep([past(99)])
    assert [row.past.reading.value for row in await spool.batch(100)] == [99]


async def test_the_oldest_give_way_with_their_age(store: Store) -> None:
    spool = make(store, max_age_s=60.0)
    await spool.keep([past(1, NOW_MS - 61_000), past(2, NOW_MS - 59_000), past(3)])
    assert [row.past.reading.value for row in await spool.batch(100)] == [2, 3]


async def test_a_full_disk_is_told_and_loses_nothing_that_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(store)
    await spool.keep([past(1)])
    monkeypatch.setattr(store, "_disk_full", True)
    monkeypatch.setattr(store, "_regain", lambda: False)
    with pytest.raises(QedgeError, match="full"):
        await spool.keep([past(2)])
    await spool.done((await spool.batch(1))[0].id)
    assert await spool.batch(1) == []
