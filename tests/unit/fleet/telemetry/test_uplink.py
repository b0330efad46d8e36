"""Telemetry on the bus is signed by its node, for its topic, and can be read as the guide shows."""

from __future__ import annotations

import msgspec
import pytest

from qedge.base.clock import ManualClock
from qedge.base.errors import QedgeError
from qedge.crypto.signed import open_signed, sign_envelope
from qedge.fleet.telemetry.service import MAX_MESSAGE_BYTES
from qedge.fleet.telemetry.uplink import BusTelemetry
from qedge.wire.envelope import MAX_BYTES, Header
from qedge.wire.telemetry import MAX_ITEMS, TelemetryBatch, TelemetryClass, TelemetryEvent, TelemetryItem
from tests.integration.fleet_site import ThrowAwayFleet


class FakeBus:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.connected = True
        self.published: list[tuple[str, bytes, int]] = []

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, expiry_s: int = 0, deadline_s: float = 10.0
    ) -> None:
        assert not retain
        self.published.append((topic, payload, qos))


def batch(number: int, text: str = "x") -> TelemetryBatch:
    items = tuple(TelemetryItem(n, 1, TelemetryEvent("e", "s", text), True) for n in range(1, number + 1))
    return TelemetryBatch("0123456789abcdef", TelemetryClass.EVENT, items)


async def test_a_batch_is_signed_by_the_node_and_bound_to_its_topic() -> None:
    fleet, bus, clock = ThrowAwayFleet("f"), FakeBus(), ManualClock()
    clock = ManualClock(0, fleet.utc_ns + 10**9)
    key, chain = fleet.member("box-1")

    async def sign(header: Header, body: msgspec.Struct) -> bytes:
        return sign_envelope(header, body, key, chain)

    uplink = BusTelemetry("f", "box-1", bus, sign, clock=clock)
    assert uplink.is_up
    await uplink.send(batch(3))
    await uplink.send(batch(1))
    [(topic, first, qos), (_, second, _)] = bus.published
    assert (topic, qos) == ("qedge/v1/f/box-1/telemetry/event", 1)
    header, found, member = open_signed(first, topic, TelemetryBatch, fleet.trust(), clock.utc_ns())
    assert (header.sender, member.subject.name, found) == ("box-1", "box-1", batch(3))
    assert open_signed(second, topic, TelemetryBatch, fleet.trust(), clock.utc_ns())[0].sequence == header.sequence + 1
    with pytest.raises(QedgeError):
        open_signed(first, topic.replace("event", "alarm"), TelemetryBatch, fleet.trust(), clock.utc_ns())
    with pytest.raises(QedgeError):
        open_signed(first[:-1] + bytes([first[-1] ^ 1]), topic, TelemetryBatch, fleet.trust(), clock.utc_ns())


async def test_the_largest_message_of_the_spool_fits_into_an_envelope() -> None:
    fleet = ThrowAwayFleet("f", level=5)
    key, chain = fleet.member("box-1")
    text = "x" * 200
    most = min(MAX_ITEMS, MAX_MESSAGE_BYTES // (len(msgspec.msgpack.encode(TelemetryEvent("e", "s", text))) + 96))
    header = Header("qedge/v1/f/box-1/telemetry/event", "box-1", 1, "telemetry/1", 1)
    assert len(sign_envelope(header, batch(most, text), key, chain)) < MAX_BYTES // 2
