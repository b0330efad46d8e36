"""Store and forward: in order, once acknowledged gone, bounded by class, honest about what it dropped."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.devices.onward import service as onward_service
from qedge.devices.onward.config import KeepConfig, OnwardConfig
from qedge.devices.onward.spool import Change, Waiting
from qedge.devices.onward.steps import ForwardSteps
from qedge.devices.segments.lanes import Lanes
from qedge.devices.segments.model import RetentionClass
from qedge.store.fifo import ROW_BYTES
from qedge.wire.segments import OnwardReadings
from tests.unit.devices.onward_site import FakeUplink, Site, spooling

TELEMETRY, CRITICAL, BULK = RetentionClass.TELEMETRY, RetentionClass.CRITICAL, RetentionClass.BULK


def put(site: Site, device: str, number: int, retention: RetentionClass = TELEMETRY, size: int = 4) -> bool:
    body = number.to_bytes(4, "big").ljust(size, b".")
    return site.onward.put(device, "plant", "level", retention, site.clock.utc_ns(), body)


def numbers(site: Site, device: str) -> list[int]:
    return [int.from_bytes(each.body[:4], "big") for each in site.uplink.got if each.device == device]


async def test_readings_go_upstream_in_the_order_of_each_device_and_leave_the_disk(tmp_path: Path) -> None:
    async with spooling(tmp_path, FakeUplink()) as site:
        for number in range(600):
            put(site, f"d{number % 3}", number)
        await site.until_sent(600)
        await site.until_empty()
        for device in range(3):
            assert numbers(site, f"d{device}") == list(range(device, 600, 3))
            sequences = [each.sequence for each in site.uplink.got if each.device == f"d{device}"]
            assert sequences == list(range(1, 201))
        assert (await site.store.read(lambda c: c.execute("SELECT count(*) FROM telemetry").fetchone()))[0] == 0


async def test_what_waited_for_the_way_upstream_is_marked_historical_and_the_rest_is_not(tmp_path: Path) -> None:
    uplink = FakeUplink(up=False)
    async with spooling(tmp_path, uplink) as site:
        for number in range(10):
            put(site, "d", number)
        await site.onward.settled()
        assert uplink.got == []
        assert site.onward.view().waiting == 10
        assert not site.onward.view().up
        site.clock.advance_s(60)
        assert site.onward.view().oldest_s == 60
        uplink.is_up = True
        await site.until_sent(10)
        put(site, "d", 10)
        await site.until_sent(11)
        assert [each.historical for each in uplink.got] == [True] * 10 + [False]


async def test_numbers_of_devices_go_on_after_a_restart_even_when_all_is_sent(tmp_path: Path) -> None:
    for run in range(3):
        async with spooling(tmp_path, FakeUplink(up=run != 1)) as site:
            for number in range(5):
                put(site, "d", number)
            await site.onward.settled()
            if run == 0:
                await site.until_empty()
            if run == 2:
                await site.until_sent(10)
                assert [each.sequence for each in site.uplink.got] == list(range(6, 16))


async def test_an_answer_that_was_lost_repeats_readings_under_the_same_numbers(tmp_path: Path) -> None:
    uplink = FakeUplink()
    uplink.lose_answers = True
    async with spooling(tmp_path, uplink) as site:
        for number in range(20):
            put(site, "d", number)
        await site.until_sent(1)
        lost = [each.sequence for each in uplink.got]
        uplink.is_up = True
        await site.until_sent(len(lost) + 20)
        again = [each.sequence for each in uplink.got[len(lost) :]]
        assert again[: len(lost)] == lost
        assert again == list(range(1, 21))


async def test_critical_readings_overtake_others_that_wait(tmp_path: Path) -> None:
    uplink = FakeUplink(up=False)
    async with spooling(tmp_path, uplink) as site:
        put(site, "slow", 1, BULK)
        put(site, "plain", 2, TELEMETRY)
        put(site, "valve", 3, CRITICAL)
        await site.onward.settled()
        uplink.is_up = True
        await site.until_sent(3)
        assert [each.device for each in uplink.got] == ["valve", "plain", "slow"]


@pytest.mark.parametrize(("drop", "kept"), [("oldest", "new"), ("newest", "old")])
async def test_a_class_that_is_full_drops_what_its_policy_says_and_counts_it(
    tmp_path: Path, drop: str, kept: str
) -> None:
    config = OnwardConfig(telemetry=KeepConfig(1, 3600, drop))  # type: ignore[arg-type]  # one of the two
    uplink = FakeUplink(up=False)
    per_row = 4096
    fit = 2**20 // (per_row + ROW_BYTES)
    async with spooling(tmp_path, uplink, config) as site:
        for number in range(fit + 50):
            put(site, "d", number, size=per_row)
            if number % 40 == 0:
                await site.onward.settled()
        put(site, "other", 0, BULK)
        await site.onward.settled()
        view = site.onward.view()
        assert view.waiting_bytes <= 2**20 + 2 * ROW_BYTES
        assert view.dropped == {"telemetry.space": 50}
        assert site.metrics.value("qedge_onward_dropped_total", ("telemetry", "space")) == 50
        uplink.is_up = True
        await site.until_sent(fit + 1)
        got = numbers(site, "d")
        assert got == (list(range(50, fit + 50)) if kept == "new" else list(range(fit)))
        assert numbers(site, "other") == [0]


async def test_readings_that_are_too_old_are_dropped_and_counted(tmp_path: Path) -> None:
    clock = ManualClock()
    config = OnwardConfig(telemetry=KeepConfig(1, 60, "oldest"))
    async with spooling(tmp_path, FakeUplink(up=False), config, clock) as site:
        put(site, "d", 1)
        clock.advance_s(30)
        put(site, "d", 2)
        await site.onward.settled()
    clock.advance_s(45)
    async with spooling(tmp_path, FakeUplink(), config, clock) as site:
        await site.until_sent(1)
        assert numbers(site, "d")[-1] == 2
        assert site.uplink.got[-1].sequence == 2


async def test_a_full_disk_keeps_readings_in_memory_in_their_order_and_writes_them_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.devices.onward.service._RETRY_S", 0.02)
    uplink = FakeUplink()
    async with spooling(tmp_path, uplink, OnwardConfig(queue_readings=1024)) as site:
        full = True
        real = site.store.write

        async def write(work: object, *, accepted: bool = False) -> object:
            if full:
                raise QedgeError("store.disk_full", "The disk is full.")
            return await real(work, accepted=accepted)  # type: ignore[arg-type]  # handed through

        monkeypatch.setattr(site.store, "write", write)
        for number in range(2000):
            put(site, "d", number)
        async with asyncio.timeout(30):
            while site.onward.view().problem != "store.disk_full":
                await asyncio.sleep(0.01)
        assert uplink.got == []
        full = False
        await site.until_sent(1024)
        assert numbers(site, "d") == list(range(976, 2000))
        assert [each.sequence for each in uplink.got] == list(range(1, 1025))
        assert site.onward.view().dropped == {"telemetry.memory": 976}
        assert site.onward.view().problem == ""


async def test_ways_in_hear_when_what_they_acknowledge_is_on_the_disk(tmp_path: Path) -> None:
    async with spooling(tmp_path, FakeUplink(up=False)) as site:
        assert site.onward.when_safe(lambda: None)
        safe: list[int] = []
        put(site, "d", 1)
        assert not site.onward.when_safe(lambda: safe.append(1))
        put(site, "d", 2)
        assert not site.onward.when_safe(lambda: safe.append(2))
        assert safe == []
        await site.onward.settled()
        assert safe == [1, 2]
        with sqlite3.connect(tmp_path / "spool.sqlite3") as connection:
            assert connection.execute("SELECT count(*) FROM telemetry").fetchone()[0] == 2
        connection.close()


async def test_a_message_that_the_broker_finds_too_large_is_made_smaller_until_it_fits(tmp_path: Path) -> None:
    class Narrow(FakeUplink):
        async def send(self, readings: OnwardReadings) -> None:
            if len(readings.readings) > 3 or any(len(each.body) > 100 for each in readings.readings):
                raise QedgeError("bus.too_large", "Too large.")
            await super().send(readings)

    async with spooling(tmp_path, Narrow()) as site:
        for number in range(20):
            put(site, "d", number, size=500 if number == 7 else 4)
        await site.until_sent(19)
        await site.until_empty()
        assert numbers(site, "d") == [number for number in range(20) if number != 7]
        assert site.onward.view().dropped == {"telemetry.size": 1}


async def test_a_transaction_that_fails_uses_up_no_numbers(tmp_path: Path) -> None:
    async with spooling(tmp_path, FakeUplink()) as site:
        put(site, "d", 0)
        await site.until_sent(1)
        await site.store.write(
            lambda c: c.execute("CREATE TRIGGER no BEFORE INSERT ON telemetry BEGIN SELECT RAISE(ABORT, 'no'); END")
        )
        put(site, "d", 1)
        while not site.onward.view().problem:
            await asyncio.sleep(0.005)
        await site.store.write(lambda c: c.execute("DROP TRIGGER no"))
        await site.until_sent(2)
        assert [each.sequence for each in site.uplink.got] == [1, 2]


@pytest.mark.parametrize("pause_ms", [0, 0.2, 0.5, 1, 2, 4, 8])
async def test_whenever_the_service_stops_everything_is_on_the_disk_once(tmp_path: Path, pause_ms: float) -> None:
    async with spooling(tmp_path, FakeUplink(up=False)) as site:
        for number in range(600):
            put(site, "d", number)
            if number == 300:
                await asyncio.sleep(pause_ms / 1e3)
        await asyncio.sleep(pause_ms / 1e3)
    with sqlite3.connect(tmp_path / "spool.sqlite3") as connection:
        rows = connection.execute("SELECT sequence, body FROM telemetry ORDER BY id").fetchall()
    connection.close()
    assert [(sequence, int.from_bytes(body, "big")) for sequence, body in rows] == [
        (number + 1, number) for number in range(600)
    ]


def test_lanes_drop_the_lowest_class_first_and_never_grow() -> None:
    lanes: Lanes[int] = Lanes(3)
    assert [lanes.put(each, number) for number, each in enumerate((BULK, TELEMETRY, CRITICAL))] == [True] * 3
    assert lanes.put(CRITICAL, 3)
    assert lanes.put(CRITICAL, 4)
    assert not lanes.put(CRITICAL, 5)
    assert not lanes.put(BULK, 6)
    assert not lanes.put(TELEMETRY, 7)
    assert lanes.dropped == {CRITICAL: 1, TELEMETRY: 2, BULK: 2}
    assert [lanes.take() for _ in range(4)] == [(CRITICAL, 2), (CRITICAL, 3), (CRITICAL, 4), None]
    assert len(lanes) == 0


async def test_a_reading_is_safe_only_when_it_is_on_the_disk_itself_though_others_overtake_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qedge.store.intake.MAX_BATCH", 2)
    uplink = FakeUplink(up=False)
    async with spooling(tmp_path, uplink) as site:
        written: list[bytes] = []
        told: list[list[bytes]] = []
        append = site.onward._intake._append

        def noting(
            connection: sqlite3.Connection, *, batch: Mapping[RetentionClass, Sequence[Waiting]]
        ) -> list[Change]:
            written.extend(each.body for lane in batch.values() for each in lane)
            return append(connection, batch=batch)

        monkeypatch.setattr(site.onward._intake, "_append", noting)
        site.onward.put("d", "s", "c", RetentionClass.BULK, 1, b"first")
        assert not site.onward.when_safe(lambda: told.append(list(written)))
        for number in range(4):
            site.onward.put("d", "s", "c", RetentionClass.CRITICAL, 1, b"%d" % number)
        await site.onward.settled()
        assert len(written) == 5
        assert b"first" in told[0]


async def test_a_clock_that_is_set_back_makes_no_live_reading_a_historical_one(tmp_path: Path) -> None:
    uplink = FakeUplink()
    async with spooling(tmp_path, uplink) as site:
        site.onward.put("d", "s", "c", TELEMETRY, site.clock.utc_ns(), b"1")
        await site.until_sent(1)
        site.clock.step_utc_s(-3600)
        await asyncio.sleep(0.3)
        site.onward.put("d", "s", "c", TELEMETRY, site.clock.utc_ns(), b"2")
        await site.until_sent(2)
        assert [each.historical for each in uplink.got] == [False, False]


async def test_a_clock_that_is_set_ahead_erases_nothing_that_waits_until_it_is_as_old_by_running_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onward_service, "_EXPIRE_S", 0.0)
    async with spooling(tmp_path, FakeUplink(up=False)) as site:
        site.onward.put("d", "s", "c", TELEMETRY, site.clock.utc_ns(), b"1")
        await site.onward.settled()
        site.clock.step_utc_s(10 * 365 * 86_400)
        await asyncio.sleep(0.02)
        assert site.onward.view().waiting == 1
        site.clock.advance_s(OnwardConfig().keep(TELEMETRY).max_age_s + 1)
        await asyncio.wait_for(site.until_empty(), 10)


def test_steps_of_the_clock_are_left_out_of_ages_while_they_are_young() -> None:
    steps = ForwardSteps(0, 10**18)
    steps.look(30 * 10**9, 10**18 + 30 * 10**9)
    assert steps.unstepped(30 * 10**9, 7, 10**12) == 7
    steps.look(60 * 10**9, 2 * 10**18)
    size = 2 * 10**18 - 10**18 - 60 * 10**9
    assert steps.unstepped(61 * 10**9, 5 * 10**18, 10**12) == 5 * 10**18 - size
    assert steps.unstepped(60 * 10**9 + 10**12, 5 * 10**18, 10**12) == 5 * 10**18
    steps.look(90 * 10**9, 10**18 + 90 * 10**9)
    assert steps.unstepped(91 * 10**9, 7, 10**12) == 7
