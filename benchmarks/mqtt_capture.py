"""Reads captures of MQTT traffic: pcap and pcapng, Ethernet and Linux cooked, IPv4, TCP put together, MQTT packets.

What a broker forwards to subscribers is not what devices send, so the direction is told by the port: only packets to
1883 are inbound. A flood puts many MQTT packets into one TCP segment, so packets are counted and not segments. A
capture may begin in the middle of a connection; then reading begins where three packets in a row make sense.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PORT = 1883
CONNECT, CONNACK, PUBLISH = 1, 2, 3
_ETHERNET, _COOKED = 1, 113
_LINK_HEADER = {_ETHERNET: 14, _COOKED: 16}
_MAX_PACKET = 1 << 20


@dataclass(frozen=True)
class MqttPacket:
    """One MQTT packet: time in seconds, the client's address and port, whether it came from the client, type, body.

    `size` is that of the payload of a PUBLISH; `code` that of a CONNACK.
    """

    at_s: float
    client: str
    port: int
    inbound: bool
    kind: int
    topic: str = ""
    size: int = 0
    code: int = 0


@dataclass
class _Stream:
    """One direction of a TCP connection. `next` is the sequence number of the byte after `data`."""

    data: bytearray = field(default_factory=bytearray)
    next: int | None = None
    begun: bool = False
    early: dict[int, bytes] = field(default_factory=dict)

    def take(self, sequence: int, payload: bytes, syn: bool) -> None:
        if syn:
            self.data.clear()
            self.early.clear()
            self.next, self.begun = (sequence + 1) & 0xFFFFFFFF, True
            return
        if not payload:
            return
        if self.next is None:
            self.next = sequence
        self.early[sequence] = max(payload, self.early.get(sequence, b""), key=len)
        while True:
            fitting = [each for each in self.early if (self.next - each) & 0xFFFFFFFF < 1 << 31]
            if not fitting:
                return
            for each in sorted(fitting):
                segment = self.early.pop(each)
                fresh = segment[(self.next - each) & 0xFFFFFFFF :]
                self.data += fresh
                self.next = (self.next + len(fresh)) & 0xFFFFFFFF


def read(path: Path) -> Iterator[MqttPacket]:
    """Yield the MQTT packets of a capture in the order of time."""
    streams: dict[tuple[str, int, bool], _Stream] = {}
    for at_s, link, frame in _frames(path.read_bytes()):
        segment = _segment(link, frame)
        if segment is None:
            continue
        client, port, inbound, sequence, flags, payload = segment
        stream = streams.setdefault((client, port, inbound), _Stream())
        stream.take(sequence, payload, bool(flags & 2))
        for kind, topic, size, code in _packets(stream):
            yield MqttPacket(at_s, client, port, inbound, kind, topic, size, code)


def _frames(data: bytes) -> Iterator[tuple[float, int, bytes]]:
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        yield from _frames_ng(data)
        return
    order = "<" if data[0] == 0xD4 else ">"
    link = struct.unpack_from(f"{order}I", data, 20)[0]
    at = 24
    while at + 16 <= len(data):
        seconds, micros, captured, _ = struct.unpack_from(f"{order}IIII", data, at)
        yield seconds + micros * 1e-6, link, data[at + 16 : at + 16 + captured]
        at += 16 + captured


def _frames_ng(data: bytes) -> Iterator[tuple[float, int, bytes]]:
    order = "<" if data[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    interfaces: list[tuple[int, float]] = []
    at = 0
    while at + 12 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, at)
        block = data[at + 8 : at + length - 4]
        if kind == 1:
            interfaces.append((struct.unpack_from(f"{order}H", block)[0], _resolution(block, order)))
        elif kind == 6:
            number, high, low, captured = struct.unpack_from(f"{order}IIII", block)
            link, tick_s = interfaces[number]
            yield (high << 32 | low) * tick_s, link, block[20 : 20 + captured]
        at += max(12, length)


def _resolution(block: bytes, order: str) -> float:
    """Return the seconds in a tick of an interface (option 9, `if_tsresol`)."""
    at = 8
    while at + 4 <= len(block):
        code, length = struct.unpack_from(f"{order}HH", block, at)
        if code == 9:
            exponent = block[at + 4]
            return float(2.0 ** -(exponent & 0x7F) if exponent & 0x80 else 10.0**-exponent)
        at += 4 + (length + 3) // 4 * 4
    return 1e-6


def _segment(link: int, frame: bytes) -> tuple[str, int, bool, int, int, bytes] | None:
    start = _LINK_HEADER[link]
    if frame[start - 2 : start] != b"\x08\x00" or frame[start + 9] != 6:
        return None
    packet = frame[start:]
    head = (packet[0] & 15) * 4
    total = struct.unpack_from(">H", packet, 2)[0] or len(packet)  # 0: offloaded to the network card
    source, target, sequence = struct.unpack_from(">HHI", packet, head)
    if PORT not in (source, target):
        return None
    payload = packet[head + (packet[head + 12] >> 4) * 4 : total]
    inbound = target == PORT
    address = packet[12:16] if inbound else packet[16:20]
    return ".".join(map(str, address)), source if inbound else target, inbound, sequence, packet[head + 13], payload


def _packets(stream: _Stream) -> Iterator[tuple[int, str, int, int]]:
    """Take the whole packets off the front of a stream."""
    if not stream.begun:
        at = _first_packet(stream.data)
        if at is None:
            return
        del stream.data[:at]
        stream.begun = True
    at = 0
    while (size := _size(stream.data, at)) and at + size[0] + size[1] <= len(stream.data):
        head, body = size
        yield _read(stream.data[at], bytes(stream.data[at + head : at + head + body]))
        at += head + body
    del stream.data[:at]


def _first_packet(data: bytearray) -> int | None:
    for start in range(min(len(data), 4096)):
        at, found = start, 0
        while found < 3 and (size := _size(data, at)) and size[1] <= _MAX_PACKET and _plausible(data, at, size):
            at += sum(size)
            found += 1
            if at == len(data) and start == 0:
                return 0
        if found == 3:
            return start
    return None


def _plausible(data: bytearray, at: int, size: tuple[int, int]) -> bool:
    kind, flags = data[at] >> 4, data[at] & 15
    if kind == PUBLISH:
        topic = int.from_bytes(data[at + size[0] : at + size[0] + 2], "big")
        return flags & 6 != 6 and 0 < topic <= size[1] - 2
    return kind in range(1, 15) and flags == (2 if kind in (6, 8, 10) else 0) and size[1] <= 256


def _size(data: bytearray, at: int) -> tuple[int, int] | None:
    """Return the lengths of the fixed header and of what follows it, None where the header is not whole."""
    value = 0
    for index in range(1, 5):
        if at + index >= len(data):
            return None
        value |= (data[at + index] & 0x7F) << (7 * (index - 1))
        if not data[at + index] & 0x80:
            return index + 1, value
    return None


def _read(first: int, body: bytes) -> tuple[int, str, int, int]:
    kind = first >> 4
    if kind == PUBLISH and len(body) >= 2:
        length = int.from_bytes(body[:2], "big")
        overhead = 2 + length + (2 if first & 6 else 0)
        return kind, body[2 : 2 + length].decode("utf-8", "replace"), max(0, len(body) - overhead), 0
    return kind, "", len(body), body[1] if kind == CONNACK and len(body) >= 2 else 0
