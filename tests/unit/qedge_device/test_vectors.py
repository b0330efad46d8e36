"""The vectors for makers of devices in other languages: what is written there is what this library does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from qedge_device import agreement, schedule
from qedge_device.agreement import DeviceKey, XWingKey
from qedge_device.enrolling import Enrol, Enrolled, KemStatement, guest_of, pin_of, proved, welcomed
from qedge_device.frame import Opener, Sealer, Suite
from qedge_device.joining import first_secret, token_mac
from qedge_device.messages import Ask, Challenge, Join, Joined, Opened, Prove, Resume, Resumed
from qedge_device.reading import pack, topic
from qedge_device.short import ShortOpener, ShortSealer

FILE = Path(__file__).parents[2] / "vectors" / "device-sessions.json"


class Vectors:
    """One part of the file."""

    def __init__(self, part: dict[str, Any]) -> None:
        self.part = part

    def __getitem__(self, name: str) -> bytes:
        """Return bytes."""
        return bytes.fromhex(self.part[name])


@pytest.fixture(scope="module")
def file() -> dict[str, Any]:
    """The whole file."""
    found: dict[str, Any] = json.loads(FILE.read_text("ascii"))
    return found


WHO = schedule.who("lab", "box-1", "meter-2")
UP = topic("lab", "box-1", "meter-2", "up")
INSIDE = pack("temperature", b"21.5")


def test_keys_and_names(file: dict[str, Any]) -> None:
    device, node, names = Vectors(file["device_key"]), Vectors(file["node"]), file["names"]
    assert bytes.fromhex(names["who"]) == WHO
    assert DeviceKey(44, device["seed"]).public_key == device["public_key"]
    assert names["guest"].startswith("_")
    assert names["guest"] == guest_of(names["guest"].partition("-")[0], device["public_key"])
    assert XWingKey(node["kem_seed"]).public_key == node["kem_public_key"]
    assert pin_of(node["identity_public_key"]) == node["pin"]
    statement = KemStatement.read(node["kem_statement"])
    assert statement.public_key == node["kem_public_key"]
    agreement.verify_statement(statement, 65, node["identity_public_key"])
    assert bytes.fromhex(file["reading"]["inside"]) == INSIDE


def test_enrolment(file: dict[str, Any]) -> None:
    part = Vectors(file["enrolment"])
    guest = schedule.who("lab", "box-1", file["names"]["guest"])
    enrol, enrolled = Enrol.read(part["enrol"]), Enrolled.read(part["enrolled"])
    assert enrol.pack() == part["enrol"]
    assert enrolled.pack() == part["enrolled"]
    agreement.verify(44, enrol.public_key, enrol.proof, proved(guest, enrol), agreement.ENROL_CONTEXT)
    assert token_mac(part["token"], guest, enrol) == enrol.mac
    agreement.verify(
        65, enrolled.node_key, enrolled.signature, welcomed(guest, part["enrol"], enrolled), agreement.WELCOME_CONTEXT
    )
    info = agreement.open_info(guest, hashlib.sha256(part["enrol"]).digest())
    half = XWingKey(part["ephemeral_seed"]).open(enrolled.sealed, info)
    assert first_secret(half, part["token"], guest, part["enrol"], enrolled) == (part["secret"], enrolled.mac)


def test_connect(file: dict[str, Any]) -> None:
    secret = bytes.fromhex(file["enrolment"]["secret"])
    connect = file["connect"]
    made = schedule.connect_password(secret, WHO, connect["client_id"], connect["counter"])
    assert made == connect["password"]
    assert len(made) == 44


def test_full_session(file: dict[str, Any]) -> None:
    part, node, device = Vectors(file["full_session"]), Vectors(file["node"]), Vectors(file["device_key"])
    ask, challenge = Ask.read(part["ask"]), Challenge.read(part["challenge"])
    prove, opened = Prove.read(part["prove"]), Opened.read(part["opened"])
    for name, message in (("ask", ask), ("challenge", challenge), ("prove", prove), ("opened", opened)):
        assert message.pack() == part[name]
    assert prove.asked == hashlib.sha256(part["ask"]).digest()
    assert (prove.nonce, prove.boot, prove.suite) == (challenge.nonce, challenge.boot, challenge.suite)
    agreement.verify(
        44,
        device["public_key"],
        prove.signature,
        agreement.prove_message(WHO, prove),
        agreement.SESSION_CONTEXT,
    )
    assert XWingKey(node["kem_seed"]).open(prove.sealed, agreement.prove_info(WHO, prove)) == part["device_half"]
    info = agreement.open_info(WHO, hashlib.sha256(part["prove"]).digest())
    assert XWingKey(part["ephemeral_seed"]).open(opened.sealed, info) == part["node_half"]
    prk = schedule.extract(part["device_half"] + part["node_half"])
    digest = schedule.transcript(WHO, part["prove"], opened.body())
    assert (prk, digest) == (part["prk"], part["transcript"])
    assert schedule.confirmation(prk, digest) == opened.mac
    assert schedule.next_secret(prk, digest) == part["resumption"]
    _frames(part, prk, digest, opened.key_id)


def test_resumed_session(file: dict[str, Any]) -> None:
    part, secret = Vectors(file["resumed_session"]), bytes.fromhex(file["full_session"]["resumption"])
    resume, resumed = Resume.read(part["resume"]), Resumed.read(part["resumed"])
    assert resume.pack() == part["resume"]
    assert resume.ticket == schedule.ticket_of(secret)
    assert schedule.hello_mac(secret, WHO, resume.body(), 32) == resume.mac
    prk = schedule.extract(secret)
    digest = schedule.transcript(WHO, part["resume"], resumed.body())
    assert (prk, digest) == (part["prk"], part["transcript"])
    assert schedule.confirmation(prk, digest) == resumed.mac
    _frames(part, prk, digest, resumed.key_id)


def _frames(part: Vectors, prk: bytes, digest: bytes, key_id: int) -> None:
    up, down = schedule.rich_up(prk, digest), schedule.rich_down(prk, digest)
    assert (up.key, up.iv) == (part["up_key"], part["up_iv"])
    assert (down.key, down.iv) == (part["down_key"], part["down_iv"])
    assert Sealer(Suite.AES_256_GCM, up.key, up.iv, key_id).seal(INSIDE, UP) == part["first_frame"]
    assert Opener(Suite.AES_256_GCM, up.key, up.iv, key_id).open(part["first_frame"], UP) == INSIDE


def test_short_session(file: dict[str, Any]) -> None:
    part, who = Vectors(file["short_session"]), schedule.who("lab", "box-1", "tag-1")
    join, joined = Join.read(part["join"]), Joined.read(part["joined"])
    assert (join.pack(), joined.pack()) == (part["join"], part["joined"])
    assert schedule.hello_mac(part["root"], who, join.body(), 16) == join.mac
    prk = schedule.extract(part["root"])
    digest = schedule.transcript(who, part["join"], joined.body())
    assert schedule.confirmation(prk, digest, 16) == joined.mac
    up = schedule.short_up(prk, digest)
    assert (up.key, up.iv) == (part["up_key"], part["up_iv"])
    sealer, opener = ShortSealer(up.key, up.iv, joined.epoch), ShortOpener(up.key, up.iv, joined.epoch)
    where = topic("lab", "box-1", "tag-1", "up")
    for body, written in zip((b"21.5", b"21.6"), part.part["frames"], strict=True):
        assert sealer.seal(pack("temperature", body), where).hex() == written
        assert opener.open(bytes.fromhex(written), where) == pack("temperature", body)
    assert opener.open(part["frame_16384"], where) == INSIDE
    assert len(part["frame_16384"]) == len(INSIDE) + 13
