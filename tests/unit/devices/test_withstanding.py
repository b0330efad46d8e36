"""What devices and peers may send, full disks and clocks that step: the room of devices goes on, and keeps its word."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.config import SessionsConfig
from qedge.devices.enrolment.revocations import PeerDevices
from qedge.devices.registry import service as registry_service
from qedge.wire.gateway import DeviceInvite, DeviceReason
from qedge_device import schedule
from qedge_device.messages import MAC_BYTES, Refusal, Refused, Resume
from tests.unit.devices.device_site import FLEET, Site, World, site
from tests.unit.devices.list_site import ListFleet
from tests.unit.mesh.mesh_site import until

T = TypeVar("T")
HIGHEST = 2**64 - 1


async def test_the_highest_counter_of_a_connect_is_refused_and_the_others_are_written_down(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.opened()
        await here.opened("meter-2")
        secret = here.devices.registry.require("meter-1").secret
        for counter in (HIGHEST, 2**63):
            password = schedule.connect_password(secret, schedule.who(FLEET, "box-1", "meter-1"), "c", counter)
            assert await here.devices.doorman.check("c", "meter-1", password.encode()) is None
        await here.devices.registry.flush()
        assert await counters(here) == {"meter-1": 0, "meter-2": 0}


async def test_the_highest_counter_of_a_resumption_is_refused(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        record = here.devices.registry.require("meter-1")
        resume = replace(Resume.read(device.hello()), counter=HIGHEST)
        mac = schedule.hello_mac(record.resumption, here.devices.place.who("meter-1"), resume.body(), MAC_BYTES)
        with pytest.raises(QedgeError, match="cannot be read") as refused:
            await here.devices.greeter.greet("meter-1", replace(resume, mac=mac).pack())
        assert refused.value.code == "device.bad_message"
        await here.devices.registry.flush()


async def counters(here: Site) -> dict[str, int]:
    """Read what the database has of the counters of devices."""
    return dict(await here.store.read(lambda connection: connection.execute("SELECT id, counter FROM devices")))


class FullDisk:
    """Takes the place of a store's `write`: what is not urgent finds the disk full, or with `all_` anything."""

    def __init__(self, here: Site, monkeypatch: pytest.MonkeyPatch, *, all_: bool = False) -> None:
        self.refused = 0
        write = here.store.write

        async def refuse(work: Callable[[sqlite3.Connection], T], *, accepted: bool = False) -> T:
            if accepted and not all_:
                return await write(work, accepted=True)
            self.refused += 1
            raise QedgeError("store.disk_full", "The state directory is full.")

        monkeypatch.setattr(here.store, "write", refuse)


async def test_a_full_disk_at_the_time_of_a_new_node_key_does_not_end_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as here:
        here.clock.advance_s(40 * 86_400)
        disk = FullDisk(here, monkeypatch)
        room = asyncio.create_task(here.devices.run())
        await until(lambda: disk.refused > 0 or room.done())
        await asyncio.sleep(0.01)
        assert not room.done()
        room.cancel()
        await asyncio.gather(room, return_exceptions=True)


async def test_a_disk_that_takes_nothing_as_an_invitation_ends_does_not_end_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_service, "FLUSH_S", 0.0)
    async with site(tmp_path) as here:
        await here.devices.desk.invite(DeviceInvite())
        here.clock.advance_s(3600)
        disk = FullDisk(here, monkeypatch, all_=True)
        room = asyncio.create_task(here.devices.registry.run())
        await until(lambda: disk.refused > 0 or room.done())
        await asyncio.sleep(0.01)
        assert not room.done()
        room.cancel()
        await asyncio.gather(room, return_exceptions=True)


async def test_revoked_keys_outlast_a_clock_that_ran_far_ahead(tmp_path: Path) -> None:
    world = World()
    identity = world.identity("box-1")
    async with site(tmp_path, world=world, identity=identity) as here:
        await here.enrolled()
        key_id = here.devices.registry.require("meter-1").key_id
        await here.devices.desk.revoke("meter-1", DeviceReason())
        world.clock.step_utc_s(20 * 365 * 86_400)
        await here.devices.revoking.signed_list()
        world.clock.step_utc_s(-20 * 365 * 86_400)
        assert key_id in (await here.devices.revoking.signed_list()).body


async def test_what_is_revoked_while_the_clock_runs_far_ahead_is_on_the_list_once_it_is_right(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.enrolled()
        key_id = here.devices.registry.require("meter-1").key_id
        here.clock.step_utc_s(20 * 365 * 86_400)
        await here.devices.desk.revoke("meter-1", DeviceReason())
        with pytest.raises(QedgeError, match="revoked"):
            here.devices.revoking.refused.check(key_id)
        here.clock.step_utc_s(-20 * 365 * 86_400)
        assert key_id in (await here.devices.revoking.signed_list()).body


async def test_a_device_that_is_cut_off_while_its_extra_key_is_fetched_gets_no_session(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        here.keys.keys["qkd-1"] = b"q" * 32
        collect = here.keys.collect

        async def slow(device_id: str, key_id: str) -> bytes:
            here.devices.administrator.cut_off(device_id, "replays")
            return await collect(device_id, key_id)

        here.keys.collect = slow  # type: ignore[method-assign]
        device.use_extra_key("qkd-1", b"q" * 32)
        with pytest.raises(QedgeError, match="overtaken"):
            await here.devices.greeter.greet("meter-1", device.hello())
        assert here.devices.sessions.current("meter-1") is None


async def test_a_clock_that_was_ahead_does_not_lengthen_the_time_in_which_a_device_need_not_prove_its_key(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        here.clock.step_utc_s(365 * 86_400)
        device = await here.opened()
        here.clock.step_utc_s(-365 * 86_400)
        answer = await here.devices.greeter.greet("meter-1", device.hello())
        assert answer == Refused(Refusal.START_ANEW).pack()


async def test_a_node_that_does_not_answer_for_its_list_holds_up_no_list_of_this_node(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await a.known("pump")
        await b.known("pump-at-b")
        asked = asyncio.Event()

        async def silent(*_: object, **__: object) -> object:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        a.lists._sessions.call = silent  # type: ignore[method-assign,assignment]
        a.announced = {"box-9": 2**63 - 1}
        a.lists.peers_changed()
        await until(lambda: a.lists.serial > 0 and "box-9" in a.peers._behind)
        a.here.clock.advance_s(60)
        await until(asked.is_set)
        await a.here.devices.desk.revoke("pump", DeviceReason("stolen"))
        await until(lambda: b.barred("pump-at-b") == "box-1")


async def test_a_list_is_too_old_and_one_is_missing_though_the_clock_was_set_back(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await until(lambda: b.peers.serial("box-1"))
        b.lists.require_fresh("box-1")
        signed = a.lists._signed
        assert signed is not None
        fleet.world.clock.step_utc_s(-30 * 86_400)
        b.peers.expect({"box-1": 2**62}, b.here.clock.now_ns())
        fleet.world.clock.advance_s(20)
        with pytest.raises(QedgeError, match="missing or too old"):
            b.lists.require_fresh("box-1")
        peers = PeerDevices(fleet.world.trust(), 86_400)
        clock = fleet.world.clock
        clock.step_utc_s(30 * 86_400)
        assert peers.take(signed, clock.utc_ns(), clock.now_ns())
        clock.advance_s(86_401)
        clock.step_utc_s(-86_401)
        with pytest.raises(QedgeError, match="missing or too old"):
            peers.require_fresh("box-1", clock.utc_ns(), clock.now_ns())


async def test_a_node_that_is_full_has_room_again_once_devices_were_revoked(tmp_path: Path) -> None:
    async with site(tmp_path, sessions=SessionsConfig(max_devices=2)) as here:
        await here.invited("a")
        await here.invited("b")
        with pytest.raises(QedgeError, match="its limit"):
            await here.invited("c")
        await here.devices.desk.revoke("a", DeviceReason())
        await here.invited("c")
        with pytest.raises(QedgeError, match="its limit"):
            await here.invited("a")


async def test_a_revocation_that_the_disk_did_not_take_is_on_the_list_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site(tmp_path) as here:
        await here.opened()
        await here.devices.desk.invite(DeviceInvite("meter-1"))
        key_id = here.devices.registry.require("meter-1").key_id
        due = 0

        def changed() -> None:
            nonlocal due
            due += 1

        here.devices.revoking.changed = changed
        with monkeypatch.context() as patched:
            FullDisk(here, patched, all_=True)
            with pytest.raises(QedgeError, match="full"):
                await here.devices.desk.revoke("meter-1", DeviceReason("stolen"))
        assert due == 1
        assert here.devices.registry.invitation_of("meter-1") is None
        assert key_id in (await here.devices.revoking.signed_list()).body
        await here.devices.registry.flush()
        rows = await here.store.read(lambda connection: connection.execute("SELECT state, secret FROM devices"))
        assert list(rows) == [("revoked", b"")]
