"""Telemetry is kept in order, numbered, bounded by class, and gone once acknowledged."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.fleet.telemetry.config import TelemetryConfig, TelemetryKeepConfig
from qedge.fleet.telemetry.model import Waiting, read, written
from qedge.fleet.telemetry.spool import MAX_BODY_BYTES
from qedge.wire.telemetry import MAX_ITEMS, TelemetryClass
from tests.unit.fleet.telemetry.telemetry_site import (
    FakeUplink,
    alarm,
    event,
    health,
    numbers,
    reading,
    telemetry,
)

READING, ALARM, EVENT, HEALTH = (
    TelemetryClass.READING,
    TelemetryClass.ALARM,
    TelemetryClass.EVENT,
    TelemetryClass.HEALTH,
)
FAST = 1_000_000


async def test_what_is_put_while_connected_goes_out_in_order_and_leaves_the_disk(tmp_path: Path) -> None:
    async with telemetry(tmp_path, FakeUplink()) as site:
        for number in range(1000):
            site.put(reading(number))
            site.put(event(number))
        await site.until_sent(2000)
        await site.until_empty()
        for kind in (READING, EVENT):
            items = site.uplink.got(kind)
            assert [item.sequence for item in items] == list(range(1, 1001))
            assert not any(item.historical for item in items)
        assert numbers(site.uplink.got(READING)) == list(range(1000))
        assert (await site.store.read(lambda c: c.execute("SELECT count(*) FROM items").fetchone()))[0] == 0


async def test_a_day_offline_comes_back_complete_in_order_and_marked(tmp_path: Path) -> None:
    uplink, clock = FakeUplink(up=False), ManualClock()
    async with telemetry(tmp_path, uplink, clock=clock) as site:
        for tick in range(24 * 120):  # every 30 s
            site.put(reading(tick))
            if tick % 10 == 0:
                site.put(health(tick))
            if tick % 100 == 0:
                site.put(alarm(tick % 3))
            clock.advance_s(30)
            if tick % 500 == 0:
                await site.spool.settled()
                await site.spool.expire()
        await site.spool.settled()
        expected = {READING: 2880, HEALTH: 288, ALARM: 29, EVENT: 0}
        assert {kind: lane.rows for kind, lane in site.spool.lanes.items()} == expected
        view = site.service.view()
        assert (view.up, view.replaying) == (False, 0)
        assert next(lane for lane in view.lanes if lane.kind is READING).oldest_s == 24 * 3600
        uplink.is_up = True
        await site.until_sent(sum(expected.values()))
        await site.until_empty()
        for kind, count in expected.items():
            items = uplink.got(kind)
            assert [item.sequence for item in items] == list(range(1, count + 1))
            assert [item.utc_ns for item in items] == sorted(item.utc_ns for item in items)
            assert all(item.historical for item in items)
        assert numbers(uplink.got(READING)) == list(range(2880))
        site.put(reading(9))
        await site.until_sent(sum(expected.values()) + 1)
        assert not uplink.got(READING)[-1].historical


async def test_new_items_go_ahead_of_what_waited(tmp_path: Path) -> None:
    uplink = FakeUplink(up=False)
    config = TelemetryConfig(replay_per_s=400, batch_items=20)
    async with telemetry(tmp_path, uplink, config) as site:
        for number in range(200):
            site.put(reading(number))
        await site.spool.settled()
        uplink.is_up = True
        await site.until_sent(20)
        site.put(reading(1000))
        site.put(alarm(1))
        await site.until_sent(202)
        got = uplink.got(READING)
        place = next(place for place, item in enumerate(got) if not item.historical)
        assert place < 100
        assert numbers([item for item in got if item.historical]) == list(range(200))
        assert numbers([item for item in got if not item.historical]) == [1000]
        assert not uplink.got(ALARM)[0].historical


async def test_an_answer_that_was_lost_repeats_items_under_the_same_numbers(tmp_path: Path) -> None:
    uplink = FakeUplink()
    uplink.lose_answers = True
    async with telemetry(tmp_path, uplink) as site:
        for number in range(20):
            site.put(reading(number))
        await site.until_sent(1)
        first = [item.sequence for item in uplink.got(READING)]
        uplink.is_up = True
        await site.until_empty()
        again = uplink.got(READING)[len(first) :]
        assert [item.sequence for item in again] == list(range(1, 21))
        assert {batch.spool for batch in uplink.batches} == {site.spool.id}


async def test_numbers_and_the_name_of_the_spool_go_on_after_a_restart(tmp_path: Path) -> None:
    names = set()
    for run in range(3):
        async with telemetry(tmp_path, FakeUplink(up=run != 1)) as site:
            names.add(site.spool.id)
            for number in range(5):
                site.put(reading(number))
            await site.spool.settled()
            if run == 0:
                await site.until_empty()
            if run == 2:
                await site.until_sent(10)
                await site.until_empty()
                assert sorted(item.sequence for item in site.uplink.got(READING)) == list(range(6, 16))
    assert len(names) == 1


@pytest.mark.parametrize(("drop", "kept"), [("oldest", range(900, 1000)), ("newest", range(100))])
async def test_a_class_that_is_full_drops_what_its_policy_says_and_counts_it(
    tmp_path: Path, drop: str, kept: range
) -> None:
    config = TelemetryConfig(reading=TelemetryKeepConfig(100, 8, 3600, drop), replay_per_s=FAST)  # type: ignore[arg-type] # one of them
    uplink = FakeUplink(up=False)
    async with telemetry(tmp_path, uplink, config) as site:
        for number in range(1000):
            site.put(reading(number))
            if number % 30 == 0:
                await site.spool.settled()
        site.put(event(1))
        await site.spool.settled()
        assert site.spool.lanes[READING].rows == 100
        assert site.spool.dropped[READING] == {"space": 900}
        uplink.is_up = True
        await site.until_sent(101)
        assert numbers(uplink.got(READING)) == list(kept)
        assert [item.sequence for item in uplink.got(READING)] == [number + 1 for number in kept]
        assert len(uplink.got(EVENT)) == 1


@pytest.mark.parametrize("drop", ["oldest", "newest", "thin"])
async def test_the_space_of_a_class_is_bounded_in_bytes_too(tmp_path: Path, drop: str) -> None:
    config = TelemetryConfig(event=TelemetryKeepConfig(100_000, 1, 3600, drop))  # type: ignore[arg-type] # one of them
    async with telemetry(tmp_path, FakeUplink(up=False), config) as site:
        for number in range(400):
            site.spool.put(EVENT, Waiting(number, "s", bytes(4096)))
        await site.spool.settled()
        lane = site.spool.lanes[EVENT]
        assert lane.num_bytes <= 2**20
        assert lane.rows > 100
        assert lane.rows + site.spool.dropped[EVENT]["space"] == 400
        size = await site.store.read(lambda c: c.execute("SELECT count(*), sum(length(body)) FROM items").fetchone())
        assert size == (lane.rows, lane.rows * 4096)


async def test_thinning_keeps_some_of_every_series_over_the_whole_time(tmp_path: Path) -> None:
    config = TelemetryConfig(reading=TelemetryKeepConfig(200, 8, 10_000_000, "thin"))
    async with telemetry(tmp_path, FakeUplink(up=False), config) as site:
        for number in range(2000):
            for series in ("host", "jobs"):
                site.spool.put(READING, Waiting(number, series, b"x"))
            if number % 10 == 0:
                await site.spool.settled()
        await site.spool.settled()
        rows = await site.spool.batch(1000)
        assert len(rows) == site.spool.lanes[READING].rows <= 200
        for series in ("host", "jobs"):
            times = [row.utc_ns for row in rows if row.series == series]
            assert len(times) > 50
            assert times[0] < 200  # the distant past is still there,
            assert times[-20:] == list(range(1980, 2000))  # and what is new is complete
            assert times == sorted(times)
        # numbers tell how many gave way
        assert rows[-1].sequence == 4000


async def test_what_is_too_old_goes_and_is_counted(tmp_path: Path) -> None:
    clock = ManualClock()
    config = TelemetryConfig(reading=TelemetryKeepConfig(100, 8, 3600, "oldest"))
    async with telemetry(tmp_path, FakeUplink(up=False), config, clock) as site:
        for number in range(10):
            site.put(reading(number))
            clock.advance_s(600)
        await site.spool.settled()
        await site.spool.expire()
        assert [read(row.body) for row in await site.spool.batch(10)] == [reading(number) for number in range(4, 10)]
        assert site.spool.dropped[READING] == {"age": 4}


async def test_nothing_gives_way_while_it_is_on_its_way(tmp_path: Path) -> None:
    config = TelemetryConfig(reading=TelemetryKeepConfig(20, 8, 3600, "oldest"))
    async with telemetry(tmp_path, FakeUplink(up=False), config) as site:
        for number in range(20):
            site.put(reading(number))
        await site.spool.settled()
        sending = await site.spool.batch(5, kind=READING)
        for number in range(20, 30):
            site.put(reading(number))
        await site.spool.settled()
        assert (await site.spool.batch(5, kind=READING))[:5] == sending
        await site.spool.done(sending[-1].id, kind=READING)
        left = [read(row.body) for row in await site.spool.batch(50)]
        assert left == [reading(number) for number in range(15, 30)]


async def test_any_sender_can_take_the_oldest_rows_and_say_what_arrived(tmp_path: Path) -> None:
    async with telemetry(tmp_path, FakeUplink(up=False)) as site:
        for number in range(6):
            site.put(reading(number) if number % 2 else event(number))
        await site.spool.settled()
        seen: list[int] = []
        while rows := await site.spool.batch(4):
            seen += [row.id for row in rows]
            await site.spool.done(rows[-1].id)
        assert seen == sorted(seen)
        assert len(seen) == 6
        assert site.waiting == 0


async def test_a_broker_that_takes_less_gets_smaller_messages(tmp_path: Path) -> None:
    async with telemetry(tmp_path, FakeUplink(limit=7)) as site:
        for number in range(300):
            site.put(reading(number))
        await site.until_sent(300)
        await site.until_empty()
        assert numbers(site.uplink.got(READING)) == list(range(300))
        assert max(len(batch.items) for batch in site.uplink.batches) <= 7


async def test_an_item_that_no_message_could_carry_is_refused(tmp_path: Path) -> None:
    async with telemetry(tmp_path, FakeUplink()) as site:
        assert not site.spool.put(EVENT, Waiting(1, "s", bytes(MAX_BODY_BYTES + 1)))
        assert site.spool.dropped[EVENT] == {"size": 1}
        assert TelemetryConfig().batch_items <= MAX_ITEMS


async def test_a_row_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    async with telemetry(tmp_path, FakeUplink(up=False)) as site:
        site.put(reading(1))
        site.spool.put(READING, Waiting(1, "s", b"\xc1"))
        site.put(reading(2))
        await site.spool.settled()
        site.uplink.is_up = True
        await site.until_empty()
        assert numbers(site.uplink.got(READING)) == [1, 2]
        assert site.spool.dropped[READING] == {"unreadable": 1}


async def test_a_full_disk_keeps_items_in_memory_and_loses_none_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.store.intake._RETRY_S", 0.01)
    async with telemetry(tmp_path, FakeUplink()) as site:
        real, full = site.store.write, True

        async def write(work, *, accepted=False):  # type: ignore[no-untyped-def] # stands for Store.write
            if full and not accepted:
                raise QedgeError("store.disk_full", "Full.")
            return await real(work, accepted=accepted)

        monkeypatch.setattr(site.store, "write", write)
        for number in range(500):
            site.put(reading(number))
        while not site.service.view().problem:
            await asyncio.sleep(0.002)
        view = site.service.view()
        assert (view.problem, view.in_memory) == ("store.disk_full", 500)
        full = False
        await site.until_sent(500)
        assert numbers(site.uplink.got(READING)) == list(range(500))
        assert site.service.view().problem == ""


async def test_a_database_that_really_is_full_harms_nothing_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.store.intake._RETRY_S", 0.01)
    uplink = FakeUplink(up=False)
    async with telemetry(tmp_path, uplink) as site:
        pages = (await site.store.read(lambda c: c.execute("PRAGMA page_count").fetchone()))[0]
        await site.store.read(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 8}"))
        for number in range(3000):
            site.put(reading(number))
            if number % 100 == 0:
                await asyncio.sleep(0.002)
        while site.service.view().problem != "store.disk_full":
            await asyncio.sleep(0.002)
        assert 0 < site.waiting < 3000
        uplink.is_up = True
        await site.until_sent(site.waiting)  # what is there goes out, and makes room
        await site.store.read(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
        await site.until_sent(3000)
        await site.until_empty()
        # what could not be erased is sent again under the same number
        found = {item.sequence: item.body for item in uplink.got(READING)}
        assert list(found) == list(range(1, 3001))
        assert list(found.values()) == [reading(number) for number in range(3000)]


async def test_alarms_and_health_go_out_also_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.store.intake._RETRY_S", 0.01)
    async with telemetry(tmp_path, FakeUplink()) as site:
        real = site.store.write

        async def write(work, *, accepted=False):  # type: ignore[no-untyped-def] # stands for Store.write
            if not accepted:
                raise QedgeError("store.disk_full", "Full.")
            return await real(work, accepted=True)

        with monkeypatch.context() as patch:
            patch.setattr(site.store, "write", write)
            for number in range(10):
                site.put(reading(number))
                site.put(alarm(number))
                site.put(health(number))
            await site.until_sent(20)
            assert [item.sequence for item in site.uplink.got(ALARM)] == list(range(1, 11))
            assert site.uplink.got(READING) == []
            while site.spool.in_memory != 10:  # which they are not while a write is tried
                await asyncio.sleep(0.001)
        await site.until_sent(30)
        assert numbers(site.uplink.got(READING)) == list(range(10))


async def test_memory_is_bounded_and_keeps_alarms_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with telemetry(tmp_path, FakeUplink(), TelemetryConfig(queue_items=1024)) as site:

        async def write(work, *, accepted=False):  # type: ignore[no-untyped-def] # stands for Store.write
            raise QedgeError("store.disk_full", "Full.")

        with monkeypatch.context() as patch:
            patch.setattr(site.store, "write", write)
            for number in range(100):
                site.put(alarm(number))
            for number in range(2000):
                site.put(reading(number))
            while not site.service.view().problem:
                await asyncio.sleep(0.002)
            while site.spool.in_memory != 1024:  # which they are not while a write is tried
                await asyncio.sleep(0.001)
        await site.until_sent(1024)
        assert len(site.uplink.got(ALARM)) == 100
        assert numbers(site.uplink.got(READING)) == list(range(2000 - 924, 2000))
        assert site.spool.dropped[READING] == {"memory": 2000 - 924}


async def test_a_burst_of_ten_thousand_loses_nothing_and_the_loop_goes_on(tmp_path: Path) -> None:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    async with telemetry(tmp_path, FakeUplink()) as site:
        pulse = asyncio.create_task(beat())
        for number in range(10_000):
            site.put(reading(number))
        await site.until_sent(10_000)
        for first in range(0, 1000, 50):  # a thousand in 210 ms
            for number in range(first, first + 50):
                site.put(event(number))
            await asyncio.sleep(0.0105)
        await site.until_sent(11_000)
        await site.until_empty()
        pulse.cancel()
        assert numbers(site.uplink.got(READING)) == list(range(10_000))
        assert [item.sequence for item in site.uplink.got(EVENT)] == list(range(1, 1001))
        assert site.spool.dropped[READING] == {}
        assert beats > 50


async def test_a_broken_file_is_told_as_such(tmp_path: Path) -> None:
    async with telemetry(tmp_path, FakeUplink(up=False)) as site:
        site.put(reading(1))
        await site.spool.settled()

        def broken(_connection: sqlite3.Connection) -> None:
            raise sqlite3.DatabaseError("malformed")

        with pytest.raises(QedgeError, match="malformed"):
            await site.store.read(broken)


def test_an_item_comes_back_as_it_was_written() -> None:
    from qedge.fleet.telemetry.model import Item

    for body in (reading(1), event(2), health(3), alarm(4)):
        assert read(written(Item(time.time_ns(), body)).body) == body
