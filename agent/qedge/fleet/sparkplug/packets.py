"""MQTT 3.1.1 as a client writes and reads it (decision 0096): bytes in, packets out, no sockets. Pure.

Only what an edge node needs: QoS 0 and 1. Sections in brackets are those of MQTT 3.1.1 (OASIS, 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError
from qedge.fleet.sparkplug.model import Will

MAX_PACKET_BYTES: Final = 256 * 1024 + 4096
PINGREQ: Final = b"\xc0\x00"
DISCONNECT: Final = b"\xe0\x00"
REFUSED: Final = 0x80
_KINDS: Final = {2: "connack", 3: "publish", 4: "puback", 9: "suback", 13: "pingresp"}


@dataclass(frozen=True, slots=True)
class Packet:
    """What a server sends; `kind` is `connack`, `publish`, `puback`, `suback` or `pingresp`.

    `code` is the return code of a CONNACK, `codes` are those of a SUBACK.
    """

    kind: str
    mid: int = 0
    code: int = 0
    codes: tuple[int, ...] = ()
    topic: str = ""
    payload: bytes = b""
    qos: int = 0
    retain: bool = False


def connect_packet(client_id: str, keepalive_s: int, will: Will, username: str, password: str) -> bytes:
    """Write a CONNECT (§3.1): clean session, the will at QoS 1 and not retained.

    tck-id-principles-persistence-clean-session-311, tck-id-payloads-ndeath-{will-message,will-message-qos},
    tck-id-payloads-ndeath-will-message-retain,
    tck-id-message-flow-edge-node-birth-publish-will-message-{topic,qos,will-retained}.
    """
    flags = 0x02 | 0x04 | 0x08 | (0x80 if username else 0) | (0x40 if username and password else 0)
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + keepalive_s.to_bytes(2, "big")
    body += _text(client_id) + _text(will.topic) + _binary(will.payload)
    if username:
        body += _text(username)
        if password:
            body += _text(password)
    return _packet(0x10, body)


def subscribe_packet(mid: int, filters: Sequence[str]) -> bytes:
    """Write a SUBSCRIBE (§3.8), everything at QoS 1."""
    return _packet(0x82, mid.to_bytes(2, "big") + b"".join(_text(each) + b"\x01" for each in filters))


def publish_packet(topic: str, payload: bytes, *, mid: int = 0) -> bytes:
    """Write a PUBLISH (§3.3), never retained; at QoS 1 where it has a packet id, which only the NDEATH has.

    tck-id-topics-{nbirth,ndata,dbirth,ddata,ddeath}-mqtt, tck-id-payloads-{nbirth,ndata,dbirth,ddata}-{qos,retain},
    tck-id-message-flow-edge-node-birth-publish-nbirth-{qos,retained},
    tck-id-message-flow-device-birth-publish-dbirth-{qos,retained}.
    """
    head = _text(topic) + (mid.to_bytes(2, "big") if mid else b"")
    return _packet(0x32 if mid else 0x30, head + payload)


def puback_packet(mid: int) -> bytes:
    """Write a PUBACK (§3.4)."""
    return _packet(0x40, mid.to_bytes(2, "big"))


class PacketReader:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes as they come, return the packets that they complete; raises `bus.bad_message`."""
        self._buffer += data
        found: list[Packet] = []
        while (whole := self._cut()) is not None:
            found.append(_read(*whole))
        return found

    def _cut(self) -> tuple[int, bytes] | None:
        length, shift, at = 0, 0, 1
        while True:
            if at >= len(self._buffer):
                return None
            byte = self._buffer[at]
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
            if shift == 28:
                raise _bad("a length of more than four bytes")
        if length > MAX_PACKET_BYTES:
            raise _bad(f"a packet of {length} bytes")
        if len(self._buffer) < at + length:
            return None
        first, body = self._buffer[0], bytes(self._buffer[at : at + length])
        del self._buffer[: at + length]
        return first, body


def _read(first: int, body: bytes) -> Packet:
    kind = _KINDS.get(first >> 4)
    if kind == "publish":
        return _read_publish(first, body)
    if kind == "pingresp" and not body:
        return Packet(kind)
    if kind in ("connack", "puback") and len(body) == 2:
        return Packet(kind, code=body[1]) if kind == "connack" else Packet(kind, int.from_bytes(body, "big"))
    if kind == "suback" and len(body) > 2:
        return Packet(kind, int.from_bytes(body[:2], "big"), codes=tuple(body[2:]))
    raise _bad(f"a packet that begins with {first:#04x}")


def _read_publish(first: int, body: bytes) -> Packet:
    qos = first >> 1 & 3
    at = 2 + int.from_bytes(body[:2], "big")
    mid = int.from_bytes(body[at : at + 2], "big") if qos else 0
    end = at + (2 if qos else 0)
    if len(body) < end or len(body) < 2 or qos > 1 or (qos and not mid):
        raise _bad("a PUBLISH that is none")
    try:
        topic = body[2:at].decode()
    except UnicodeDecodeError:
        raise _bad("a topic that is no UTF-8") from None
    return Packet("publish", mid, topic=topic, payload=body[end:], qos=qos, retain=bool(first & 1))


def _packet(first: int, body: bytes) -> bytes:
    out, length = bytearray([first]), len(body)
    while True:
        length, low = divmod(length, 128)
        out.append(low | (0x80 if length else 0))
        if not length:
            return bytes(out) + body


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _bad(why: str) -> QedgeError:
    return QedgeError("bus.bad_message", f"The MQTT server sends {why}.")
