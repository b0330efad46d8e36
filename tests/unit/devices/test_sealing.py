"""What goes upstream can be read by its recipient alone, and is believed because a node signed it."""

from __future__ import annotations

import os
import time

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.crypto.signed import sign_envelope
from qedge.devices.onward.sealing import OnwardOpener, OnwardSealer, new_recipient, read_recipient
from qedge.devices.onward.uplink import BusUplink
from qedge.wire.envelope import Header
from qedge.wire.segments import OnwardReading, OnwardReadings
from qedge.wire.topics import Channel, topic
from tests.integration.fleet_site import ThrowAwayFleet

READINGS = OnwardReadings((OnwardReading("d1", 1, "plant", "level", 5, b"7.5"),))


class KeptBus:
    connected = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, deadline_s: float = 1
    ) -> None:
        assert (qos, retain) == (1, False)
        self.sent.append((topic, payload))


async def test_the_recipient_opens_what_a_node_of_the_fleet_sends_and_nobody_else_does() -> None:
    fleet, bus = ThrowAwayFleet(), KeptBus()
    key, chain = fleet.member("box-1")

    async def sign(header: Header, body: msgspec.Struct) -> bytes:
        return sign_envelope(header, body, key, chain)

    secret, public = new_recipient(os.urandom)
    sealer = OnwardSealer("fleet", "box-1", read_recipient(public))
    uplink = BusUplink("fleet", "box-1", bus, sealer, sign, clock=ManualClock(utc_ns=time.time_ns()))
    assert uplink.is_up
    await uplink.send(READINGS)
    where, data = bus.sent[0]
    assert where == topic("fleet", "box-1", Channel.ONWARD)
    assert b"7.5" not in data
    assert OnwardOpener(secret).open(data, where, fleet.trust(), time.time_ns()) == ("box-1", READINGS)
    with pytest.raises(QedgeError, match="another recipient"):
        OnwardOpener(new_recipient(os.urandom)[0]).open(data, where, fleet.trust(), time.time_ns())
    with pytest.raises(QedgeError, match="another topic"):
        OnwardOpener(secret).open(data, where + "x", fleet.trust(), time.time_ns())
    with pytest.raises(QedgeError):
        OnwardOpener(secret).open(data, where, ThrowAwayFleet().trust(), time.time_ns())


def test_what_was_sealed_by_one_node_does_not_open_as_that_of_another() -> None:
    secret, public = new_recipient(os.urandom)
    sealed = OnwardSealer("fleet", "box-1", read_recipient(public)).seal(READINGS)
    opener = OnwardOpener(secret)
    assert opener.open_sealed(sealed, "fleet", "box-1") == READINGS
    for fleet, node in (("fleet", "box-2"), ("other", "box-1")):
        with pytest.raises(QedgeError, match="does not open"):
            opener.open_sealed(sealed, fleet, node)
    changed = msgspec.structs.replace(sealed, sealed=sealed.sealed[:-1] + bytes([sealed.sealed[-1] ^ 1]))
    with pytest.raises(QedgeError, match="does not open"):
        opener.open_sealed(changed, "fleet", "box-1")
    with pytest.raises(QedgeError, match="does not open"):
        opener.open_sealed(msgspec.structs.replace(sealed, sealed=b""), "fleet", "box-1")


@pytest.mark.parametrize("text", ["", "qedge-upstream-public/1", "qedge-upstream-public/1 !!", "other/1 AAAA"])
def test_a_file_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(QedgeError) as refused:
        read_recipient(text)
    assert refused.value.code == "config.unreadable"
    with pytest.raises(QedgeError):
        OnwardOpener(text)
