"""What the rooms of zero trust get from the rest of the daemon."""

from __future__ import annotations

import os

import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.daemon.gateway.adapters import DEVICES_SAE, KEY_BITS, StoredDeviceKeys
from qedge.qkd.keys.fake import FakeKeyFleet, FakeKeyStore


async def linked() -> tuple[FakeKeyStore, FakeKeyStore]:
    fleet = FakeKeyFleet(ManualClock(), os.urandom)
    here, there = fleet.join("box-1"), fleet.join("box-2")
    await fleet.grow("box-1", "box-2")
    return here, there


async def test_a_fresh_key_for_a_device_is_from_a_link_and_nobody_has_it_again() -> None:
    here, there = await linked()
    keys = StoredDeviceKeys("box-1", here)
    key_id, key = await keys.fresh("meter-1")
    assert len(key) == KEY_BITS // 8
    assert (await keys.fresh("meter-2"))[1] != key
    for store in (here, there):
        with pytest.raises(QedgeError):
            await store.collect(DEVICES_SAE, DEVICES_SAE, [key_id])


async def test_a_device_with_a_key_manager_of_its_own_shares_a_key_once() -> None:
    here, there = await linked()
    (cut,) = await there.reserve("box-1", "meter-1", [DEVICES_SAE], 1, KEY_BITS)
    keys = StoredDeviceKeys("box-1", here)
    for stranger in ("meter-2", ""):
        with pytest.raises(QedgeError) as error:
            await keys.collect(stranger, cut.key_id)
        assert error.value.code == "device.no_key"
    assert await keys.collect("meter-1", cut.key_id) == cut.key
    with pytest.raises(QedgeError) as error:
        await keys.collect("meter-1", cut.key_id)
    assert error.value.code == "device.no_key"


async def test_without_a_link_there_is_no_key() -> None:
    keys = StoredDeviceKeys("box-1", FakeKeyFleet(ManualClock(), os.urandom).join("box-1"))
    with pytest.raises(QedgeError) as error:
        await keys.fresh("meter-1")
    assert error.value.code == "device.no_key"
