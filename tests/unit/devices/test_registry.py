"""The registry: in memory at once, in the database before anybody is told, back after a restart."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from qedge.base.errors import QedgeError
from qedge.base.metrics import Metrics
from qedge.devices.config import SessionsConfig
from qedge.devices.model import DeviceEvent, DeviceState, DeviceTier
from qedge.devices.registry import rows
from qedge.devices.registry.imports import read_csv, read_toml
from qedge.devices.registry.model import DeviceRecord, profile_of
from qedge.devices.registry.service import DeviceRegistry
from qedge.store.store import Store
from qedge.wire.gateway import DeviceBatch, DeviceDraft, DeviceInvite, DeviceProfile
from tests.unit.devices.device_site import METER, World, site

OLD = Path(__file__).parents[1] / "store" / "databases"


async def test_devices_and_invitations_are_there_after_a_restart(tmp_path: Path) -> None:
    world = World()
    identity = world.identity("box-1")
    async with site(tmp_path, world=world, identity=identity) as here:
        await here.opened()
        await here.constrained()
        await here.invited("later")
        here.devices.administrator.quarantine("tag-1", "noisy")
        before = {each.subject.id: each for each in here.devices.registry}
        await here.devices.registry.flush()
    async with site(tmp_path, world=world, identity=identity) as here:
        assert len(here.devices.registry) == 3
        for record in here.devices.registry:
            known = before[record.subject.id]
            for name in ("tier", "state", "parameter", "key_id", "secret", "resumption", "counter", "reason"):
                assert getattr(record, name) == getattr(known, name), name
            assert profile_of(record.subject) == profile_of(known.subject) == METER
        tag = here.devices.registry.require("tag-1").subject
        assert tag.quarantined
        assert tag.lease_until_ns == 0
        assert here.devices.registry.invitation_of("later") is not None


async def test_a_quarantine_counts_before_it_is_written_and_is_written_soon(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        frame = device.seal("t", b"1", here.now_s())
        here.devices.administrator.quarantine("meter-1", "flooding")
        assert here.devices.registry.require("meter-1").subject.quarantined
        assert here.devices.sessions.find("meter-1", frame) is None
        await here.devices.registry.flush()
        state = await here.store.read(
            lambda connection: connection.execute("SELECT state, reason FROM devices").fetchone()
        )
        assert tuple(state) == ("quarantined", "flooding")


async def test_what_could_not_be_written_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site(tmp_path) as here:
        await here.enrolled()
        record = here.devices.registry.require("meter-1")
        record.counter = 77
        here.devices.registry.touch(record)

        def full(_connection: sqlite3.Connection, _rows: object = (), **_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(rows, "write_devices", full)
            with pytest.raises(QedgeError, match="full"):
                await here.devices.registry.flush()
            with pytest.raises(QedgeError, match="full"):
                await here.invited("meter-2")
        assert here.devices.registry.get("meter-2") is None
        await here.devices.registry.flush()
        kept = await here.store.read(lambda connection: connection.execute("SELECT counter FROM devices").fetchone())
        assert kept[0] == 77


async def test_the_timer_writes_and_the_end_writes_once_more(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        running = asyncio.create_task(here.devices.run())
        await here.enrolled()
        record = here.devices.registry.require("meter-1")
        record.counter = 9
        here.devices.registry.touch(record)
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        kept = await here.store.read(lambda connection: connection.execute("SELECT counter FROM devices").fetchone())
        assert kept[0] == 9


async def test_devices_of_one_kind_share_what_they_have_alike(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        for start in range(0, 400, 200):
            drafts = tuple(DeviceDraft(f"d-{n}", "constrained", METER) for n in range(start, start + 200))
            await here.devices.desk.add_batch(DeviceBatch(drafts))
        subjects = [record.subject for record in here.devices.registry]
        assert len(subjects) == 400
        for name in ("groups", "attributes", "device_class", "segment"):
            assert len({id(getattr(subject, name)) for subject in subjects}) == 1, name


@pytest.mark.long
async def test_twenty_thousand_devices_load(tmp_path: Path) -> None:
    world = World()
    identity = world.identity("box-1")
    async with site(tmp_path, world=world, identity=identity) as here:
        for start in range(0, 20_000, 500):
            drafts = tuple(DeviceDraft(f"d-{n}", "constrained", METER) for n in range(start, start + 500))
            await here.devices.desk.add_batch(DeviceBatch(drafts))
    async with site(tmp_path, world=world, identity=identity) as here:
        assert len(here.devices.registry) == 20_000


async def test_every_change_but_that_of_the_lease_moves_the_epoch(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.enrolled()
        registry = here.devices.registry
        record = registry.require("meter-1")
        seen = [record.subject.epoch]
        for change in (
            lambda: registry.change_profile(record, DeviceProfile("lamp")),
            lambda: registry.go(record, DeviceEvent.QUARANTINED, "x"),
            lambda: registry.go(record, DeviceEvent.RELEASED),
            lambda: registry.go(record, DeviceEvent.REVOKED),
        ):
            change()
            seen.append(record.subject.epoch)
        assert seen == sorted(set(seen))
        assert record.state is DeviceState.REVOKED
        with pytest.raises(QedgeError, match="not possible"):
            registry.go(record, DeviceEvent.RELEASED)


async def test_listing_goes_page_by_page_and_counts_states(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        for name in ("c", "a", "b"):
            await here.invited(name)
        await here.constrained()
        first = await here.devices.desk.listing("", "", 2)
        assert [each.name for each in first.devices] == ["a", "b"]
        rest = await here.devices.desk.listing("", "b", 10)
        assert [each.name for each in rest.devices] == ["c", "tag-1"]
        assert (rest.total, rest.sessions, rest.states["invited"], rest.states["enrolled"]) == (4, 1, 3, 1)
        only = await here.devices.desk.listing("enrolled", "", 10)
        assert [each.name for each in only.devices] == ["tag-1"]
        assert only.devices[0].created_utc_ns > 0


async def test_a_batch_is_repeated_without_harm_and_gives_lines_to_new_devices_only(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        batch = DeviceBatch((DeviceDraft("m", profile=METER), DeviceDraft("t", "constrained")))
        first = await here.devices.desk.add_batch(batch)
        assert [each.name for each in first.invited] == ["m", "t"]
        assert all(each.line for each in first.invited)
        again = await here.devices.desk.add_batch(batch)
        assert (again.invited, again.known) == ((), ("m", "t"))


async def test_while_a_batch_is_added_others_have_their_turns(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        turns = 0

        async def look_on() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(look_on())
        kinds = ("rich", "constrained")
        batch = DeviceBatch(tuple(DeviceDraft(f"b{number}", kinds[number % 2]) for number in range(200)))
        added = await here.devices.desk.add_batch(batch)
        other.cancel()
        assert len({each.line for each in added.invited}) == 200
        assert turns > 200 // 20


async def test_what_changes_while_a_record_is_saved_is_saved_too(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        registry = here.devices.registry
        record = registry.create("m", DeviceTier.RICH, METER)
        saving = asyncio.create_task(registry.save(record))
        await asyncio.sleep(0)
        record.counter = 7
        registry.touch(record)
        await saving
        await registry.flush()
        count = await here.store.read(
            lambda connection: connection.execute("SELECT counter FROM devices WHERE id = 'm'").fetchone()[0]
        )
        assert count == 7


async def test_expired_invitations_are_forgotten(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.devices.desk.invite(DeviceInvite(uses=3))
        here.clock.advance_s(901)
        await here.devices.registry.forget_expired()
        count = await here.store.read(
            lambda connection: connection.execute("SELECT count(*) FROM device_invitations").fetchone()[0]
        )
        assert count == 0


async def test_a_database_with_devices_of_version_4_is_read(tmp_path: Path) -> None:
    copy = tmp_path / "q.sqlite3"
    copy.write_bytes((OLD / "v4.sqlite3").read_bytes())
    store = Store(copy, metrics=Metrics())
    registry = DeviceRegistry(SessionsConfig(), store=store, clock=World().clock, metrics=Metrics())
    await registry.load()
    records = {record.subject.id: record for record in registry}
    assert set(records) == {"meter-1", "tag-1"}
    assert records["meter-1"].tier is DeviceTier.RICH
    assert records["meter-1"].state is DeviceState.ENROLLED
    assert profile_of(records["tag-1"].subject) == METER
    assert (await registry.keys("meter-1")).certificate
    store.close()


CSV = """name,tier,class,segment,groups,safety,floor,root,claim_code
m-1,rich,meter,hall,north power,false,2,,
m-2,,meter,hall,,true,,,
t-1,constrained,tag,yard,,,,%s,AB-12
""" % ("00" * 32)

TOML = """
[[device]]
name = "m-1"
class = "meter"
segment = "hall"
groups = ["north", "power"]
attributes = { floor = "2" }

[[device]]
name = "t-1"
tier = "constrained"
safety = true
"""


def test_lists_of_devices_are_read_from_csv_and_toml() -> None:
    one, two, three = read_csv(CSV)
    assert one == DeviceDraft("m-1", "rich", METER)
    assert (two.tier, two.profile.safety, two.profile.attributes) == ("rich", True, {})
    assert (three.tier, len(three.root), three.claim_code) == ("constrained", 64, "AB-12")
    one, two = read_toml(TOML)
    assert one.profile == METER
    assert two.profile.safety


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no column `name`"),
        ("class\nmeter\n", "no column `name`"),
        ("name\nm 1\n", r"at 2\).*name"),
        ("name,tier\nm,poor\n", r"at 2\)"),
        ("name,safety\nm,perhaps\n", "true or false"),
        ("name,class\nm\n", "number of columns"),
        ("name,class\nm,a,b\n", "number of columns"),
        ("name\nm\nm\n", "twice"),
        ("name,root\nm," + "0" * 64 + "\n", "only constrained"),
        ("name,tier,claim_code\nm,constrained,x\n", "of no use"),
        ("name,tier,root\nm,constrained,xyz\n", r"at 2\)"),
        ('name\n"m\n', "at"),
    ],
)
def test_a_bad_list_in_csv_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(QedgeError, match=why) as error:
        read_csv(text)
    assert error.value.code == "device.bad_import"


@pytest.mark.parametrize(
    "text", ["device = 1", "[[device]]\nclas = 'x'", "device = [1]", "[[device]]\nname = 'a'\nodd = 1", "x = ["]
)
def test_a_bad_list_in_toml_is_refused(text: str) -> None:
    with pytest.raises(QedgeError) as error:
        read_toml(text)
    assert error.value.code == "device.bad_import"


async def test_counts_by_state_are_right_after_everything_that_changes_a_state(tmp_path: Path) -> None:
    world = World()
    identity = world.identity("box-1")

    def counted(registry: DeviceRegistry) -> dict[str, int]:
        states = [each.state.value for each in registry]
        return {state.value: states.count(state.value) for state in DeviceState}

    async with site(tmp_path, world=world, identity=identity) as here:
        registry = here.devices.registry
        await here.opened()
        await here.constrained()
        await here.invited("later")
        assert registry.states() == counted(registry)
        registry.discard(registry.create("never", DeviceTier.RICH, METER))
        here.devices.administrator.quarantine("tag-1", "noisy")
        registry.go(registry.require("meter-1"), DeviceEvent.REVOKED)
        registry.discard(registry.create("meter-1", DeviceTier.RICH, METER))
        registry.create("meter-1", DeviceTier.RICH, METER)
        assert (
            registry.states()
            == counted(registry)
            == {
                "invited": 2,
                "pending": 0,
                "enrolled": 0,
                "quarantined": 1,
                "revoked": 0,
            }
        )
        await registry.flush()
    async with site(tmp_path, world=world, identity=identity) as here:
        assert here.devices.registry.states() == counted(here.devices.registry)


async def test_saving_one_device_looks_at_no_other(tmp_path: Path) -> None:
    class Unread(dict[str, DeviceRecord]):
        def values(self) -> NoReturn:
            raise AssertionError("with ten thousand enrolments, that would be a hundred million looks")

        def __iter__(self) -> NoReturn:
            raise AssertionError("the same")

    async with site(tmp_path) as here:
        registry = here.devices.registry
        registry._devices = Unread(registry._devices)
        await here.opened()
        await registry.flush()
        assert registry.states()["enrolled"] == 1


async def test_a_batch_with_one_device_that_cannot_be_adds_none(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        batch = DeviceBatch((DeviceDraft("m", profile=METER), DeviceDraft("t", "constrained"), DeviceDraft("_guest")))
        with pytest.raises(QedgeError, match="can be no device"):
            await here.devices.desk.add_batch(batch)
        assert len(here.devices.registry) == 0
        await here.devices.registry.flush()
        assert (
            await here.store.read(lambda database: database.execute("SELECT count(*) FROM devices").fetchone()[0]) == 0
        )
        assert not any(here.devices.registry.states().values())


class Faulty:
    """Keys whose renewal has a fault."""

    async def renew_if_due(self) -> bool:
        """Fail as nothing that is foreseen."""
        raise RuntimeError("a fault")


async def test_a_fault_of_the_room_does_not_take_its_threads_away(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        with pytest.raises(ExceptionGroup):
            await dataclasses.replace(here.devices, revoking=cast("Any", Faulty())).run()
        assert await here.devices.threads.run(lambda: 7) == 7
