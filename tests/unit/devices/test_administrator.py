"""The policy administrator: what it decides counts before the call returns."""

from __future__ import annotations

from pathlib import Path

import pytest

from qedge.devices.model import DeviceState
from qedge.wire.gateway import DeviceRotation
from qedge_device.messages import MessageType as Type
from qedge_device.messages import Refusal, Refused
from qedge_device.reading import DeviceError
from tests.unit.devices.device_site import site


class FakeLimiter:
    """Notes limits."""

    def __init__(self) -> None:
        self.limits: list[tuple[str, float]] = []

    def limit(self, device_id: str, messages_per_s: float) -> None:
        """Note a limit."""
        self.limits.append((device_id, messages_per_s))


async def test_quarantine_denies_closes_and_cuts_in_one_call_and_release_lets_come_back(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        record = here.devices.registry.require("meter-1")
        epoch = record.subject.epoch
        here.devices.administrator.quarantine("meter-1", "flooding")
        assert record.subject.quarantined
        assert record.subject.epoch > epoch
        assert here.devices.sessions.current("meter-1") is None
        assert here.way.cuts == ["meter-1"]
        here.devices.administrator.quarantine("meter-1", "again")
        assert (record.reason, here.way.cuts) == ("flooding", ["meter-1"])
        here.devices.administrator.release("meter-1")
        assert record.state is DeviceState.ENROLLED
        assert not record.subject.quarantined
        assert await here.talk(device) == [Type.RESUME, Type.RESUMED]


async def test_a_device_that_was_cut_off_comes_back_with_a_new_proof_of_its_key(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        here.devices.administrator.cut_off("meter-1", "odd")
        record = here.devices.registry.require("meter-1")
        assert (record.state, here.way.cuts) == (DeviceState.ENROLLED, ["meter-1"])
        assert record.subject.lease_until_ns == 0
        answer = await here.devices.greeter.greet("meter-1", device.hello())
        assert Refused.read(answer).refusal == Refusal.START_ANEW
        device.forget_session()
        assert (await here.talk(device))[0] is Type.ASK


async def test_rekey_takes_nothing_more_in_the_old_session_and_tells_the_device(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        frame = device.seal("t", b"1", here.now_s())
        here.devices.administrator.rekey("meter-1")
        assert here.devices.sessions.find("meter-1", frame) is None
        ((name, topic, message),) = here.way.sent
        assert (name, topic) == ("meter-1", device.welcome_topic)
        assert Refused.read(message).refusal == Refusal.START_ANEW
        assert here.way.cuts == []


async def test_limits_reach_whoever_holds_back_also_when_that_comes_later(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.enrolled()
        here.devices.administrator.throttle("meter-1", 2.5)
        limiter = FakeLimiter()
        here.devices.administrator.set_limiter(limiter)
        here.devices.administrator.throttle("meter-1", 0)
        assert limiter.limits == [("meter-1", 2.5), ("meter-1", 0)]
        assert here.devices.administrator.limits == {}


async def test_unknown_devices_and_impossible_steps_change_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.invited()
        here.devices.administrator.quarantine("meter-1", "x")  # it is only invited
        for name in ("nobody", "_guest"):
            here.devices.administrator.quarantine(name, "x")
            here.devices.administrator.release(name)
            here.devices.administrator.cut_off(name, "x")
            here.devices.administrator.throttle(name, 1)
            here.devices.administrator.rekey(name)
        assert here.devices.registry.require("meter-1").state is DeviceState.INVITED
        assert here.way.cuts == here.way.sent == []


async def test_a_constrained_device_too_hears_that_it_has_to_begin_anew(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        tag = await here.constrained()
        await here.join(tag)
        here.devices.administrator.rekey("tag-1")
        ((_, _, message),) = here.way.sent
        assert not tag.needs_session
        with pytest.raises(DeviceError):
            tag.receive(message)
        assert tag.needs_session


async def test_rotating_all_replaces_the_nodes_key_and_every_session(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device, tag = await here.opened(), await here.constrained()
        before = here.devices.authority.statement
        assert (await here.devices.desk.rotate(DeviceRotation())).devices == 2
        assert len(here.devices.sessions) == 0
        assert here.devices.authority.statement != before
        for _, _, message in here.way.sent[:1]:
            try:
                device.receive(message, here.now_s())
            except DeviceError as error:
                assert str(error) == "refused: refused"
        assert await here.talk(device) == [Type.ASK, Type.CHALLENGE, Type.PROVE, Type.OPENED]
        await here.join(tag)
        assert device.kept.kem == here.devices.authority.statement
        assert (await here.devices.desk.rotate(DeviceRotation(("tag-1",)))).devices == 1
        assert here.devices.sessions.current("meter-1") is not None


async def test_the_nodes_key_is_replaced_at_its_end(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        serial = here.devices.authority.newest.serial
        assert not await here.devices.revoking.renew_if_due()
        here.clock.advance_s(31 * 86_400)
        assert await here.devices.revoking.renew_if_due()
        assert here.devices.authority.newest.serial == serial + 1
