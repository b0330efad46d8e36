"""Sessions with devices: full, resumed and short ones, from hello to a frame that opens."""

from __future__ import annotations

from pathlib import Path

from qedge_device.messages import MessageType as Type
from tests.unit.devices.device_site import site


async def test_a_rich_device_enrols_opens_a_full_session_and_both_ways_carry_frames(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.invited()
        assert await here.talk(device) == [Type.ENROL, Type.ENROLLED]
        assert device.is_enrolled
        assert await here.talk(device) == [Type.ASK, Type.CHALLENGE, Type.PROVE, Type.OPENED]
        inside = here.up("meter-1", device.seal("temperature", b"21.5", here.now_s()))
        assert inside == b"\x0btemperature21.5"
        session = here.devices.sessions.current("meter-1")
        assert session is not None
        frame = session.sealer.seal(b"\x03ledon", session.down_topic)
        assert device.open(frame) == ("led", b"on")


async def test_later_sessions_are_resumed_without_public_keys(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        assert await here.talk(device) == [Type.RESUME, Type.RESUMED]
        assert here.up("meter-1", device.seal("t", b"1", here.now_s())) == b"\x01t1"


async def test_a_constrained_device_joins_in_29_and_34_bytes_and_its_frames_cost_11(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.constrained()
        hello = device.hello()
        welcome = await here.devices.greeter.greet("tag-1", hello)
        assert (len(hello), len(welcome)) == (29, 34)
        device.receive(welcome)
        frame = device.seal("t", b"21.5")
        assert len(frame) - len(b"\x01t21.5") == 11
        assert here.up("tag-1", frame) == b"\x01t21.5"
