"""Attacks on trust, detection, incidents and the audit log, one test each, under the number they have in the docs."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from qedge.base.system_clock import SystemClock
from qedge.bus.service import Bus
from qedge.cli.security.audit import row_lines
from qedge.crypto.model import Role
from qedge.crypto.signed import sign_envelope
from qedge.mesh.crypto_thread import CryptoThread
from qedge.security.config import TrustConfig
from qedge.security.incidents.fleet import FleetHerald
from qedge.security.model import Action, Decision, Evidence, Reason, Resource, ResourceKind, Subject, SubjectKind
from qedge.security.trust.book import TrustBook
from qedge.wire.audit import AuditTrail
from qedge.wire.envelope import Header, encode, purpose_of
from qedge.wire.incidents import BoardEntry, IncidentBoard
from qedge.wire.topics import Channel, topic
from tests.integration.fleet_site import ThrowAwayFleet
from tests.unit.mesh.mesh_site import FLEET, MemoryBroker, MemoryBus, until
from tests.unit.security.security_site import Site, device, serving

S = 1_000_000_000
NO = Decision(False, Reason.NO_RULE)
BOARD_OF_B = topic(FLEET, "b", Channel.INCIDENTS)
ENTRY = BoardEntry("01890000-0000-7000-8000-000000000001", "meter", "malformed", "contained", "quarantine", 1.0, 1)
DELETED = b""


def channel(name: str) -> Resource:
    return Resource(ResourceKind.SEGMENT, name, "plant")


def quarantined(site: Site) -> list[str]:
    return [name for name, subject in site.subjects.known.items() if subject.quarantined]


# A01, and what others do in a device's name


async def test_a01_a_replay_costs_a_point_of_trust_and_no_more_than_eight(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        site.service.device_tally(meter).replayed = 3
        site.step(5)
        assert meter.trust == 47
        for _ in range(50):
            site.service.device_tally(meter).replayed = 1000
            site.step(5)
        assert site.service.trust.score("meter", site.clock.now_ns()) >= 41.9
        assert quarantined(site) == []


async def test_nobody_has_a_device_quarantined_by_failing_under_its_name(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter) as site:
        for _ in range(100):
            tally = site.service.device_tally(meter)
            tally.failed, tally.replayed = 1000, 1000
            site.step(5)
        assert not meter.quarantined
        assert set(site.contained.done) == {("rekey", "meter")}


async def test_a_device_that_fuzzes_is_contained_and_its_neighbours_feel_nothing(tmp_path: Path) -> None:
    fuzzer, *others = [device(f"d{number}") for number in range(200)]
    async with serving(tmp_path, fuzzer, *others) as site:
        for _ in range(8):
            for subject in others:
                tally = site.service.device_tally(subject)
                tally.messages += 5
                tally.bytes_in += 500
            site.service.device_tally(fuzzer).malformed += 500
            site.step(5)
        assert quarantined(site) == ["d0"]
        assert {subject.trust for subject in others} == {50}
        assert {name for _, name in site.contained.done} == {"d0"}


# A10, A11: boards of incidents on the broker


@asynccontextmanager
async def heralds(fleet: ThrowAwayFleet) -> AsyncIterator[tuple[MemoryBroker, MemoryBus, FleetHerald, FleetHerald]]:
    """The heralds of nodes a and b on a broker in memory; the bus is that of a."""
    broker, thread = MemoryBroker(), CryptoThread()
    made, buses, pumps = [], [], []
    for node in ("a", "b"):
        bus = MemoryBus(broker)
        key, chain = fleet.member(node)
        as_bus: Bus = bus  # type: ignore[assignment]  # the fake fills what heralds need of it
        made.append(FleetHerald(FLEET, node, key, chain, fleet.trust(), bus=as_bus, thread=thread, clock=SystemClock()))
        await bus.connect()
        buses.append(bus)
        pumps.append(asyncio.create_task(bus.pump()))
    try:
        yield broker, buses[0], made[0], made[1]
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        thread.close()


async def test_a10_boards_are_believed_only_where_their_node_signed_them(tmp_path: Path) -> None:
    fleet, meter = ThrowAwayFleet(FLEET), device("meter")
    async with heralds(fleet) as (broker, bus, a, b), serving(tmp_path, meter) as site:
        a.listen(site.service.heard, lambda: None)
        board = IncidentBoard("b", 5, (ENTRY,))
        for forged in forged_boards(fleet, board):
            broker.publish(BOARD_OF_B, forged, retain=True)
        await until(lambda: len(bus.rejected) == 6)
        assert not meter.quarantined
        await b.publish(board)
        await until(lambda: meter.quarantined)
        good = broker.retained[BOARD_OF_B]
        await b.publish(IncidentBoard("b", 6))
        await until(lambda: not meter.quarantined)
        broker.publish(BOARD_OF_B, good, retain=True)  # the broker shows the old one again
        broker.publish(BOARD_OF_B, DELETED, retain=True)
        await until(lambda: len(bus.rejected) == 7)
        assert not meter.quarantined


def forged_boards(fleet: ThrowAwayFleet, board: IncidentBoard) -> list[bytes]:
    """Make boards that nobody may believe: unsigned, of another fleet, of another node, of a device, garbage, none."""
    header = Header(BOARD_OF_B, "b", 0, purpose_of(IncidentBoard), time.time_ns())
    stranger, device_key = ThrowAwayFleet(FLEET).member("b"), fleet.member("b", role=Role.DEVICE)
    as_a = Header(BOARD_OF_B, "a", 0, purpose_of(IncidentBoard), time.time_ns())
    return [
        encode(header, board),
        sign_envelope(header, board, *stranger),
        sign_envelope(as_a, board, *fleet.member("a")),
        sign_envelope(header, board, *device_key),
        os.urandom(500),
        DELETED,
    ]


async def test_a11_a_deleted_board_ends_no_quarantine(tmp_path: Path) -> None:
    meter = device("meter")
    async with heralds(ThrowAwayFleet(FLEET)) as (broker, bus, a, b), serving(tmp_path, meter) as site:
        a.listen(site.service.heard, lambda: None)
        await b.publish(IncidentBoard("b", 5, (ENTRY,)))
        await until(lambda: meter.quarantined)
        broker.publish(BOARD_OF_B, DELETED, retain=True)
        await until(lambda: bus.rejected)
        assert meter.quarantined


# A31: injection and secrets


async def test_a31_nothing_that_a_device_says_makes_a_row_or_a_line_of_its_own(
    tmp_path: Path,
) -> None:
    evil = 'x"}\n{"sequence":99,"kind":"act","actor":"uid:0"}\n\x1b[2J\x00\u2028\ud800'
    subject = Subject(evil, SubjectKind.DEVICE, evil, frozenset({evil}), {evil: evil}, evil, evil, frozenset({evil}))
    async with serving(tmp_path, device("meter")) as site:
        site.service.denied(subject, Action.PUBLISH, Resource(ResourceKind.SEGMENT, evil, evil, evil), NO, 0, 0)
        site.service.observe(site.subjects.known["meter"], Evidence.FLOODING, 1.0, 0, evil)
        await site.desk.quarantine("meter", evil, evil)
        denials, acts = await site.rows("denials"), await site.rows("acts")
        assert [row["sequence"] for row in denials] == [1]
        assert [row["sequence"] for row in acts] == list(range(1, len(acts) + 1))
        assert not any(row.get("actor") == "uid:0" for row in acts)
        for path in (tmp_path / "audit").glob("*.jsonl"):
            data = path.read_bytes()
            assert data.count(b"\n") == len(data.splitlines())
            assert data.count(b"\n") == len(data.decode().splitlines())
            assert all(character.isprintable() for character in data.decode().replace("\n", ""))
        assert (await site.desk.verify_audit()).ok
        shown = "\n".join(row_lines((await site.desk.audit_rows(AuditTrail.DENIALS, 10)).rows))
        assert "\x1b" not in shown
        assert len(shown.splitlines()) == 2  # the head, and one row


async def test_a31_no_secret_is_in_the_audit_log(tmp_path: Path) -> None:
    secret = "correct-horse-battery-staple"
    attributes = {
        "password": secret,
        "Api_Token": secret,
        "url": f"mqtt://m:{secret}@broker",
        "private_key": secret,
    }
    subject = Subject("meter", SubjectKind.DEVICE, attributes=attributes)
    async with serving(tmp_path, subject) as site:
        site.service.denied(subject, Action.PUBLISH, channel("heat"), NO, 0, 0)
        await site.service.audit.keep(action="enrol", subject="meter", token=secret, made=secret.encode())
        await site.rows()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


async def test_a31_denials_cannot_push_privileged_acts_out_of_the_log(tmp_path: Path) -> None:
    hostile = [device(f"d{number}") for number in range(100)]
    settings = {"file_mib": 1, "files": 2, "queue": 10_000}
    async with serving(tmp_path, device("meter"), audit=settings) as site:
        await site.desk.quarantine("meter", "the act to be kept", "uid:0")
        for number in range(10):
            for subject in hostile:
                for each in range(8):
                    site.service.denied(subject, Action.PUBLISH, channel(f"c{number}-{each}"), NO, 0, 0)
            await site.service.audit.flush()
        assert json.loads(oldest(tmp_path, "denials"))["sequence"] > 1
        assert (await site.rows("acts"))[0]["rule"] == "the act to be kept"
        assert (await site.desk.verify_audit()).ok


def oldest(folder: Path, trail: str) -> str:
    return min((folder / "audit").glob(f"{trail}-*")).read_text().splitlines()[0]


# A33, A34: gaming trust, and detectors that are wrong


def test_a33_many_small_good_events_buy_no_trust_beyond_the_cap_of_an_hour() -> None:
    trust, subject = TrustBook(TrustConfig(), enforce=True), device("meter")
    trust.observe(subject, Evidence.MALFORMED, 1.0, 0)
    low = trust.score("meter", 0)
    for number in range(36_000):
        trust.observe(subject, Evidence.ATTESTED if number % 2 else Evidence.WELL_BEHAVED, 1.0, number * S // 10)
    gained = trust.score("meter", 3600 * S) - low
    recovered = 20 * (1 - 2 ** (-1 / 6))  # what time alone gave back
    assert gained - recovered <= 10


async def test_a33_good_behaviour_does_not_end_a_quarantine_before_its_time(tmp_path: Path) -> None:
    meter = device("meter")
    async with serving(tmp_path, meter, trust={"gain_per_hour": 100, "review_s": 3600}) as site:
        for _ in range(3):
            site.service.observe(meter, Evidence.MALFORMED, 1.0, site.clock.now_ns())
        for _ in range(3500):
            site.clock.advance_s(1)
            site.service.observe(meter, Evidence.ATTESTED, 1.0, site.clock.now_ns())
        site.step(1)
        assert meter.quarantined


async def test_a34_a_storm_of_findings_touches_no_more_than_a_percent_in_ten_minutes(tmp_path: Path) -> None:
    fleet = [device(f"d{number}") for number in range(1000)]
    async with serving(tmp_path, *fleet) as site:

        def storm() -> None:
            for subject in fleet:
                site.service.observe(subject, Evidence.MALFORMED, 1.0, site.clock.now_ns(), "a detector gone wrong")
            for _ in range(20):
                site.service.each_second(site.clock.now_ns())

        for _ in range(3):
            storm()
        assert len(quarantined(site)) == 10
        assert len({name for _, name in site.contained.done}) == 10
        site.clock.advance_s(601)
        storm()
        assert len(quarantined(site)) == 20
        held = [view for view in site.service.incidents.views() if view.state == "opened"]
        assert len(held) == 980  # nothing is forgotten: they are open, for an operator to see
        assert site.metrics is not None


async def test_a34_a_peer_that_reports_the_whole_fleet_is_capped_too(tmp_path: Path) -> None:
    fleet = [device(f"d{number}") for number in range(200)]
    async with serving(tmp_path, *fleet) as site:
        entries = tuple(
            BoardEntry(
                f"01890000-0000-7000-8000-{number:012x}", f"d{number}", "malformed", "contained", "quarantine", 1.0, 1
            )
            for number in range(200)
        )
        site.service.heard(IncidentBoard("b", 1, entries))
        assert len(quarantined(site)) == 2
        site.service.heard(IncidentBoard("b", 2))
        assert quarantined(site) == []


async def test_a34_safety_devices_only_alarm(tmp_path: Path) -> None:
    valve = device("valve", safety=True)
    async with serving(tmp_path, valve) as site:
        for _ in range(10):
            tally = site.service.device_tally(valve)
            tally.messages, tally.malformed, tally.denied, tally.replayed = 10**6, 1000, 1000, 1000
            site.step(5)
        site.service.heard(IncidentBoard("b", 1, (BoardEntry(ENTRY.id, "valve", *list_of(ENTRY)),)))
        assert site.contained.done == []
        assert (valve.trust, valve.quarantined, valve.epoch) == (50, False, 0)
        assert {act.outcome for view in site.service.incidents.views() for act in view.acts} == {"spared"}


def list_of(entry: BoardEntry) -> tuple[str, str, str, float, int]:
    return entry.evidence, entry.state, entry.response, entry.severity, entry.opened_utc_ns


async def test_an_attacker_with_many_addresses_costs_bounded_memory(tmp_path: Path) -> None:
    async with serving(tmp_path, detection={"max_addresses": 64}, incidents={"max_open": 32}) as site:
        for number in range(2000):
            site.service.address_tally(f"2001:db8::{number:x}").failed += 20
            if number % 50 == 0:
                site.step(0.5)
        assert len(site.service.tallies.addresses) <= 64
        assert len(site.service.incidents) <= 32
