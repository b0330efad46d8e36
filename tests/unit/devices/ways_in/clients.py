"""Packets as other programs write them: paho for MQTT 3.1.1, the `mqtt5` codec for MQTT 5."""

from __future__ import annotations

import struct

import mqtt5
import paho.mqtt.client as paho


def paho_connect(
    client_id: str, username: str = "", password: str = "", *, will: tuple[str, bytes] | None = None
) -> bytes:
    """Write a CONNECT of MQTT 3.1.1 as paho does."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv311)
    if username:
        client.username_pw_set(username, password or None)
    if will is not None:
        client.will_set(*will, qos=1)
    client._send_connect(60)
    return _written(client)


def paho_publish(topic: str, payload: bytes, qos: int, packet_id: int, again: bool = False) -> bytes:
    """Write a PUBLISH of MQTT 3.1.1 as paho does."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    client._sock = _NoSocket()  # type: ignore[assignment] # it only asks whether there is one
    client._send_publish(packet_id, topic.encode(), payload, qos, False, again)
    return _written(client)


def paho_subscribe(topics: list[tuple[str, int]]) -> bytes:
    """Write a SUBSCRIBE of MQTT 3.1.1 as paho does."""
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    client._send_subscribe(False, [(topic.encode(), qos) for topic, qos in topics])
    return _written(client)


def mqtt5_connect(client_id: str, username: str = "", password: bytes = b"", **more: object) -> bytes:
    """Write a CONNECT of MQTT 5."""
    packet = mqtt5.ConnectPacket(client_id, username=username or None, password=password or None, **more)  # type: ignore[arg-type] # what a test wants of it
    return packet.write()


def split(packet: bytes) -> tuple[int, bytes]:
    """Return the flags and the body of one packet, whatever its length field takes."""
    at, size, shift = 1, 0, 0
    while True:
        byte = packet[at]
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    assert len(packet) == at + size
    return packet[0] & 0x0F, packet[at:]


def publish_311(topic: str, payload: bytes, *, qos: int = 0, packet_id: int = 0, flags: int = 0) -> bytes:
    """Write a PUBLISH of MQTT 3.1.1 by hand, sound or not."""
    name = topic.encode()
    body = struct.pack(">H", len(name)) + name + (struct.pack(">H", packet_id) if qos else b"") + payload
    return bytes([0x30 | qos << 1 | flags]) + varint(len(body)) + body


def varint(value: int) -> bytes:
    """Write a length field."""
    out = bytearray()
    while True:
        value, byte = value >> 7, value & 0x7F
        out.append(byte | (0x80 if value else 0))
        if not value:
            return bytes(out)


def _written(client: paho.Client) -> bytes:
    return b"".join(bytes(each["packet"]) for each in client._out_packet)


class _NoSocket:
    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        pass
