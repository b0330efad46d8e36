"""Attacks on lists of revoked devices, one test each, under the number they have in the docs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from qedge.base.errors import QedgeError
from qedge.devices.enrolment.authority import NodeIdentity
from qedge.devices.enrolment.revocations import sign_list
from qedge.wire.envelope import Header, encode, purpose_of
from qedge.wire.gateway import MAX_LISTED_REVOCATIONS, DeviceReason, RevokedDevice, SignedByNode
from tests.unit.devices.device_site import World
from tests.unit.devices.list_site import MAX_AGE_S, ListFleet, ListNode, list_of
from tests.unit.mesh.mesh_site import until


@pytest.fixture
def fleet(tmp_path: Path) -> ListFleet:
    return ListFleet(tmp_path)


def put(fleet: ListFleet, node: str, signed: SignedByNode, sender: str = "") -> None:
    """Publish a list in the place of a node, as anybody may who can use the broker."""
    header = Header(list_of(node), sender or node, 0, purpose_of(SignedByNode), 0)
    fleet.broker.publish(list_of(node), encode(header, signed), retain=True)


def naming(identity: NodeIdentity, node: ListNode, device: str, serial: int = 2**62) -> SignedByNode:
    """Sign a list that names the key of a device of another node."""
    key_id = node.here.devices.registry.require(device).key_id
    utc_ns = node.here.clock.utc_ns()
    return sign_list(identity, serial, utc_ns, [RevokedDevice("pump", key_id, utc_ns // 10**9 + 1000)])


async def test_a08_a10_forged_and_foreign_lists_have_no_effect(fleet: ListFleet) -> None:
    async with fleet.node("box-2") as b:
        await b.known("pump")
        stranger = World(seed=99).identity("box-1")
        true = naming(fleet.identity("box-1"), b, "pump")
        device_key = fleet.world.identity("box-3")
        forged = [
            naming(stranger, b, "pump"),
            naming(fleet.identity("box-3"), b, "pump"),  # of another member
            msgspec.structs.replace(true, signature=true.signature[:-1] + b"x"),
            msgspec.structs.replace(true, body=true.body + b"x"),
            msgspec.structs.replace(true, chain=stranger.chain),
            msgspec.structs.replace(true, chain=device_key.chain),
            msgspec.structs.replace(true, body=os.urandom(200)),
        ]
        for each in forged:
            put(fleet, "box-1", each)
        fleet.broker.publish(list_of("box-1"), os.urandom(300), retain=True)
        await until(lambda: len(b.bus.rejected) == len(forged) + 1)
        assert (b.barred("pump"), b.peers.serial("box-1"), b.told) == ("", 0, [])
        put(fleet, "box-1", true)
        await until(lambda: b.barred("pump") == "box-1")


async def test_a10_an_older_list_is_ignored_also_after_a_restart(fleet: ListFleet) -> None:
    async with fleet.node("box-2") as b:
        await b.known("pump")
        async with fleet.node("box-1") as a:
            await a.known("pump")
            await until(lambda: b.peers.serial("box-1") and a.lists.serial)
            old = fleet.broker.retained[list_of("box-1")]
            await a.here.devices.desk.revoke("pump", DeviceReason())
            await until(lambda: b.barred("pump"))
            newest = b.peers.serial("box-1")
        fleet.broker.publish(list_of("box-1"), old, retain=True)
        await asyncio.sleep(0.1)
        assert (b.barred("pump"), b.peers.serial("box-1")) == ("box-1", newest)
    async with fleet.node("box-2") as b:  # which finds the old one on the broker
        await asyncio.sleep(0.2)
        assert (b.barred("pump"), b.peers.serial("box-1")) == ("box-1", newest)


async def test_a11_a_deleted_list_lets_nobody_in_and_its_node_publishes_it_again(fleet: ListFleet) -> None:
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await a.known("pump")
        await b.known("pump")
        await a.here.devices.desk.revoke("pump", DeviceReason())
        await until(lambda: b.barred("pump"))
        fleet.world.clock.advance_s(10)
        fleet.broker.publish(list_of("box-1"), b"", retain=True)
        await until(lambda: list_of("box-1") in fleet.broker.retained)
        assert b.barred("pump") == "box-1"
        assert b.bus.rejected


async def test_a39_a_list_that_the_broker_withholds_is_asked_for_inside_a_session(fleet: ListFleet) -> None:
    async with fleet.node("box-1") as a, fleet.node("box-2") as b:
        await a.known("pump")
        await b.known("pump")
        await until(lambda: b.peers.serial("box-1"))
        fleet.broker.drop = lambda message: message.topic == list_of("box-1")
        first = a.lists.serial
        await a.here.devices.desk.revoke("pump", DeviceReason())
        await until(lambda: a.lists.serial > first)
        b.announced = {"box-1": a.lists.serial}  # which the signed birth says
        b.lists.peers_changed()
        await asyncio.sleep(0.6)
        assert not b.barred("pump")
        fleet.world.clock.advance_s(40)
        await until(lambda: b.barred("pump") == "box-1")


async def test_a39_what_is_privileged_fails_closed_where_a_list_is_withheld_or_too_old(fleet: ListFleet) -> None:
    async with fleet.node("box-2") as b:
        async with fleet.node("box-1") as a:
            await until(lambda: b.peers.serial("box-1"))
            b.lists.require_fresh("box-1")
            serial = a.lists.serial
        with pytest.raises(QedgeError, match="missing or too old"):
            b.lists.require_fresh("box-9")  # of which nobody has heard
        b.announced = {"box-1": serial + 1, "box-3": 0}
        b.lists.peers_changed()
        await asyncio.sleep(0.6)
        b.lists.require_fresh("box-1")  # it may be under way
        b.lists.require_fresh("box-3")  # takes no devices
        fleet.world.clock.advance_s(20)
        with pytest.raises(QedgeError) as withheld:
            b.lists.require_fresh("box-1")
        b.announced = {"box-1": serial}
        b.lists.peers_changed()
        await asyncio.sleep(0.6)
        b.lists.require_fresh("box-1")
        fleet.world.clock.advance_s(MAX_AGE_S)
        with pytest.raises(QedgeError) as old:
            b.lists.require_fresh("box-1")
        assert withheld.value.code == old.value.code == "device.stale_revocations"


async def test_a39_a_list_with_a_time_to_come_is_believed_and_grows_old_from_now_on(fleet: ListFleet) -> None:
    async with fleet.node("box-2") as b:
        await b.known("pump")
        fleet.world.clock.advance_s(60)
        identity = fleet.identity("box-1")
        key_id = b.here.devices.registry.require("pump").key_id
        utc_ns = b.here.clock.utc_ns()
        signed = sign_list(identity, 7, utc_ns + 10**18, [RevokedDevice("pump", key_id, 2 * 10**9)])
        put(fleet, "box-1", signed)
        await until(lambda: b.barred("pump"))
        b.lists.require_fresh("box-1")
        fleet.world.clock.advance_s(MAX_AGE_S + 1)
        with pytest.raises(QedgeError):
            b.lists.require_fresh("box-1")


async def test_a15_a_full_list_fits_into_a_message_and_one_that_does_not_fit_is_no_ground_for_trust(
    fleet: ListFleet,
) -> None:
    async with fleet.node("box-2") as b:
        identity, utc_ns = fleet.identity("box-1"), b.here.clock.utc_ns()
        entries = [
            RevokedDevice("d" * 31 + f"{number:05}", os.urandom(16), 2**40) for number in range(MAX_LISTED_REVOCATIONS)
        ]
        put(fleet, "box-1", sign_list(identity, 1, utc_ns, entries))
        await until(lambda: b.peers.serial("box-1") == 1)
        b.lists.require_fresh("box-1")
        put(fleet, "box-1", sign_list(identity, 2, utc_ns, [*entries, entries[0]]))
        await until(lambda: b.peers.serial("box-1") == 2)
        with pytest.raises(QedgeError):
            b.lists.require_fresh("box-1")
