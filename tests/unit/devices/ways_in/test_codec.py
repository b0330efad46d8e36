from __future__ import annotations

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qedge.devices.ways_in import codec
from qedge.devices.ways_in.model import Code, Connect, PacketError, Publish, Will
from tests.unit.devices.ways_in.clients import (
    mqtt5_connect,
    paho_connect,
    paho_publish,
    paho_subscribe,
    publish_311,
    split,
    varint,
)

LEVEL = st.text("abcXYZ019_-", min_size=1, max_size=12)
TOPIC = st.lists(LEVEL, min_size=1, max_size=8).map("/".join)
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
PACKET_ID = st.integers(1, 65_535)


def parse_connect(packet: bytes) -> Connect:
    return codec.parse_connect(*split(packet))


@given(
    client=TEXT,
    username=TEXT.filter(bool),
    password=st.text("abc123", max_size=40),
    payload=st.binary(max_size=200),
    topic=TOPIC,
)
def test_a_connect_of_paho_is_read_as_it_was_meant(
    client: str, username: str, password: str, payload: bytes, topic: str
) -> None:
    read = parse_connect(paho_connect(client, username, password, will=(topic, payload)))
    assert read == Connect(4, client, username, password.encode(), 60, Will(topic, payload, 1))


@given(
    client=TEXT,
    username=TEXT.filter(bool),
    password=st.binary(min_size=1, max_size=64),
    keep_alive=st.integers(0, 65_535),
    receive=st.integers(1, 65_534),
    size=st.integers(1, 2**32 - 1),
    user=st.lists(st.tuples(TEXT, TEXT), max_size=4),
    delay=st.integers(0, 1000),
)
def test_a_connect_of_the_mqtt5_codec_is_read_as_it_was_meant(
    client: str,
    username: str,
    password: bytes,
    keep_alive: int,
    receive: int,
    size: int,
    user: list[tuple[str, str]],
    delay: int,
) -> None:
    will = mqtt5.Will(
        "a/b", payload=b"gone", qos=mqtt5.QoS.AT_LEAST_ONCE, will_delay_interval=delay, user_properties=user
    )
    packet = mqtt5_connect(
        client, username, password, keep_alive=keep_alive, receive_max=receive, max_packet_size=size,
        session_expiry_interval=delay, user_properties=user, will=will,
    )  # fmt: skip
    assert parse_connect(packet) == Connect(
        5, client, username, password, keep_alive, Will("a/b", b"gone", 1), receive, size
    )


@given(
    topic=TOPIC, payload=st.binary(max_size=400), qos=st.sampled_from([0, 1]), packet_id=PACKET_ID, again=st.booleans()
)
def test_a_publish_of_paho_is_read_as_it_was_meant(
    topic: str, payload: bytes, qos: int, packet_id: int, again: bool
) -> None:
    again = again and qos > 0
    flags, body = split(paho_publish(topic, payload, qos, packet_id, again))
    assert codec.parse_publish(flags, body, 4) == Publish(topic, payload, qos, packet_id if qos else 0, again, False)


@given(
    topic=TOPIC,
    payload=st.binary(max_size=400),
    qos=st.sampled_from([0, 1]),
    packet_id=PACKET_ID,
    again=st.booleans(),
    text=TEXT,
)
def test_a_publish_of_the_mqtt5_codec_is_read_as_it_was_meant(
    topic: str, payload: bytes, qos: int, packet_id: int, again: bool, text: str
) -> None:
    packet = mqtt5.PublishPacket(
        topic, payload, qos=mqtt5.QoS(qos), packet_id=packet_id if qos else None, duplicate=again and qos > 0,
        content_type=text, correlation_data=payload[:20], message_expiry_interval=7, user_properties=[(text, text)],
    )  # fmt: skip
    flags, body = split(packet.write())
    assert codec.parse_publish(flags, body, 5) == Publish(
        topic, payload, qos, packet_id if qos else 0, again and qos > 0, False
    )


@given(topics=st.lists(st.tuples(TOPIC, st.integers(0, 2)), min_size=1, max_size=codec.MAX_FILTERS))
def test_subscriptions_of_paho_and_of_the_mqtt5_codec_are_read_alike(topics: list[tuple[str, int]]) -> None:
    flags, body = split(paho_subscribe(topics))
    assert codec.parse_subscribe(flags, body, 4).filters == tuple(topics)
    filters = [mqtt5.TopicFilter(topic, max_qos=mqtt5.QoS(qos)) for topic, qos in topics]
    flags, body = split(mqtt5.SubscribePacket(7, filters).write())
    read = codec.parse_subscribe(flags, body, 5)
    assert (read.packet_id, read.filters) == (7, tuple(topics))
    flags, body = split(mqtt5.UnsubscribePacket(8, [topic for topic, _ in topics]).write())
    assert codec.parse_unsubscribe(flags, body, 5).filters == tuple(topic for topic, _ in topics)


@given(topic=TOPIC, payload=st.binary(max_size=300), packet_id=st.integers(0, 65_535))
def test_what_is_written_is_read_by_the_mqtt5_codec(topic: str, payload: bytes, packet_id: int) -> None:
    read, size = mqtt5.read(memoryview(packet := codec.publish(topic.encode(), payload, 5, packet_id)))
    assert isinstance(read, mqtt5.PublishPacket)
    assert (read.topic, read.payload, read.packet_id or 0, size) == (topic, payload, packet_id, len(packet))


def test_all_other_answers_are_read_by_the_mqtt5_codec() -> None:
    told = codec.connack_properties(
        receive_maximum=9, max_packet_bytes=999, keep_alive_s=77, client_id="x", session_expiry=True
    )
    read, _ = mqtt5.read(memoryview(codec.connack(5, Code.SUCCESS, properties=told)))
    assert isinstance(read, mqtt5.ConnAckPacket)
    assert (read.receive_max, read.max_packet_size, read.server_keep_alive, read.assigned_client_id) == (
        9,
        999,
        77,
        "x",
    )
    assert (read.max_qos, read.retain_available, read.shared_subscription_available) == (1, False, False)
    assert (read.wildcard_subscription_available, read.subscription_id_available) == (False, False)
    for packet in (
        *(codec.connack(5, code) for code in (Code.NOT_AUTHORIZED, Code.SERVER_BUSY, Code.NO_QOS_2)),
        *(codec.puback(3, 5, code) for code in (Code.SUCCESS, Code.NOT_AUTHORIZED, Code.BAD_PAYLOAD, Code.UNSPECIFIED)),
        codec.suback(4, 5, [0, 1, 0x87, 0x9E, 0xA2]),
        codec.unsuback(5, 5, [0, 0x11]),
        *(codec.disconnect(code) for code in (Code.TAKEN_OVER, Code.KEEP_ALIVE, Code.MALFORMED, Code.TOO_LARGE)),
        codec.PINGRESP,
    ):
        assert mqtt5.read(memoryview(packet))[1] == len(packet)


@pytest.mark.parametrize(
    ("packet", "reason", "answer"),
    [
        (b"\x10\x10\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x02ab", "not_mqtt", b"\x20\x02\x00\x01"),
        (b"\x10\x0c\x00\x04MQTT\x03\x02\x00\x3c\x00\x00", "bad_version", b"\x20\x02\x00\x01"),
        (b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x00", "bad_version", b"\x20\x03\x00\x84\x00"),
        (b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00", "bad_flags", b""),
        (b"\x10\x0c\x00\x04MQTT\x04\x42\x00\x3c\x00\x00", "bad_flags", b""),
        (b"\x10\x0c\x00\x04MQTT\x04\x1e\x00\x3c\x00\x00", "bad_flags", b""),
        (b"\x11\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "bad_flags", b""),
        (b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x00x", "trailing_bytes", b""),
        (b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x05", "truncated", b""),
        (b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02\xff\xfe", "bad_text", b""),
        (b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\0", "bad_text", b""),
        (b"\x10\x04HTTP", "not_mqtt", b""),
    ],
)
def test_a_connect_that_cannot_be_is_refused_with_its_reason(packet: bytes, reason: str, answer: bytes) -> None:
    with pytest.raises(PacketError) as error:
        parse_connect(packet)
    assert (error.value.reason, error.value.answer) == (reason, answer)


def test_lengths_of_names_passwords_and_properties_have_bounds() -> None:
    for packet in (
        paho_connect("x" * 129),
        paho_connect("x", "u" * 129, "p"),
        paho_connect("x", "u", "p" * 4097),
        mqtt5_connect("x", user_properties=[("a", "b")] * 17),
        mqtt5_connect("x", user_properties=[("a", "b" * 4096)]),
    ):
        with pytest.raises(PacketError) as error:
            parse_connect(packet)
        assert error.value.reason == "too_long"


@pytest.mark.parametrize(
    ("flags", "body", "reason"),
    [
        (0x06, b"\x00\x01a", "bad_flags"),
        (0x04, b"\x00\x01a\x00\x01", "qos_2"),
        (0x08, b"\x00\x01a", "bad_flags"),
        (0x02, b"\x00\x01a\x00\x00", "bad_packet_id"),
        (0x02, b"\x00\x01a\x00", "truncated"),
        (0x00, b"\x00\x05a", "truncated"),
        (0x00, b"\x00\x00", "bad_topic"),
        (0x00, b"\x00\x03a/#", "bad_topic"),
        (0x00, b"\x00\x04a/..", "bad_topic"),
        (0x00, b"\x00\x03a\0b", "bad_text"),
        (0x00, b"\x00\x04a\xef\xbb\xbf", "bad_topic"),
        (0x00, b"\x02\x02" + b"a" * 514, "too_long"),
    ],
)
def test_a_publish_that_cannot_be_is_refused_with_its_reason(flags: int, body: bytes, reason: str) -> None:
    with pytest.raises(PacketError) as error:
        codec.parse_publish(flags, body, 4)
    assert error.value.reason == reason


def test_properties_that_a_packet_may_not_have_or_has_twice_are_refused() -> None:
    for properties in (b"\x21\x00\x01", b"\x01\x00\x01\x00", b"\x23\x00\x01", b"\x7f", b"\x02\x00"):
        with pytest.raises(PacketError):
            codec.parse_publish(0, b"\x00\x01a" + bytes([len(properties)]) + properties, 5)


@given(st.integers(0, 268_435_455))
def test_length_fields_are_read_as_they_were_written(size: int) -> None:
    packet = b"\x30" + codec.write_variable(size)
    assert packet[1:] == varint(size)
    assert codec.parse_length(packet, 0, len(packet)) == (size, len(packet))
    assert codec.parse_length(packet, 0, len(packet) - 1) == (-1, 0)


def test_a_length_field_of_five_bytes_is_refused() -> None:
    with pytest.raises(PacketError):
        codec.parse_length(b"\x30\xff\xff\xff\xff\x01", 0, 6)


@given(kind=st.integers(0, 255), body=st.binary(max_size=300), version=st.sampled_from([4, 5]))
def test_bytes_of_any_kind_are_read_or_refused_and_nothing_else(kind: int, body: bytes, version: int) -> None:
    flags = kind & 0x0F
    for parse in (
        codec.parse_publish,
        codec.parse_subscribe,
        codec.parse_unsubscribe,
        codec.parse_puback,
        codec.parse_disconnect,
    ):
        try:
            parse(flags, body, version)
        except PacketError as error:
            assert error.reason
    try:
        codec.parse_connect(flags, b"\x00\x04MQTT" + bytes([version]) + body)
    except PacketError as error:
        assert error.reason


def test_the_quick_way_and_the_whole_parser_agree_about_a_publish_by_hand() -> None:
    packet = publish_311("a/b", b"x" * 200, qos=1, packet_id=9, flags=8)
    assert codec.parse_publish(*split(packet), 4) == Publish("a/b", b"x" * 200, 1, 9, True, False)
