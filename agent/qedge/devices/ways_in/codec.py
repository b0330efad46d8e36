"""MQTT 3.1.1 and 5 as a server reads and writes them: bytes in, structs out, no sockets.

Bodies are what follows the fixed header. Every `parse_*` raises `PacketError` for what the protocol forbids, takes time
in proportion to the body, and keeps nothing of it. Sections in brackets are those of MQTT 5 (OASIS, 2019).
"""

from __future__ import annotations

import re
from typing import Final

from qedge.devices.ways_in.model import (
    MQTT_3_1_1,
    MQTT_5,
    Code,
    Connect,
    Packet,
    PacketError,
    Publish,
    Subscribe,
    Unsubscribe,
    Will,
)
from qedge.devices.ways_in.properties import (
    AUTHENTICATION_METHOD,
    MAXIMUM_PACKET_SIZE,
    OF_ACKNOWLEDGEMENT,
    OF_CONNECT,
    OF_DISCONNECT,
    OF_PUBLISH,
    OF_SUBSCRIBE,
    OF_UNSUBSCRIBE,
    OF_WILL,
    RECEIVE_MAXIMUM,
    SUBSCRIPTION_ID,
    TOPIC_ALIAS,
    read_binary,
    read_properties,
    read_text,
    read_two,
)

MAX_CONNECT_BYTES: Final = 16 * 1024
"""Largest packet before it is known who sends it; a will has to fit."""

MAX_TOPIC_BYTES: Final = 512
MAX_ID_BYTES: Final = 128
MAX_PASSWORD_BYTES: Final = 4096
MAX_FILTERS: Final = 16
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,7}")

PINGRESP: Final = b"\xd0\x00"
_REFUSED_3_1_1: Final = {
    Code.UNSUPPORTED_VERSION: 1,
    Code.BAD_CLIENT_ID: 2,
    Code.SERVER_BUSY: 3,
    Code.SHUTTING_DOWN: 3,
    Code.NOT_AUTHORIZED: 5,
}
"""Return codes of CONNACK in 3.1.1 (§3.2.2.3 there); what has none is closed without an answer."""


def is_topic(text: str) -> bool:
    """Say whether a device may name a topic at all: at most 8 levels of letters, digits, `_` and `-`."""
    return _TOPIC.fullmatch(text) is not None


def parse_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read the remaining length of the packet at `at`; returns (-1, 0) where more bytes are needed (§2.1.4)."""
    value, shift = 0, 0
    for place in range(at + 1, at + 5):
        if place >= end:
            return -1, 0
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise PacketError("bad_length")


def parse_connect(flags: int, body: bytes) -> Connect:
    """Read a CONNECT (§3.1)."""
    end = len(body)
    if flags:
        raise PacketError("bad_flags")
    if not body.startswith(b"\x00\x04MQTT"):
        raise PacketError("not_mqtt", Code.UNSUPPORTED_VERSION, _old_client(body))
    if end < 10:
        raise PacketError("truncated")
    version, bits = body[6], body[7]
    if version not in (MQTT_3_1_1, MQTT_5):
        answer = connack(MQTT_5 if version > MQTT_5 else MQTT_3_1_1, Code.UNSUPPORTED_VERSION)
        raise PacketError("bad_version", Code.UNSUPPORTED_VERSION, answer)
    has_will, will_qos = bool(bits & 0x04), bits >> 3 & 3
    if bits & 0x01 or will_qos == 3 or (not has_will and bits & 0x38):
        raise PacketError("bad_flags")
    if version == MQTT_3_1_1 and bits & 0x40 and not bits & 0x80:
        raise PacketError("bad_flags")  # a password without a user name (3.1.1, §3.1.2.9)
    keep_alive_s, at = read_two(body, 8, end)
    receive_maximum, max_packet_bytes = 65_535, 0
    if version == MQTT_5:
        found, at = read_properties(body, at, end, OF_CONNECT)
        receive_maximum = found.get(RECEIVE_MAXIMUM, 65_535)
        max_packet_bytes = found.get(MAXIMUM_PACKET_SIZE, 0)
        if receive_maximum == 0 or (MAXIMUM_PACKET_SIZE in found and max_packet_bytes == 0):
            raise PacketError("bad_property", Code.PROTOCOL_ERROR, connack(version, Code.PROTOCOL_ERROR))
        if AUTHENTICATION_METHOD in found:
            raise PacketError("bad_method", Code.BAD_METHOD, connack(version, Code.BAD_METHOD))
    client_id, at = read_text(body, at, end, MAX_ID_BYTES)
    will = None
    if has_will:
        will, at = _parse_will(body, at, end, version, will_qos)
    username, password = "", b""
    if bits & 0x80:
        username, at = read_text(body, at, end, MAX_ID_BYTES)
    if bits & 0x40:
        password, at = read_binary(body, at, end, MAX_PASSWORD_BYTES)
    if at != end:
        raise PacketError("trailing_bytes")
    if will is not None and version == MQTT_5 and will.qos == 2:
        raise PacketError("qos_2", Code.NO_QOS_2, connack(version, Code.NO_QOS_2))
    if will is not None and bits & 0x20:
        raise PacketError("retain", Code.NO_RETAIN, connack(version, Code.NO_RETAIN))
    return Connect(version, client_id, username, password, keep_alive_s, will, receive_maximum, max_packet_bytes)


def parse_publish(flags: int, body: bytes, version: int) -> Publish:
    """Read a PUBLISH (§3.3); QoS 2, retained messages and topic aliases are refused, as the CONNACK says."""
    end = len(body)
    qos = flags >> 1 & 3
    if qos == 3 or (qos == 0 and flags & 0x08):
        raise PacketError("bad_flags")
    if qos == 2:
        raise PacketError("qos_2", Code.NO_QOS_2)
    topic, at = read_text(body, 0, end, MAX_TOPIC_BYTES)
    packet_id = 0
    if qos:
        packet_id, at = read_two(body, at, end)
        if packet_id == 0:
            raise PacketError("bad_packet_id", Code.PROTOCOL_ERROR)
    if version == MQTT_5:
        found, at = read_properties(body, at, end, OF_PUBLISH)
        if TOPIC_ALIAS in found:
            raise PacketError("topic_alias", Code.TOPIC_ALIAS)
    if not is_topic(topic):
        raise PacketError("bad_topic", Code.BAD_TOPIC)
    return Publish(topic, body[at:], qos, packet_id, bool(flags & 0x08), bool(flags & 0x01))


def skip_publish_properties(body: bytes, at: int, end: int) -> int:
    """Return the place after the properties of a PUBLISH at `at`; raises `PacketError`."""
    found, at = read_properties(body, at, end, OF_PUBLISH)
    if TOPIC_ALIAS in found:
        raise PacketError("topic_alias", Code.TOPIC_ALIAS)
    return at


def parse_puback(flags: int, body: bytes, version: int) -> int:
    """Read a PUBACK and return the packet id (§3.4)."""
    end = len(body)
    packet_id, at = read_two(body, 0, end)
    if flags:
        raise PacketError("bad_flags")
    if packet_id == 0:
        raise PacketError("bad_packet_id", Code.PROTOCOL_ERROR)
    if version == MQTT_5 and end > 2:
        at = 3
        if end > 3:
            _, at = read_properties(body, at, end, OF_ACKNOWLEDGEMENT)
    if at != end:
        raise PacketError("trailing_bytes")
    return packet_id


def parse_subscribe(flags: int, body: bytes, version: int) -> Subscribe:
    """Read a SUBSCRIBE (§3.8)."""
    end = len(body)
    packet_id, at = _begin(flags, body, end)
    if version == MQTT_5:
        found, at = read_properties(body, at, end, OF_SUBSCRIBE)
        if SUBSCRIPTION_ID in found:
            raise PacketError("subscription_id", Code.NO_SUBSCRIPTION_IDS)
    filters: list[tuple[str, int]] = []
    while at < end:
        text, at = read_text(body, at, end, MAX_TOPIC_BYTES)
        if at >= end:
            raise PacketError("truncated")
        options = body[at]
        at += 1
        reserved = 0xC0 if version == MQTT_5 else 0xFC
        if options & reserved or options & 3 == 3 or options & 0x30 == 0x30 or not text:
            raise PacketError("bad_filter", Code.PROTOCOL_ERROR)
        filters.append((text, options & 3))
        if len(filters) > MAX_FILTERS:
            raise PacketError("too_long", Code.QUOTA)
    if not filters:
        raise PacketError("bad_filter", Code.PROTOCOL_ERROR)
    return Subscribe(packet_id, tuple(filters))


def parse_unsubscribe(flags: int, body: bytes, version: int) -> Unsubscribe:
    """Read an UNSUBSCRIBE (§3.10)."""
    end = len(body)
    packet_id, at = _begin(flags, body, end)
    if version == MQTT_5:
        _, at = read_properties(body, at, end, OF_UNSUBSCRIBE)
    filters: list[str] = []
    while at < end:
        text, at = read_text(body, at, end, MAX_TOPIC_BYTES)
        filters.append(text)
        if not text:
            raise PacketError("bad_filter", Code.PROTOCOL_ERROR)
        if len(filters) > MAX_FILTERS:
            raise PacketError("too_long", Code.QUOTA)
    if not filters:
        raise PacketError("bad_filter", Code.PROTOCOL_ERROR)
    return Unsubscribe(packet_id, tuple(filters))


def parse_disconnect(flags: int, body: bytes, version: int) -> bool:
    """Read a DISCONNECT (§3.14) and say whether the will is to be published all the same."""
    end = len(body)
    if flags or (version == MQTT_3_1_1 and end):
        raise PacketError("bad_flags")
    if end < 2:
        return end == 1 and body[0] == 0x04
    _, at = read_properties(body, 1, end, OF_DISCONNECT)
    if at != end:
        raise PacketError("trailing_bytes")
    return body[0] == 0x04


def connack(version: int, code: Code, *, properties: bytes = b"") -> bytes:
    """Write a CONNACK (§3.2) without a session; empty where 3.1.1 has no return code for it."""
    if version == MQTT_5:
        body = bytes([0, code]) + write_variable(len(properties)) + properties
        return b"\x20" + write_variable(len(body)) + body
    if code is Code.SUCCESS:
        return b"\x20\x02\x00\x00"
    told = _REFUSED_3_1_1.get(code)
    return bytes([0x20, 2, 0, told]) if told is not None else b""


def connack_properties(
    *, receive_maximum: int, max_packet_bytes: int, keep_alive_s: int, client_id: str, session_expiry: bool
) -> bytes:
    """Write what a CONNACK tells a client of MQTT 5 that it cannot have here; 0 and empty leave a property out."""
    told = b"\x21" + receive_maximum.to_bytes(2, "big") + b"\x27" + max_packet_bytes.to_bytes(4, "big")
    told += b"\x24\x01\x25\x00\x28\x00\x29\x00\x2a\x00"  # QoS 1; no retain, wildcards, subscription ids, shared ones
    if session_expiry:
        told += b"\x11\x00\x00\x00\x00"
    if keep_alive_s:
        told += b"\x13" + keep_alive_s.to_bytes(2, "big")
    if client_id:
        name = client_id.encode()
        told += b"\x12" + len(name).to_bytes(2, "big") + name
    return told


def puback(packet_id: int, version: int, code: Code = Code.SUCCESS) -> bytes:
    """Write a PUBACK (§3.4); 3.1.1 knows no reason."""
    if code is Code.SUCCESS or version == MQTT_3_1_1:
        return b"\x40\x02" + packet_id.to_bytes(2, "big")
    return b"\x40\x03" + packet_id.to_bytes(2, "big") + bytes([code])


def suback(packet_id: int, version: int, codes: list[int]) -> bytes:
    """Write a SUBACK (§3.9): the QoS granted, or a reason code, of each filter; 3.1.1 knows one for all failures."""
    told = codes if version == MQTT_5 else [min(code, 0x80) for code in codes]
    body = packet_id.to_bytes(2, "big") + (b"\x00" if version == MQTT_5 else b"") + bytes(told)
    return b"\x90" + write_variable(len(body)) + body


def unsuback(packet_id: int, version: int, codes: list[int]) -> bytes:
    """Write an UNSUBACK (§3.11)."""
    body = packet_id.to_bytes(2, "big") + (b"\x00" + bytes(codes) if version == MQTT_5 else b"")
    return b"\xb0" + write_variable(len(body)) + body


def publish(topic: bytes, payload: bytes, version: int, packet_id: int = 0) -> bytes:
    """Write a PUBLISH (§3.3): at QoS 1 where it has a packet id, else at QoS 0."""
    head = len(topic).to_bytes(2, "big") + topic
    if packet_id:
        head += packet_id.to_bytes(2, "big")
    if version == MQTT_5:
        head += b"\x00"
    return (b"\x32" if packet_id else b"\x30") + write_variable(len(head) + len(payload)) + head + payload


def disconnect(code: Code) -> bytes:
    """Write a DISCONNECT of MQTT 5 (§3.14); 3.1.1 has none from a server."""
    return b"\xe0\x01" + bytes([code])


def write_variable(value: int) -> bytes:
    """Write a variable byte integer (§1.5.5)."""
    if value < 0x80:
        return bytes([value])
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        if not value:
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def kind_of(first: int) -> Packet:
    """Return the type of a packet by its first byte; raises `PacketError` for one that does not exist."""
    if first < 0x10:
        raise PacketError("bad_packet")
    return Packet(first >> 4)


def _begin(flags: int, body: bytes, end: int) -> tuple[int, int]:
    """Read the packet id of a SUBSCRIBE or UNSUBSCRIBE, whose flags are fixed."""
    if flags != 0x02:
        raise PacketError("bad_flags")
    packet_id, at = read_two(body, 0, end)
    if packet_id == 0:
        raise PacketError("bad_packet_id", Code.PROTOCOL_ERROR)
    return packet_id, at


def _parse_will(body: bytes, at: int, end: int, version: int, qos: int) -> tuple[Will, int]:
    if version == MQTT_5:
        _, at = read_properties(body, at, end, OF_WILL)
    topic, at = read_text(body, at, end, MAX_TOPIC_BYTES)
    if not is_topic(topic):
        raise PacketError("bad_topic", Code.BAD_TOPIC, connack(version, Code.BAD_TOPIC))
    payload, at = read_binary(body, at, end, MAX_CONNECT_BYTES)
    return Will(topic, payload, qos), at


def _old_client(body: bytes) -> bytes:
    """Answer a client of MQTT 3.1, whose protocol had another name."""
    return connack(MQTT_3_1_1, Code.UNSUPPORTED_VERSION) if body.startswith(b"\x00\x06MQIsdp") else b""
