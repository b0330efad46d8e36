"""Sessions with devices: full, resumed and short ones, from hello to a frame that opens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.config import EnrolmentConfig, SessionsConfig
from qedge.devices.enrolment.authority import is_own_certificate
from qedge.wire.gateway import DeviceAdd
from qedge_device.constrained import ConstrainedDevice
from qedge_device.messages import MessageType as Type
from qedge_device.reading import DeviceError
from qedge_device.rich import RichDevice
from tests.unit.devices.device_site import World, site


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


async def test_an_actuator_that_never_spoke_gets_commands_in_its_newest_session(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        await here.talk(device)
        session = here.devices.sessions.current("meter-1")
        assert session is not None
        assert device.open(session.sealer.seal(b"\x03ledoff", session.down_topic)) == ("led", b"off")


async def test_frames_under_way_while_keys_change_still_open_and_the_old_session_ends_soon(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        late = device.seal("t", b"late", here.now_s())
        await here.talk(device)
        here.up("meter-1", device.seal("t", b"new", here.now_s()))
        assert here.up("meter-1", late) == b"\x01tlate"
        here.clock.advance_s(61)
        here.devices.sessions.sweep(here.clock.now_ns(), lambda _: None)
        again = device.seal("t", b"new", here.now_s())
        assert here.devices.sessions.find("meter-1", late) is None
        assert here.up("meter-1", again) == b"\x01tnew"


async def test_a_session_ends_after_its_time_at_both_sides(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        ended: list[str] = []
        here.clock.advance_s(86_401)
        assert device.needs_session(here.now_s())
        with pytest.raises(DeviceError, match="session"):
            device.seal("t", b"1", here.now_s())
        here.devices.sessions.sweep(here.clock.now_ns(), lambda session: ended.append(session.subject.id))
        assert ended == ["meter-1"]
        assert here.devices.sessions.current("meter-1") is None
        with pytest.raises(DeviceError, match="refused"):
            await here.talk(device)  # the secret of the last full session is too old
        assert (await here.talk(device))[0] is Type.ASK


async def test_a_restarted_node_resumes_with_devices_it_knew(tmp_path: Path) -> None:
    world = World()
    identity = world.identity("box-1")
    async with site(tmp_path, world=world, identity=identity) as here:
        device, tag = await here.opened(), await here.constrained()
        await here.devices.registry.flush()
    async with site(tmp_path, world=world, identity=identity) as here:
        assert await here.talk(device) == [Type.RESUME, Type.RESUMED]
        assert here.up("meter-1", device.seal("t", b"1", here.now_s())) == b"\x01t1"
        await here.join(tag)
        assert here.up("tag-1", tag.seal("t", b"2")) == b"\x01t2"


async def test_a_crash_before_the_secret_was_written_costs_a_full_handshake_and_no_blame(tmp_path: Path) -> None:
    world = World()
    identity = world.identity("box-1")
    async with site(tmp_path, world=world, identity=identity) as here:
        device = await here.opened()
        before = Path(tmp_path / "box-1.sqlite3").exists()
    assert before
    async with site(tmp_path, world=world, identity=identity) as here:
        with pytest.raises(DeviceError, match="refused"):
            await here.talk(device)
        assert await here.talk(device) == [Type.ASK, Type.CHALLENGE, Type.PROVE, Type.OPENED]


async def test_devices_learn_the_nodes_new_key_and_a_key_two_rotations_old_opens_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device, sleeper = await here.enrolled(), await here.enrolled("sleeper")
        old = device.kept.kem
        await here.devices.revoking.renew_kem()
        await here.talk(device)
        assert device.kept.kem == here.devices.authority.statement != old
        await here.devices.revoking.renew_kem()
        assert len(await here.talk(sleeper)) == 4  # CHALLENGE brought the newest statement
        assert sleeper.kept.kem == here.devices.authority.statement


async def test_the_certificate_is_renewed_in_a_session_after_two_thirds_of_its_life(tmp_path: Path) -> None:
    async with site(tmp_path, enrolment=EnrolmentConfig(certificate_s=30 * 86_400.0)) as here:
        device = await here.opened()
        first = device.kept.certificate
        here.clock.advance_s(10 * 86_400)
        device.forget_session()
        await here.talk(device)
        assert device.kept.certificate == first
        here.clock.advance_s(11 * 86_400)
        device.forget_session()
        await here.talk(device)
        assert device.kept.certificate != first
        assert is_own_certificate(device.kept.certificate, here.devices.authority.der)


async def test_a_session_with_an_extra_key_is_qkd_backed_and_nobody_without_the_key_has_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.enrolled()
        here.keys.keys["k1"] = bytes(range(32))
        device.use_extra_key("k1", bytes(range(32)))
        await here.talk(device)
        record = here.devices.registry.require("meter-1")
        assert record.subject.qkd_backed
        assert here.up("meter-1", device.seal("t", b"1", here.now_s())) == b"\x01t1"
        here.keys.keys["k2"] = bytes(32)
        device.use_extra_key("k2", bytes(range(32)))  # not the node's
        with pytest.raises(DeviceError, match="proof"):
            await here.talk(device)
        device.use_extra_key("k3", bytes(32))
        with pytest.raises(QedgeError, match="No such key"):
            await here.talk(device)
        device.use_extra_key("", b"")
        await here.talk(device)
        assert not record.subject.qkd_backed


async def test_a_root_of_the_key_store_makes_a_constrained_device_qkd_backed(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        line = (await here.devices.desk.add(DeviceAdd("tag-2", tier="constrained", root="keys"))).line
        device = ConstrainedDevice.from_invitation(line, random_bytes=here.world.random_bytes)
        await here.join(device)
        assert here.devices.registry.require("tag-2").subject.qkd_backed


async def test_an_extra_key_handed_over_with_the_invitation_is_used_from_the_first_session(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        line = (await here.devices.desk.add(DeviceAdd("meter-2", extra_key=True))).line
        device = RichDevice.from_invitation(line, random_bytes=here.world.random_bytes)
        await here.talk(device)
        await here.talk(device)
        assert here.devices.registry.require("meter-2").subject.qkd_backed


async def test_state_in_a_file_continues_where_the_device_was(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device, tag = await here.opened(), await here.constrained()
        again = RichDevice.load(device.state(), random_bytes=here.world.random_bytes)
        assert await here.talk(again) == [Type.RESUME, Type.RESUMED]
        tag_again = ConstrainedDevice.load(tag.state(), random_bytes=here.world.random_bytes)
        await here.join(tag_again)
        assert here.up("tag-1", tag_again.seal("t", b"x")) == b"\x01tx"


async def test_a_lease_lasts_as_long_as_the_session(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.opened()
        subject = here.devices.registry.require("meter-1").subject
        assert subject.lease_until_ns - here.clock.now_ns() == 86_400 * 1_000_000_000


async def test_a_storm_is_told_when_to_come_back_and_all_are_served_in_time(tmp_path: Path) -> None:
    config = SessionsConfig(resumptions_per_s=20, full_handshakes_per_s=20)
    async with site(tmp_path, sessions=config) as here:
        tags = []
        for number in range(40):
            tags.append(await here.constrained(f"tag-{number}"))
            here.clock.advance_s(0.1)
        waiting = {tag: here.now_s() for tag in tags}
        started = here.now_s()
        while waiting and here.now_s() < started + 60:
            for tag, due in list(waiting.items()):
                if due > here.now_s():
                    continue
                try:
                    tag.receive(await here.devices.greeter.greet(tag.device, tag.hello()))
                    del waiting[tag]
                except DeviceError:
                    assert tag.retry_s >= 1
                    waiting[tag] = here.now_s() + tag.retry_s
            here.clock.advance_s(0.1)
        assert not waiting
        assert here.now_s() - started < 10
        assert here.metrics.value("qedge_device_handshakes_total", ("join", "busy")) > 0


async def test_a_sweep_of_many_sessions_lets_others_have_their_turn_and_passes_by_those_closed_meanwhile(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as here:
        book, ended = here.devices.sessions, []
        await here.opened()
        session = book.current("meter-1")
        assert session is not None
        for number in range(1200):
            subject = replace(session.subject, id=f"m{number}")
            book.add(replace(session, subject=subject, expires_ns=10))
        pieces = book.sweeping(11, lambda each: ended.append(each.subject.id))
        next(pieces)
        book.close("m1100")
        assert sum(1 for _ in pieces) >= 1
        assert len(ended) == 1199
        assert len(book) == 1
