"""Attacks on enrolment and sessions of devices, as numbered in the list of attacks: each has no effect."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from qedge.base.errors import QedgeError
from qedge.devices.config import EnrolmentConfig
from qedge.devices.model import DeviceState, OpenEnrolment
from qedge.wire.attached import parse_device_topic
from qedge.wire.gateway import DeviceAdd, DeviceReason
from qedge_device import agreement, schedule
from qedge_device.enrolling import Enrol, Invitation
from qedge_device.frame import FrameError
from qedge_device.messages import Ask, Challenge, Join, Prove, Refused, Resume
from qedge_device.reading import DeviceError
from qedge_device.rich import RichDevice
from tests.unit.devices.device_site import METER, Site, World, site


async def refused(here: Site, who: str, message: bytes) -> str:
    """Say hello and return the code with which the node refuses."""
    with pytest.raises(QedgeError) as error:
        await here.devices.greeter.greet(who, message)
    return error.value.code


async def asked(here: Site, device: RichDevice) -> tuple[bytes, bytes]:
    """Begin a full session up to the proof; returns ASK and PROVE."""
    device.forget_session()
    here.clock.advance_s(0.01)
    ask = device.hello()
    prove = device.receive(await here.devices.greeter.greet(device.username, ask), here.now_s())
    assert prove is not None
    return ask, prove


@pytest.mark.parametrize("kind", ["rich", "short"])
async def test_a01_a_replayed_frame_is_dropped(tmp_path: Path, kind: str) -> None:
    async with site(tmp_path) as here:
        if kind == "rich":
            name, frame = "meter-1", (await here.opened()).seal("t", b"1", here.now_s())
        else:
            name, frame = "tag-1", (await here.constrained()).seal("t", b"1")
        assert here.up(name, frame) == b"\x01t1"
        with pytest.raises(FrameError, match="replay"):
            here.up(name, frame)


async def test_a02_frames_and_hellos_of_before_a_restart_are_nothing_after_it(tmp_path: Path) -> None:
    world = World()
    identity = world.identity("box-1")
    async with site(tmp_path, world=world, identity=identity) as here:
        device, tag = await here.opened(), await here.constrained()
        frames = [("meter-1", device.seal("t", b"1", here.now_s())), ("tag-1", tag.seal("t", b"1"))]
        _, prove = await asked(here, device)
        await here.devices.registry.flush()
    async with site(tmp_path, world=world, identity=identity) as here:
        for name, frame in frames:
            assert here.devices.sessions.find(name, frame) is None
        assert Refused.read(await here.devices.greeter.greet("meter-1", prove)).refusal == 2  # start anew
        forged = replace(Prove.read(prove), boot=here.devices.place.boot).pack()
        assert await refused(here, "meter-1", forged) == "device.refused"
        assert len(here.devices.sessions) == 0
        await here.talk(device)
        await here.join(tag)
        for name, frame in frames:
            assert here.devices.sessions.find(name, frame) is None or kept_shut(here, name, frame)


def kept_shut(here: Site, name: str, frame: bytes) -> bool:
    """Say whether a frame that names a session by chance does not open in it."""
    try:
        here.up(name, frame)
    except FrameError:
        return True
    return False


@pytest.mark.parametrize("kind", ["rich", "short"])
async def test_a03_a_forged_counter_moves_no_window(tmp_path: Path, kind: str) -> None:
    async with site(tmp_path) as here:
        if kind == "rich":
            device = await here.opened()
            name, frame = "meter-1", device.seal("t", b"1", here.now_s())
            # beyond what a session may have, and within it, where the tag alone is in the way
            jumps = [frame[:5] + counter.to_bytes(8, "big") + frame[13:] for counter in (2**40, 2**20, 300)]
        else:
            tag = await here.constrained()
            name, frame = "tag-1", tag.seal("t", b"1")
            jumps = [frame[:1] + b"\x40\x00" + frame[3:]]
        for forged in 3 * jumps:
            with pytest.raises(FrameError):
                here.up(name, forged)
        assert here.up(name, frame) == b"\x01t1"


async def test_a04_suites_cannot_be_taken_out_of_an_ask_nor_forced_into_it(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.enrolled()
        here.clock.advance_s(1)
        ask = Ask.read(device.hello())
        weaker = replace(ask, suites=b"\x03").pack()  # the broker leaves only one of the two
        prove = device.receive(await here.devices.greeter.greet("meter-1", weaker), here.now_s())
        assert prove is not None
        assert await refused(here, "meter-1", prove) == "device.refused"
        for suites in (b"", b"\x00", b"\x02", b"\xff\x07"):
            assert await refused(here, "meter-1", replace(ask, suites=suites).pack()) == "crypto.refused_algorithm"
        device.hello()
        with pytest.raises(DeviceError, match="suite"):
            device.receive(Challenge(2, bytes(32), bytes(16), b"").pack(), 0)


async def test_a06_a_flipped_bit_in_the_sealed_half_fails_as_a_bad_tag_does(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        codes = set()
        for at in (0, 500, 1087, 1100, 1130, 1167):  # in ML-KEM's part, in X25519's, in the sealed bytes, in the tag
            _, message = await asked(here, device)
            prove = Prove.read(message)
            sealed = bytearray(prove.sealed)
            sealed[at] ^= 1
            bad = replace(prove, sealed=bytes(sealed), signature=b"")
            # Even the device itself, were it to sign such a thing, learns no more than that it failed.
            signature = device._key.sign(
                agreement.prove_message(here.devices.place.who("meter-1"), bad), agreement.SESSION_CONTEXT
            )
            codes.add(await refused(here, "meter-1", replace(bad, signature=signature).pack()))
        assert codes == {"device.refused"}


async def test_a07_malformed_keys_and_signatures_are_errors_of_the_table(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        name = here.devices.place.who("meter-1")
        for ephemeral in (b"", b"\xff" * 1216, bytes(1215)):  # nothing, coefficients over the modulus, cut off
            _, message = await asked(here, device)
            bad = replace(Prove.read(message), ephemeral=ephemeral, signature=b"")
            info = agreement.prove_info(name, bad)
            half = agreement.seal_half(bytes(32), device._statement().public_key, info)
            bad = replace(bad, sealed=half)
            signature = device._key.sign(agreement.prove_message(name, bad), agreement.SESSION_CONTEXT)
            code = await refused(here, "meter-1", replace(bad, signature=signature).pack())
            assert code in ("auth.bad_key", "device.bad_message")
        _, message = await asked(here, device)
        prove = Prove.read(message)
        for signature in (b"", prove.signature[:-1], bytes(2420), prove.signature + b"\0"):
            _, message = await asked(here, device)
            bad = replace(Prove.read(message), signature=signature).pack()
            assert await refused(here, "meter-1", bad) == "auth.bad_signature"
        for key in (b"", bytes(10), b"\xff" * 1312):
            fresh = await here.invited(f"m-{len(key)}")
            enrol = replace(Enrol.read(fresh.hello()), public_key=key)
            assert (await refused(here, fresh.username, enrol.pack())).startswith(("device.", "auth."))


async def test_a13_a_frame_on_another_devices_topic_opens_nowhere(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        one, two = await here.opened("one"), await here.opened("two")
        frame = one.seal("t", b"1", here.now_s())
        assert here.devices.sessions.find("two", frame) is None
        session = here.devices.sessions.current("one")
        assert session is not None
        for topic in (two.up_topic, one.down_topic, one.hello_topic, one.up_topic + "\0", ""):
            with pytest.raises(FrameError, match="open"):
                session.opener.open(frame, topic)
        assert session.opener.open(frame, one.up_topic) == b"\x01t1"
        for topic in ("..", "a/../b", one.up_topic + "/x", one.up_topic.replace("one", "\ufeffone"), "x" * 65_536):
            assert parse_device_topic(topic) is None


async def test_a13_a_command_cannot_be_turned_back_at_the_node(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.opened()
        session = here.devices.sessions.current("meter-1")
        assert session is not None
        frame = session.sealer.seal(b"\x03ledon", session.down_topic)
        with pytest.raises(FrameError, match="open"):
            session.opener.open(frame, session.down_topic)


async def test_an_enrolment_token_is_good_once(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        line = (await here.devices.desk.add(DeviceAdd("meter-1", profile=METER))).line
        first = RichDevice.from_invitation(line, random_bytes=here.world.random_bytes)
        thief = RichDevice.from_invitation(line, random_bytes=here.world.random_bytes)
        await here.talk(first)
        assert await refused(here, thief.username, thief.hello()) == "device.spent"
        record = here.devices.registry.require("meter-1")
        assert record.key_id == hashlib.sha3_256(_spki(first)).digest()[:16]


def _spki(device: RichDevice) -> bytes:
    from qedge.devices.enrolment.authority import device_public_key

    return device_public_key(44, device.public_key).der


async def test_a_replayed_enrolment_changes_nothing_once_its_answer_is_used(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.invited()
        guest, hello = device.username, device.hello()
        device.receive(await here.devices.greeter.greet(guest, hello), here.now_s())
        again = await here.devices.greeter.greet(guest, hello)  # its answer may have been lost
        assert again
        device = RichDevice(device.kept, here.world.random_bytes)
        device.kept.secret = here.devices.registry.require("meter-1").secret
        assert await here.devices.doorman.check("c", "meter-1", device.password("c").encode()) is not None
        assert await refused(here, guest, hello) == "device.refused"


async def test_an_expired_or_forged_invitation_lets_nobody_in(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        late = await here.invited("late")
        here.clock.advance_s(901)
        assert await refused(here, late.username, late.hello()) == "device.refused"
        line = (await here.devices.desk.add(DeviceAdd("meter-1"))).line
        invitation = Invitation.read(line)
        for forged in (
            replace(invitation, token=bytes(16)),
            replace(invitation, guest="_0123456789abcdef"),
            replace(invitation, device="meter-2"),
        ):
            device = RichDevice.from_invitation(forged.write(), random_bytes=here.world.random_bytes)
            assert await refused(here, device.username, device.hello()) == "device.refused"
        assert here.devices.registry.require("meter-1").state is DeviceState.INVITED


async def test_a_stolen_certificate_without_its_key_opens_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        stolen = RichDevice.load(device.state(), random_bytes=here.world.random_bytes)
        stolen._key = agreement.DeviceKey(44, here.world.random_bytes(32))  # all that is on disk but the seed
        _, prove = await asked(here, stolen)
        assert await refused(here, "meter-1", prove) == "auth.bad_signature"


async def test_a_key_that_is_not_proved_is_not_enrolled(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        victim, thief = await here.enrolled("victim"), await here.invited("thief")
        enrol = Enrol.read(thief.hello())
        claimed = replace(enrol, public_key=victim.public_key)
        assert await refused(here, thief.username, claimed.pack()) == "device.refused"
        guest = here.devices.place.who(thief.username)
        unproved = replace(enrol, proof=bytes(2420))
        from qedge_device.joining import token_mac

        unproved = replace(unproved, mac=token_mac(thief.kept.token, guest, unproved))
        assert await refused(here, thief.username, unproved.pack()) == "auth.bad_signature"


async def test_replayed_hellos_open_no_second_session(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device, tag = await here.opened(), await here.constrained()
        _, prove = await asked(here, device)
        device.receive(await here.devices.greeter.greet("meter-1", prove), here.now_s())
        session = here.devices.sessions.current("meter-1")
        assert await refused(here, "meter-1", prove) == "device.refused"
        resume, join = device.hello(), tag.hello()
        device.receive(await here.devices.greeter.greet("meter-1", resume), here.now_s())
        tag.receive(await here.devices.greeter.greet("tag-1", join))
        assert await refused(here, "meter-1", resume) == "device.refused"
        assert await refused(here, "tag-1", join) == "device.refused"
        assert here.devices.sessions.current("meter-1") is not session


async def test_an_old_challenge_is_not_answered_later(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.enrolled()
        _, prove = await asked(here, device)
        here.clock.advance_s(61)
        assert await refused(here, "meter-1", prove) == "device.refused"


async def test_what_was_said_to_one_node_is_worth_nothing_at_another(tmp_path: Path) -> None:
    world = World()
    async with site(tmp_path, world=world, node="box-1") as one, site(tmp_path, world=world, node="box-2") as two:
        device, tag = await one.opened(), await one.constrained()
        for record in one.devices.registry:  # as if the second had the same devices with the same secrets
            two.devices.registry._devices[record.subject.id] = record
        _, prove = await asked(one, device)
        forged = replace(Prove.read(prove), boot=two.devices.place.boot).pack()
        assert await refused(two, "meter-1", forged) == "device.refused"
        await one.talk(device)
        assert await refused(two, "meter-1", device.hello()) == "device.refused"
        assert await refused(two, "tag-1", tag.hello()) == "device.refused"
        assert await two.devices.doorman.check("c", "meter-1", device.password("c").encode()) is None
        invited = await one.invited("new")
        assert await refused(two, invited.username, invited.hello()) == "device.refused"


async def test_a_node_that_is_not_the_invitations_is_not_believed(tmp_path: Path) -> None:
    world = World()
    async with site(tmp_path, world=world, node="box-1") as one:
        device = await one.invited()
        other = replace(one.devices.authority.identity, key=world.identity("evil").key)
        one.devices.enrolment._authority = type(one.devices.authority)(
            other, *[_authority_key(one)], [one.devices.authority.newest]
        )
        with pytest.raises(DeviceError, match="node"):
            await one.talk(device)
        assert not device.is_enrolled


def _authority_key(here: Site):  # type: ignore[no-untyped-def]  # a key of the node, made anew
    from qedge.devices.enrolment.authority import make_authority

    return make_authority(here.devices.authority.identity, here.clock.utc_ns(), here.world.random_bytes)


async def test_an_altered_answer_changes_nothing_at_the_device(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.opened()
        _, prove = await asked(here, device)
        answer = bytearray(await here.devices.greeter.greet("meter-1", prove))
        for at in (1, 6, 40, 1160, len(answer) - 1):
            bad = bytearray(answer)
            bad[at] ^= 1
            with pytest.raises(DeviceError):
                device.receive(bytes(bad), here.now_s())
        device.receive(bytes(answer), here.now_s())
        assert here.up("meter-1", device.seal("t", b"1", here.now_s())) == b"\x01t1"


async def test_revoked_and_quarantined_devices_open_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device, tag = await here.opened(), await here.constrained()
        here.devices.administrator.quarantine("meter-1", "odd")
        assert await refused(here, "meter-1", device.hello()) == "device.refused"
        subject = await here.devices.doorman.check("c", "meter-1", device.password("c").encode())
        assert subject is not None
        assert subject.quarantined
        here.devices.administrator.release("meter-1")
        assert len(await here.talk(await _anew(device))) == 4
        for name in ("meter-1", "tag-1"):
            await here.devices.desk.revoke(name, DeviceReason("lost"))
            assert here.devices.sessions.current(name) is None
        device.forget_session()
        assert await refused(here, "meter-1", device.hello()) == "device.refused"
        assert await refused(here, "tag-1", tag.hello()) == "device.refused"
        assert await here.devices.doorman.check("c", "tag-1", tag.password("c").encode()) is None


async def _anew(device: RichDevice) -> RichDevice:
    device.forget_session()
    return device


async def test_a_password_is_good_once_for_one_client_id_and_guessing_finds_nobody(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.enrolled()
        check = here.devices.doorman.check
        early, late = device.password("c1").encode(), device.password("c1").encode()
        assert await check("c2", "meter-1", late) is None
        assert (await check("c1", "meter-1", late)) is here.devices.registry.require("meter-1").subject
        for used in (late, early):
            with pytest.raises(QedgeError, match="again"):
                await check("c1", "meter-1", used)
        for guess in (b"", b"\xff" * 44, b"secret", base64.b64encode(bytes(33)), late + b"A", b"A" * 10_000):
            assert await check("c1", "meter-1", guess) is None
            assert await check("c1", "nobody", guess) is None
            assert await check("c1", "_0123456789abcdef", guess) is None
            assert await check("c1", "\ud800", guess) is None


async def test_guests_may_only_enrol(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.invited()
        guest = await here.devices.doorman.check("c", device.username, device.password("c").encode())
        assert guest is not None
        assert guest.id == device.username != "meter-1"
        assert here.devices.sessions.find(guest.id, bytes(100)) is None
        ask = Ask(b"\x01", bytes(8), bytes(32)).pack()
        assert await refused(here, device.username, ask) == "device.refused"
        stranger = RichDevice.from_invitation(
            replace(Invitation.read((await here.devices.desk.add(DeviceAdd("x"))).line), guest="", token=b"").write(),
            random_bytes=here.world.random_bytes,
        )
        assert await here.devices.doorman.check("c", stranger.username, b"") is None
        assert await refused(here, stranger.username, stranger.hello()) == "device.refused"


async def test_nobody_asks_under_the_name_of_anothers_key(tmp_path: Path) -> None:
    async with site(tmp_path, enrolment=EnrolmentConfig(open_to=OpenEnrolment.ANYBODY)) as here:
        line = Invitation("lab", "box-1", "", "", "", b"", 0).write()
        one, two = (RichDevice.from_invitation(line, random_bytes=here.world.random_bytes, name=f"d-{n}") for n in "12")
        assert await here.devices.doorman.check("c", one.username, b"") is not None
        assert await refused(here, one.username, two.hello()) == "device.refused"


async def test_a_short_session_locks_after_32_failures_and_opens_after_an_hour(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        tag = await here.constrained()
        good = tag.seal("t", b"1")
        bad = good[:-1] + bytes([good[-1] ^ 1])
        for _ in range(32):
            with pytest.raises(FrameError, match="open"):
                here.up("tag-1", bad)
        with pytest.raises(FrameError, match="locked"):
            here.up("tag-1", good)
        here.clock.advance_s(3600)
        here.devices.sessions.sweep(here.clock.now_ns(), lambda _: None)
        assert here.up("tag-1", good) == b"\x01t1"


async def test_every_try_at_a_signature_costs_the_limit_of_asks(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device = await here.enrolled()
        _, prove = await asked(here, device)
        bad = replace(Prove.read(prove), signature=bytes(2420)).pack()
        assert await refused(here, "meter-1", bad) == "auth.bad_signature"
        assert await refused(here, "meter-1", prove) == "device.refused"  # the nonce is spent


async def test_garbage_hellos_are_refused_with_a_code(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        await here.opened()
        await here.constrained()
        for name in ("meter-1", "tag-1", "nobody", "_guest"):
            for first in range(256):
                for size in (0, 1, 28, 64):
                    message = (bytes([first]) + bytes(size))[: size + 1]
                    here.clock.advance_s(1)
                    try:
                        await here.devices.greeter.greet(name, message)
                    except QedgeError as error:
                        assert error.code.startswith(("device.", "crypto.", "auth."))


async def test_resumption_proves_the_secret_and_never_moves_the_counter_before(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        device, tag = await here.opened(), await here.constrained()
        before = [here.devices.registry.require(name).counter for name in ("meter-1", "tag-1")]
        ticket = schedule.ticket_of(device.kept.resumption)
        forged = Resume(2**63 - 1, ticket, 1, bytes(32), b"", bytes(32)).pack()
        assert await refused(here, "meter-1", forged) == "device.refused"
        assert await refused(here, "tag-1", Join(2**32 - 1, bytes(8)).pack()) == "device.refused"
        assert [here.devices.registry.require(name).counter for name in ("meter-1", "tag-1")] == before
        await here.talk(device)
        await here.join(tag)
