"""What the broker says to the intake, without the socket: PUBLISH by a quick path of our own, all else by `mqtt5`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import mqtt5

from qedge.devices.enforcement import Enforcement, Outcome
from qedge.devices.ports import Keeper
from qedge.devices.ways_in.codec import parse_length
from qedge.devices.ways_in.model import Packet, PacketError
from qedge.devices.ways_in.properties import read_variable
from qedge.devices.ways_in.rates import Throttles
from qedge.wire.attached import DeviceLeaf, device_topic, parse_device_topic

MAX_KNOWN_TOPICS: Final = 65_536
_LOOK_EVERY: Final = 8

Known = tuple[str, str, bool]
"""Device, topic as text, and whether it is a `hello`; no device: a topic that is none of ours."""

_OF_SERVERS: Final = frozenset({Packet.CONNACK, Packet.PUBACK, Packet.SUBACK, Packet.PINGRESP, Packet.DISCONNECT})
_FOREIGN: Final[Known] = ("", "", False)


def filters(fleet: str, node: str) -> list[str]:
    """Return what the intake subscribes to."""
    one = device_topic(fleet, node, "d", DeviceLeaf.UP).rsplit("/", 2)[0]
    return [f"{one}/+/{DeviceLeaf.UP}", f"{one}/+/{DeviceLeaf.HELLO}"]


class BrokerStream:
    """Takes bytes of one connection. `write` sends; `hello` takes a step of a handshake; `other` all other packets.

    Nothing that comes here proves who sent it, so nothing in clear counts against a device. QoS 1 is acknowledged once
    the keeper says that it is safe, all that came in one read together. `between` is called every few messages.
    """

    def __init__(
        self,
        fleet: str,
        node: str,
        enforcement: Enforcement,
        throttles: Throttles,
        *,
        max_packet_bytes: int,
        write: Callable[[bytes], bool],
        hello: Callable[[str, bytes], bool],
        other: Callable[[mqtt5.Packet], None],
        between: Callable[[], None],
        keeper: Keeper | None,
    ) -> None:
        self._own = (fleet, node)
        self._up = enforcement.up
        self._refuse = enforcement.refuse
        self._may_send = throttles.may_send
        self._max_packet = max_packet_bytes
        self._write = write
        self._hello = hello
        self._other = other
        self._between = between
        self._keeper = keeper
        self._known: dict[bytes, Known] = {}
        self._rest: bytearray | None = None
        self._need = 0
        self.heard: set[str] = set()
        """Devices whose frames came this way and were good."""

    def take(self, data: bytes, now_ns: int, utc_ns: int) -> None:
        """Take what was read; raises `PacketError` where the broker breaks the protocol."""
        rest = self._rest
        if rest is not None:
            rest += data
            if len(rest) < self._need:
                return
            data, self._rest = bytes(rest), None
        at, end, number = 0, len(data), 0
        acks = bytearray()
        try:
            while at + 2 <= end:
                size, body = data[at + 1], at + 2
                if size > 127:
                    size, body = parse_length(data, at, end)
                    if size < 0:
                        break
                if size > self._max_packet:
                    raise PacketError("too_large")
                stop = body + size
                if stop > end:
                    self._need = stop - at
                    break
                if data[at] & 0xF0 == 0x30:
                    self._take_publish(data[at], data, body, stop, acks, now_ns, utc_ns)
                    number += 1
                    if number % _LOOK_EVERY == 0:
                        self._between()
                elif data[at] >> 4 in _OF_SERVERS:
                    self._take_other(data[at:stop])
                else:
                    raise PacketError("unexpected")
                at = stop
        finally:
            if acks:
                self._acknowledge(bytes(acks))
        if at < end:
            self._rest = bytearray(memoryview(data)[at:])
            if end - at < 2 or self._need < end - at:
                self._need = end - at + 1

    def _take_publish(
        self, first: int, data: bytes, at: int, stop: int, acks: bytearray, now_ns: int, utc_ns: int
    ) -> None:
        name_end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        name = data[at + 2 : name_end]
        at = name_end
        if first & 0x06:
            acks += b"\x40\x02" + data[at : at + 2]
            at += 2
        if at >= stop:
            raise PacketError("truncated")
        size = data[at]
        at += 1
        if size:
            if size > 127:
                size, at = read_variable(data, at - 1, stop)
            at += size
        if at > stop:
            raise PacketError("truncated")
        device_id, topic, is_hello = self._known.get(name) or self._learn(name)
        if not device_id:
            self._refuse("", Outcome.FOREIGN_TOPIC, now_ns, utc_ns, proven=False)
        elif is_hello:
            self.heard.add(device_id)
            self._hello(device_id, data[at:stop])
        elif not self._may_send(device_id, now_ns):
            self._refuse(device_id, Outcome.THROTTLED, now_ns, utc_ns, proven=False)
        elif self._up(device_id, topic, data[at:stop], now_ns, utc_ns, first & 0x08 != 0, False) == Outcome.TAKEN:
            self.heard.add(device_id)

    def _learn(self, name: bytes) -> Known:
        """Read a topic that is new here; what strangers make up is not kept without bound."""
        try:
            text = name.decode("ascii")
        except UnicodeDecodeError:
            return _FOREIGN
        parsed = parse_device_topic(text)
        if parsed is None or parsed[:2] != self._own or parsed[3] not in (DeviceLeaf.UP, DeviceLeaf.HELLO):
            return _FOREIGN
        if len(self._known) >= MAX_KNOWN_TOPICS:
            self._known.clear()
            self.heard.clear()
        known = self._known[name] = (parsed[2], text, parsed[3] is DeviceLeaf.HELLO)
        return known

    def _take_other(self, packet: bytes) -> None:
        try:
            read, _size = mqtt5.read(memoryview(packet))
        except (ValueError, IndexError) as error:
            raise PacketError(str(error)) from None
        except BaseException as error:
            # mqtt5 0.8.0 panics at a text that is no UTF-8, and panics of Rust are no `Exception`s.
            if type(error).__name__ != "PanicException":
                raise
            raise PacketError("bad_text") from None
        self._other(read)

    def _acknowledge(self, acks: bytes) -> None:
        if self._keeper is None or self._keeper.when_safe(partial(self._write_late, acks)):
            self._write(acks)

    def _write_late(self, acks: bytes) -> None:
        self._write(acks)
