"""Lists of revoked devices between nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.model import DeviceState
from qedge.security.model import Subject
from qedge.wire.gateway import DeviceAdd, DeviceBatch, DeviceDraft, DeviceInvite, DeviceReason
from qedge_device.constrained import ConstrainedDevice
from qedge_device.rich import RichDevice
from tests.unit.devices.list_site import MAX_AGE_S, ListFleet, ListNode
from tests.unit.mesh.mesh_site import until

ROOT = "5a" * 32


def subject(node: ListNode, device: str) -> Subject:
    return node.here.devices.registry.require(device).subject


async def test_a_key_that_one_node_revokes_is_shut_out_at_all_whatever_its_name_there(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await a.known("pump")
        await b.known("pump-at-b")
        other = await b.known("pump", b"o" * 32)
        await a.here.devices.desk.revoke("pump", DeviceReason("stolen"))
        await until(lambda: b.barred("pump-at-b") == "box-1")
        assert b.here.way.cuts == ["pump-at-b"]
        assert b.told == [("pump-at-b", "box-1", True)]
        assert (subject(b, "pump-at-b").revoked, subject(b, "pump").revoked) == (True, False)
        assert b.here.devices.sessions.current("pump-at-b") is None
        assert b.here.up("pump", other.seal("t", b"1", b.here.now_s()))
        view = await b.here.devices.desk.show("pump-at-b")
        assert (view.state, view.revoked_at) == ("enrolled", "box-1")


async def test_a_root_that_one_node_revokes_counts_at_no_other(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    draft = DeviceDraft("tag", "constrained", root=ROOT)
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        for node in (a, b):
            await node.here.devices.desk.add_batch(DeviceBatch((draft,)))
        await a.here.devices.desk.revoke("tag", DeviceReason())
        await until(lambda: b.barred("tag") == "box-1")
        for node in (a, b):
            again = DeviceBatch((DeviceDraft("another", "constrained", root=ROOT),))
            with pytest.raises(QedgeError, match="revoked at box-1"):
                await node.here.devices.desk.add_batch(again)
        line = (await b.here.devices.desk.add(DeviceAdd("fresh", "constrained"))).line
        await b.here.join(ConstrainedDevice.from_invitation(line, random_bytes=fleet.world.random_bytes))


async def test_a_revoked_key_is_enrolled_nowhere_and_a_new_key_is(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await a.known("pump")
        await b.known("pump")
        await a.here.devices.desk.revoke("pump", DeviceReason())
        await until(lambda: b.barred("pump"))
        for node in (a, b):
            with pytest.raises(QedgeError) as error:
                await node.known(f"thief-{node.name}")
            assert error.value.code == "auth.revoked"
        line = await b.here.devices.desk.invite(DeviceInvite("pump"))
        renewed = RichDevice.from_invitation(line.line, random_bytes=fleet.world.random_bytes)
        await b.here.talk(renewed)
        await b.here.talk(renewed)
        assert b.barred("pump") == ""
        assert not subject(b, "pump").revoked


async def test_what_was_revoked_stays_so_over_restarts_and_without_the_node_that_said_it(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    async with fleet.node("box-2") as b:
        await b.known("pump")
        async with fleet.node("box-1") as a:
            await a.known("pump")
            await a.here.devices.desk.revoke("pump", DeviceReason())
            await until(lambda: b.barred("pump"))
    fleet.broker.retained.clear()
    async with fleet.node("box-2") as b:
        assert b.barred("pump") == "box-1"
        assert b.here.devices.registry.require("pump").state is DeviceState.ENROLLED
        with pytest.raises(QedgeError):
            await b.known("thief")


async def test_a_node_that_comes_later_finds_the_list_and_one_that_forgot_all_goes_on_counting(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    async with fleet.node("box-2") as b:
        await b.known("pump")
    async with fleet.node("box-1") as a:
        await a.known("pump")
        await until(lambda: a.lists.serial)
        first = a.lists.serial
        await a.here.devices.desk.revoke("pump", DeviceReason())
        await until(lambda: a.lists.serial > first)
        before = a.lists.serial
    async with fleet.node("box-2") as b:
        await until(lambda: b.barred("pump") == "box-1")
    (tmp_path / "box-1.sqlite3").unlink()
    fleet.world.clock.advance_s(1)
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await until(lambda: a.lists.serial > before)
        await until(lambda: b.peers.serial("box-1") == a.lists.serial)
        await until(lambda: not b.barred("pump"))  # it says so no more


async def test_a_list_is_signed_anew_long_before_it_is_too_old(tmp_path: Path) -> None:
    fleet = ListFleet(tmp_path)
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await until(lambda: b.peers.serial("box-1"))
        first = b.peers.serial("box-1")
        b.lists.require_fresh("box-1")
        fleet.world.clock.advance_s(MAX_AGE_S / 4 + 1)
        await until(lambda: b.peers.serial("box-1") > first)
        assert a.lists.serial == b.peers.serial("box-1")
