from __future__ import annotations

import mqtt5
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qedge.devices.fake import FakeKeeper
from qedge.devices.ways_in.hearing import MAX_IN_FLIGHT
from qedge.devices.ways_in.reception import State
from qedge.security.model import Evidence, Reason
from tests.unit.devices.ways_in.clients import mqtt5_connect, paho_connect, paho_subscribe, publish_311
from tests.unit.devices.ways_in.dialogue_site import SECOND, DialogueSite

CONNECT = paho_connect("c", "d", "of d")
ACCEPTED = b"\x20\x02\x00\x00"


def connected(*, keeper: FakeKeeper | None = None, rate: float = 1000.0) -> DialogueSite:
    site = DialogueSite(keeper=keeper, rate=rate)
    site.take(CONNECT)
    assert site.outlet.packets() == [ACCEPTED]
    return site


def reading(site: DialogueSite, body: bytes, **more: int) -> bytes:
    return publish_311(site.device.up_topic, site.device.seal("t", body), **more)


def test_readings_are_taken_at_both_qualities_of_service() -> None:
    site = connected()
    site.take(reading(site, b"0"))
    site.take(reading(site, b"1", qos=1, packet_id=7))
    assert site.bodies == [b"0", b"1"]
    assert site.outlet.packets() == [b"\x40\x02\x00\x07"]


def test_all_that_came_in_one_read_is_acknowledged_in_one_write_and_in_order() -> None:
    site = connected()
    packets = [reading(site, bytes([number]), qos=1, packet_id=number) for number in range(1, 6)]
    packets.insert(2, publish_311(site.device.hello_topic, b"hi", qos=1, packet_id=99))
    site.take(b"".join(packets))
    assert site.bodies == [bytes([number]) for number in range(1, 6)]
    assert [int.from_bytes(each[2:], "big") for each in site.outlet.packets()] == [1, 2, 99, 3, 4, 5]
    assert site.reception.hellos == [("d", b"hi")]


@given(cuts=st.lists(st.integers(1, 700), max_size=30), version=st.sampled_from([4, 5]))
@example(cuts=[63, 355], version=5)  # one packet cut in its middle, a later one in its length
def test_the_way_in_which_bytes_are_cut_into_reads_changes_nothing(cuts: list[int], version: int) -> None:
    site = DialogueSite()
    bodies = [bytes([number]) * (number * 37 % 190) for number in range(8)]
    if version == 4:
        stream = CONNECT + b"".join(
            reading(site, body, qos=number % 2, packet_id=number) for number, body in enumerate(bodies)
        )
    else:
        stream = mqtt5_connect("c", "d", b"of d") + b"".join(
            mqtt5.PublishPacket(
                site.device.up_topic,
                site.device.seal("t", body),
                qos=mqtt5.QoS(number % 2),
                packet_id=number if number % 2 else None,
                user_properties=[("a", "b")] * (number % 3),
            ).write()
            for number, body in enumerate(bodies)
        )
    stream += b"\xc0\x00"
    at = 0
    for cut in sorted({min(cut * 3, len(stream)) for cut in cuts} | {len(stream)}):
        if cut > at:
            site.take(stream[at:cut])
        at = cut
    assert site.bodies == bodies
    assert site.outlet.packets()[-1] == b"\xd0\x00"
    assert site.outlet.closed == ""


def test_bytes_one_at_a_time_are_as_good_as_all_at_once() -> None:
    site = DialogueSite()
    for byte in CONNECT + reading(site, b"x" * 150, qos=1, packet_id=3):
        site.take(bytes([byte]))
    assert site.bodies == [b"x" * 150]


def test_what_follows_a_connect_waits_for_the_answer_about_it() -> None:
    site = DialogueSite()
    site.reception.slow = True
    site.take(CONNECT + reading(site, b"early"))
    assert site.bodies == []
    assert site.outlet.held[-1] > 1
    site.reception.let_in()
    assert site.bodies == [b"early"]
    assert site.outlet.held[-1] == 0


def test_qos_1_is_acknowledged_once_it_is_safe() -> None:
    keeper = FakeKeeper()
    site = connected(keeper=keeper)
    site.take(reading(site, b"x", qos=1, packet_id=7))
    assert site.bodies == [b"x"]
    assert site.outlet.packets() == []
    keeper.settle()
    assert site.outlet.packets() == [b"\x40\x02\x00\x07"]


def test_a_message_that_was_not_taken_is_told_to_clients_of_mqtt_5() -> None:
    site = DialogueSite()
    site.take(mqtt5_connect("c", "d", b"of d"))
    list(site.outlet.read5())
    site.judge.denied["t"] = Reason.TRUST
    packet = mqtt5.PublishPacket(
        site.device.up_topic, site.device.seal("t", b"x"), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=4
    )
    site.take(packet.write())
    (answer,) = site.outlet.read5()
    assert isinstance(answer, mqtt5.PubAckPacket)
    assert int(answer.reason_code) == 0x87


def test_a_device_without_a_session_is_sent_away_to_make_one() -> None:
    site = connected()
    site.book.close("d")
    site.take(reading(site, b"x"))
    assert site.outlet.closed == "no_session"
    assert site.enforcement.tallies.get("d") is None


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"\xf0\x00", "unexpected"),
        (b"\x20\x02\x00\x00", "unexpected"),
        (b"\x62\x02\x00\x01", "unexpected"),
        (CONNECT, "unexpected"),
        (b"\x00\x00", "bad_packet"),
        (b"\x30\xff\xff\xff\xff", "bad_length"),
        (b"\x30\x81\x80\x04", "too_large"),
        (b"\x34\x07\x00\x01a\x00\x01xx", "qos_2"),
        (b"\x40\x02\x00\x05", "bad_packet_id"),
        (b"\xc1\x00", "bad_flags"),
        (b"\x82\x02\x00\x01", "bad_filter"),
        (b"\x80\x06\x00\x01\x00\x01a\x00", "bad_flags"),
    ],
)
def test_a_device_that_breaks_the_protocol_is_closed_and_it_counts(packet: bytes, reason: str) -> None:
    site = connected()
    site.take(packet)
    assert site.outlet.closed == reason
    assert site.dialogue.state is State.CLOSED
    assert site.witness.oddities == [("d", Evidence.MALFORMED)]


def test_a_client_of_mqtt_5_is_told_why_it_is_closed() -> None:
    site = DialogueSite()
    site.take(mqtt5_connect("c", "d", b"of d"))
    list(site.outlet.read5())
    site.take(b"\x30\xff\xff\x7f")
    (answer,) = site.outlet.read5()
    assert isinstance(answer, mqtt5.DisconnectPacket)
    assert answer.reason_code == mqtt5.DisconnectReasonCode.PACKET_TOO_LARGE


@pytest.mark.parametrize(
    "start", [b"\x30\x05\x00\x01axx", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03"]
)
def test_what_begins_with_anything_but_a_connect_is_closed_at_once(start: bytes) -> None:
    site = DialogueSite()
    site.take(start)
    assert site.outlet.closed
    assert site.outlet.packets() == []
    assert site.reception.num_offended == 1


def test_nothing_of_a_packet_that_is_too_large_is_kept() -> None:
    site = DialogueSite()
    site.take(b"\x10\xff\xff\xff\x7f" + b"x" * 100)
    assert site.outlet.closed == "too_large"
    assert site.dialogue._rest is None


def test_subscriptions_are_granted_to_the_own_topics_and_what_policy_permits() -> None:
    site = connected()
    site.audience.open_topics.add("qedge/v1/f/n/seg/s")
    wanted = [site.device.down_topic, site.device.welcome_topic, "qedge/v1/f/n/seg/s"]
    others = [
        "#",
        "$SYS/#",
        "+/+/keys",
        "qedge/v1/f/n/dev/e/down",
        site.device.up_topic,
        "$share/g/a",
        "qedge/v1/f/n/seg/x",
    ]
    site.take(paho_subscribe([(topic, 2) for topic in wanted + others]))
    (answer,) = site.outlet.packets()
    assert list(answer[4:]) == [1] * 3 + [0x80] * 7
    assert site.audience.members == {("d", "qedge/v1/f/n/seg/s")}
    assert site.witness.oddities == [("d", Evidence.TOPIC_SPREAD)] * 7
    site.dialogue.lost(site.now_ns, 0)
    assert site.audience.members == set()


def test_where_there_are_no_segments_a_device_listens_to_its_own_topics_alone() -> None:
    site = DialogueSite()
    site.rules.audience = None
    site.take(CONNECT)
    site.outlet.packets()
    site.take(paho_subscribe([(site.device.down_topic, 1), ("qedge/v1/f/n/seg/s", 1), ("qedge/v1/f/n/dev/e/down", 1)]))
    (answer,) = site.outlet.packets()
    assert list(answer[4:]) == [1, 0x80, 0x80]


def test_messages_to_a_device_keep_to_its_window_and_a_full_queue_refuses() -> None:
    site = connected()
    site.take(paho_subscribe([(site.device.down_topic, 1)]))
    site.outlet.packets()
    sent = [site.dialogue.send(site.device.down_topic, b"x") for _ in range(MAX_IN_FLIGHT + 6)]
    assert sent == [True] * (MAX_IN_FLIGHT + 4) + [False] * 2
    assert len(site.outlet.packets()) == MAX_IN_FLIGHT
    for packet_id in range(1, 5):
        site.take(b"\x40\x02" + packet_id.to_bytes(2, "big"))
    assert len(site.outlet.packets()) == 4
    assert site.dialogue.send(site.device.down_topic, b"x")


def test_a_device_hears_nothing_that_it_does_not_listen_to() -> None:
    site = connected()
    assert not site.dialogue.send(site.device.down_topic, b"x")
    site.take(paho_subscribe([(site.device.down_topic, 0)]))
    assert site.dialogue.send(site.device.down_topic, b"x")
    assert not site.dialogue.send(site.device.welcome_topic, b"x")
    name = site.device.down_topic.encode()
    site.take(b"\xa2" + bytes([len(name) + 4]) + b"\x00\x09" + bytes([0, len(name)]) + name)
    assert not site.dialogue.send(site.device.down_topic, b"x")


def test_a_reader_that_takes_nothing_makes_sending_fail() -> None:
    site = connected()
    site.take(paho_subscribe([(site.device.down_topic, 1)]))
    site.outlet.full = True
    assert not site.dialogue.send(site.device.down_topic, b"x")


def test_a_message_larger_than_a_client_takes_is_not_sent() -> None:
    site = DialogueSite()
    site.take(mqtt5_connect("c", "d", b"of d", max_packet_size=100))
    site.take(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(site.device.down_topic)]).write())
    assert site.dialogue.send(site.device.down_topic, b"x")
    assert not site.dialogue.send(site.device.down_topic, b"x" * 100)


def test_a_device_that_sends_too_fast_has_to_wait() -> None:
    site = connected(rate=10)
    for _ in range(12):
        site.take(reading(site, b"x"))
    assert len(site.bodies) == 12
    assert site.outlet.held[-1] == pytest.approx(0.3)  # the CONNECT counted too
    assert site.enforcement.tallies["d"].throttled > 0


def test_a_will_is_published_when_a_connection_breaks_and_not_after_a_farewell() -> None:
    for farewell, expected in ((b"", [b"gone"]), (b"\xe0\x00", [])):
        site = DialogueSite()
        site.take(paho_connect("c", "d", "of d", will=(site.device.up_topic, site.device.seal("status", b"gone"))))
        for _ in range(2000):
            site.device.seal("t", b"")  # the frame of the will is long out of the window by then
        site.take(reading(site, b"x") + farewell)
        site.dialogue.lost(site.now_ns, 0)
        site.dialogue.lost(site.now_ns, 0)
        assert site.bodies == [b"x", *expected]


def test_a_will_is_published_only_if_policy_permits_it_then() -> None:
    site = DialogueSite()
    site.take(paho_connect("c", "d", "of d", will=(site.device.up_topic, site.device.seal("status", b"gone"))))
    site.doorman.subjects["d"].quarantined = True
    site.dialogue.lost(site.now_ns, 0)
    assert site.bodies == []


def test_a_will_on_a_topic_of_another_device_is_refused() -> None:
    site = DialogueSite()
    site.take(paho_connect("c", "d", "of d", will=("qedge/v1/f/n/dev/e/up", b"x")))
    assert site.outlet.closed == "foreign_will"
    assert site.outlet.packets() == [b"\x20\x02\x00\x05"]


def test_silence_is_bounded_by_what_the_client_promised_and_by_the_limit() -> None:
    for promised, expected in ((60, 90), (0, 900), (65_535, 900)):
        site = DialogueSite()
        site.take(mqtt5_connect("c", "d", b"of d", keep_alive=promised))
        (answer,) = site.outlet.read5()
        assert isinstance(answer, mqtt5.ConnAckPacket)
        assert answer.server_keep_alive == (None if promised == 60 else 600)
        assert site.dialogue.silence_ns == expected * SECOND


def test_bytes_that_make_no_packet_do_not_count_as_a_sign_of_life() -> None:
    site = connected()
    heard_ns = site.dialogue.heard_ns
    site.now_ns += SECOND
    site.take(reading(site, b"x" * 100)[:-1])
    assert site.dialogue.heard_ns == heard_ns


@given(data=st.binary(min_size=1, max_size=300), is_connected=st.booleans())
def test_garbage_ends_in_a_closed_connection_or_in_waiting_for_more_and_never_in_an_exception(
    data: bytes, is_connected: bool
) -> None:
    site = connected() if is_connected else DialogueSite()
    site.take(data)
    assert len(site.dialogue._rest or b"") <= 4096 + 5
    assert site.bodies == []
