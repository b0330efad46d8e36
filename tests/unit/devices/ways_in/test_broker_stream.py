from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.devices.fake import FakeKeeper
from qedge.devices.ways_in.broker_stream import BrokerStream, filters
from qedge.devices.ways_in.model import PacketError
from qedge.devices.ways_in.rates import Throttles
from tests.unit.devices.ways_in.dialogue_site import DialogueSite


class StreamSite(DialogueSite):
    """What the broker says about a device `d`."""

    def __init__(self, keeper: FakeKeeper | None = None) -> None:
        super().__init__()
        self.others: list[mqtt5.Packet] = []
        self.hellos: list[tuple[str, bytes]] = []
        self.stream = BrokerStream(
            "f",
            "n",
            self.enforcement,
            Throttles(1000),
            max_packet_bytes=4096,
            write=self.outlet.write,
            hello=lambda device_id, message: not self.hellos.append((device_id, message)),
            other=self.others.append,
            between=lambda: None,
            keeper=keeper,
        )

    def publish(self, topic: str, payload: bytes, packet_id: int = 0, **more: object) -> bytes:
        qos = mqtt5.QoS(1 if packet_id else 0)
        packet = mqtt5.PublishPacket(topic, payload, qos=qos, packet_id=packet_id or None, **more)  # type: ignore[arg-type] # what a test wants of it
        return packet.write()


@given(cuts=st.lists(st.integers(1, 2000), max_size=30))
def test_readings_are_taken_in_order_however_the_stream_is_cut(cuts: list[int]) -> None:
    site = StreamSite()
    bodies = [bytes([number]) * (number * 50 % 200) for number in range(10)]
    data = b"".join(
        site.publish(
            site.device.up_topic,
            site.device.seal("t", body),
            number % 3,
            user_properties=[("k", "v" * 90)] * (number % 4),
        )
        for number, body in enumerate(bodies)
    )
    data += mqtt5.PingRespPacket().write() + site.publish(site.device.hello_topic, b"hi")
    at = 0
    for cut in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        if cut > at:
            site.stream.take(data[at:cut], 1, 1)
        at = cut
    assert site.bodies == bodies
    assert len(site.outlet.packets()) == sum(number % 3 > 0 for number in range(10))
    assert len(site.others) == 1
    assert site.hellos == [("d", b"hi")]


def test_acknowledgements_wait_until_the_keeper_says_that_all_is_safe() -> None:
    keeper = FakeKeeper()
    site = StreamSite(keeper)
    site.stream.take(site.publish(site.device.up_topic, site.device.seal("t", b"x"), 5), 1, 1)
    assert (site.bodies, site.outlet.packets()) == ([b"x"], [])
    keeper.settle()
    assert site.outlet.packets() == [b"\x40\x02\x00\x05"]


@pytest.mark.parametrize("topic", ["a", "qedge/v1/f/m/dev/d/up", "qedge/v1/f/n/dev/d/down", "qedge/v1/f/n/dev/ä/up"])
def test_topics_that_are_none_of_ours_have_no_effect(topic: str) -> None:
    site = StreamSite()
    site.stream.take(site.publish(topic, site.device.seal("t", b"x")), 1, 1)
    assert site.bodies == []
    assert site.stream.heard == set()


def test_a_reading_that_the_broker_sends_again_is_nobodys_fault() -> None:
    site = StreamSite()
    frame = site.device.seal("t", b"x")
    site.stream.take(site.publish(site.device.up_topic, frame, 5), 1, 1)
    site.stream.take(site.publish(site.device.up_topic, frame, 5, duplicate=True), 1, 1)
    assert site.bodies == [b"x"]
    assert site.enforcement.strangers.replayed == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what is left of the panic
def test_a_text_that_makes_the_codec_panic_ends_the_connection_and_no_more() -> None:
    site = StreamSite()
    with pytest.raises(PacketError):
        site.stream.take(b"\x90\x0a\x00\x01\x06\x1f\x00\x03\xff\xff\xff\x00", 1, 1)


@pytest.mark.parametrize(
    "packet", [b"\x82\x02\x00\x01", b"\x10\x00", b"\x30\x03\x00\x01a", b"\x30\x81\x80\x04", b"\x30\xff\xff\xff\xff"]
)
def test_a_broker_that_breaks_the_protocol_is_left(packet: bytes) -> None:
    with pytest.raises(PacketError):
        StreamSite().stream.take(packet, 1, 1)


def test_the_intake_asks_for_what_devices_of_its_own_node_say() -> None:
    assert filters("f", "n") == ["qedge/v1/f/n/dev/+/up", "qedge/v1/f/n/dev/+/hello"]
