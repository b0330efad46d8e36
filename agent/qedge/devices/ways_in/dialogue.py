"""One device's MQTT connection at the listener, without its socket: bytes in, calls to the enforcement point out.

The quick way of a PUBLISH on the device's own `up` topic reads no more than its header: the topic is compared as bytes,
and all that came in one read is dealt with in one loop and acknowledged in one write.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from qedge.devices.enforcement import Outcome, Reading
from qedge.devices.ways_in import codec
from qedge.devices.ways_in.hearing import MAX_IN_FLIGHT, Hearing
from qedge.devices.ways_in.model import MQTT_5, Code, Connect, Packet, PacketError
from qedge.devices.ways_in.reception import Outlet, Reception, Rules, State
from qedge.security.model import Subject
from qedge.wire.attached import DeviceLeaf, device_topic

RECEIVE_MAXIMUM: Final = 256
"""QoS-1 messages of one device that may be under way; told to clients of MQTT 5."""

_UNSAFE_WAIT_S: Final = 0.02
_ANSWER_LIMIT_S: Final = 3600.0
"""Nothing is read until it is known who it is; the listener closes connections for which that takes too long."""

_NEVER: Final = b"\xff\xff\xff"
"""Begins no topic, since it is no UTF-8."""

_NO_SESSION: Final = int(Outcome.NO_SESSION)
_EXPIRED: Final = int(Outcome.EXPIRED)
_CODES: Final[dict[int, Code]] = {
    Outcome.NO_SESSION: Code.NOT_AUTHORIZED,
    Outcome.EXPIRED: Code.NOT_AUTHORIZED,
    Outcome.REPLAYED: Code.BAD_PAYLOAD,
    Outcome.UNOPENED: Code.BAD_PAYLOAD,
    Outcome.MALFORMED: Code.BAD_PAYLOAD,
    Outcome.DENIED: Code.NOT_AUTHORIZED,
    Outcome.FAILED: Code.UNSPECIFIED,
    Outcome.FOREIGN_TOPIC: Code.NOT_AUTHORIZED,
}
"""What a PUBACK of MQTT 5 says; 3.1.1 has no reasons, and a message that was refused is acknowledged all the same."""


class Dialogue:
    """What is said over one connection. `outlet` is set by whoever owns the socket, before the first byte."""

    __slots__ = (
        "_burst_ns",
        "_connect",
        "_gap_ns",
        "_hearing",
        "_limit",
        "_max_out",
        "_need",
        "_paid_ns",
        "_reception",
        "_rest",
        "_rules",
        "_stem",
        "_unsafe",
        "_up_field",
        "_up_topic",
        "_will",
        "_window",
        "device_id",
        "heard_ns",
        "outlet",
        "silence_ns",
        "state",
        "subject",
        "version",
    )

    def __init__(self, rules: Rules, reception: Reception, now_ns: int) -> None:
        self.outlet: Outlet | None = None
        self.state = State.NEW
        self.version = 0
        self.device_id = ""
        self.subject: Subject | None = None
        self.heard_ns = now_ns
        self.silence_ns = 0
        self._rules = rules
        self._reception = reception
        self._connect: Connect | None = None
        self._limit = codec.MAX_CONNECT_BYTES
        self._rest: bytearray | None = None
        self._need = 0
        self._stem = ""
        self._up_topic = ""
        self._up_field = _NEVER
        self._paid_ns = self._gap_ns = self._burst_ns = 0
        self._hearing: Hearing | None = None
        self._window = MAX_IN_FLIGHT
        self._max_out = 0
        self._unsafe = 0
        self._will: Reading | None = None

    def take(self, data: bytes, now_ns: int, utc_ns: int) -> None:
        """Take what was read from the socket; never raises.

        The commonest of all reads, one whole PUBLISH at QoS 0 of the device, is dealt with here.
        """
        end, field = len(data), self._up_field
        if data[0] == 0x30 and end >= 4 and self._rest is None:
            size, body = data[1], 2
            if size > 127 and data[2] < 128:
                size, body = size & 0x7F | data[2] << 7, 3
            if body + size == end and size <= self._limit and data.startswith(field, body):
                body += len(field)
                if self.version != MQTT_5 or (body < end and data[body] == 0):
                    frame = data[body:] if self.version != MQTT_5 else data[body + 1 :]
                    self.heard_ns = now_ns
                    outcome = self._rules.up(self.device_id, self._up_topic, frame, now_ns, utc_ns)
                    if 0 < outcome <= _EXPIRED:
                        self.end(Code.NOT_AUTHORIZED, "no_session")
                    paid_ns = self._paid_ns
                    self._paid_ns = paid_ns = (max(now_ns, paid_ns)) + self._gap_ns
                    if paid_ns - now_ns > self._burst_ns:
                        self._charge(0, now_ns)
                    return
        self._take_any(data, now_ns, utc_ns)

    def _take_any(self, data: bytes, now_ns: int, utc_ns: int) -> None:
        rest = self._rest
        if rest is not None:
            rest += data
            if len(rest) < self._need:
                return
            data, self._rest = bytes(rest), None
        try:
            self._read(data, now_ns, utc_ns)
        except PacketError as error:
            self._break(error, now_ns, utc_ns)

    def admit(self, subject: Subject, now_ns: int, utc_ns: int) -> None:
        """Let the device in, and deal with what it sent meanwhile."""
        connect, rules = self._connect, self._rules
        if connect is None or self.state is not State.WAITING:
            return
        self._connect = None
        self.subject, self.device_id = subject, subject.id
        self._up_topic = device_topic(rules.fleet, rules.node, subject.id, DeviceLeaf.UP)
        if connect.will is not None:
            if connect.will.topic != self._up_topic:
                rules.enforcement.refuse(subject.id, Outcome.FOREIGN_TOPIC, now_ns, utc_ns, proven=True)
                self.refuse(Code.NOT_AUTHORIZED, "foreign_will")
                return
            self._will = rules.enforcement.open(subject.id, self._up_topic, connect.will.payload, now_ns)
        self._stem = self._up_topic[: -len(DeviceLeaf.UP)]
        name = self._up_topic.encode()
        self._up_field = len(name).to_bytes(2, "big") + name
        self.state = State.OPEN
        self._limit = rules.max_packet
        self._window = min(MAX_IN_FLIGHT, connect.receive_maximum)
        self._max_out = connect.max_packet_bytes
        self.pace(rules.throttles.rate(subject.id), now_ns)
        self.heard_ns = now_ns
        promised_s = connect.keep_alive_s or rules.max_keepalive_s
        self.silence_ns = min(promised_s, rules.max_keepalive_s) * 1_500_000_000
        properties = b""
        if self.version == MQTT_5:
            properties = codec.connack_properties(
                receive_maximum=RECEIVE_MAXIMUM,
                max_packet_bytes=rules.max_packet,
                keep_alive_s=rules.max_keepalive_s if not 0 < connect.keep_alive_s <= rules.max_keepalive_s else 0,
                client_id="" if connect.client_id else subject.id,
                session_expiry=True,
            )
        outlet, rest, self._rest = self.outlet, self._rest, None
        if outlet is None:
            return
        with outlet.corked():
            outlet.write(codec.connack(self.version, Code.SUCCESS, properties=properties))
            outlet.hold(0.0)
            if rest:
                self.take(bytes(rest), now_ns, utc_ns)

    def refuse(self, code: Code, reason: str) -> None:
        """Turn the client away."""
        if self.state is State.WAITING:
            self._write(codec.connack(self.version, code))
        self._close(reason)

    def end(self, code: Code, reason: str) -> None:
        """Close from this side."""
        if self.state is State.OPEN and self.version == MQTT_5:
            self._write(codec.disconnect(code))
        self._close(reason)

    def lost(self, now_ns: int, utc_ns: int) -> None:
        """Note that the socket is closed; the will is published where the client did not take leave."""
        self.state = State.CLOSED
        self._rest = None
        will, self._will = self._will, None
        if will is not None:
            self._rules.enforcement.publish(will, now_ns, utc_ns)
        hearing, self._hearing, self.outlet = self._hearing, None, None  # in a circle with this, until now
        if hearing is not None:
            hearing.leave_all()

    def pace(self, messages_per_s: float, now_ns: int) -> None:
        """Take so many packets a second and let the others wait in the network.

        The cell rate algorithm of ITU-T I.371: one number says until when what was taken is paid for.
        """
        self._gap_ns = max(1, round(1e9 / messages_per_s))
        self._burst_ns = max(self._gap_ns, 1_000_000_000)
        self._paid_ns = now_ns

    def send(self, topic: str, payload: bytes) -> bool:
        """Send a message on a topic that the device listens to; False where it does not, or too much waits."""
        hearing = self._hearing
        return hearing is not None and self.state is State.OPEN and hearing.send(topic, payload)

    def _read(self, data: bytes, now_ns: int, utc_ns: int) -> None:
        # what the last packet needed says nothing of the next, whose length may be cut in two
        at, end, num_packets, self._need = 0, len(data), 0, 0
        field, limit, is_5 = self._up_field, self._limit, self.version == MQTT_5
        up, state_open, acks = self._rules.up, State.OPEN, bytearray()
        if self.state is State.NEW and data[0] != Packet.CONNECT << 4:
            raise PacketError("no_connect", Code.PROTOCOL_ERROR)
        try:
            while at + 2 <= end:
                first, size, body = data[at], data[at + 1], at + 2
                if size > 127:
                    size, body = codec.parse_length(data, at, end)
                    if size < 0:
                        break
                if size > limit:
                    raise PacketError("too_large", Code.TOO_LARGE)
                stop = body + size
                if stop > end:
                    self._need = stop - at
                    break
                at = stop
                num_packets += 1
                if first & 0xF5 != 0x30 or first == 0x38 or not data.startswith(field, body):
                    self._acknowledge(acks)  # in the order of what they answer (§4.6)
                    acks = bytearray()
                    self._take_packet(first, data[body:stop], now_ns, utc_ns)
                    if self.state is not State.OPEN:
                        break
                    field, limit, is_5 = self._up_field, self._limit, self.version == MQTT_5
                    continue
                body += len(field)
                packet_id = 0
                if first & 0x02:
                    packet_id = int.from_bytes(data[body : body + 2], "big")
                    body += 2
                    if packet_id == 0:
                        raise PacketError("bad_packet_id", Code.PROTOCOL_ERROR)
                if is_5:
                    if body < stop and data[body] == 0:
                        body += 1
                    else:
                        body = codec.skip_publish_properties(data, body, stop)
                if body > stop:
                    raise PacketError("truncated")
                outcome = up(self.device_id, self._up_topic, data[body:stop], now_ns, utc_ns, first & 0x08 != 0)
                if packet_id:
                    acks += codec.puback(packet_id, self.version, _CODES.get(outcome, Code.SUCCESS))
                if 0 < outcome <= _EXPIRED:
                    self._acknowledge(acks)
                    acks = bytearray()
                    self.end(Code.NOT_AUTHORIZED, "no_session")
                if self.state is not state_open:
                    return
        finally:
            self._acknowledge(acks)
        if at < end and self.state is not State.CLOSED:
            self._keep_rest(data, at, end)
        if num_packets:
            self.heard_ns = now_ns
            self._charge(num_packets, now_ns)

    def _keep_rest(self, data: bytes, at: int, end: int) -> None:
        self._rest = bytearray(memoryview(data)[at:])
        if self.state is State.WAITING:
            self._need = 1 << 62  # it waits for the answer about its CONNECT, however much there is
        elif end - at < 2 or self._need < end - at:
            self._need = end - at + 1

    def _charge(self, num_packets: int, now_ns: int) -> None:
        if self.state is not State.OPEN or self.outlet is None:
            return
        self._paid_ns = max(self._paid_ns, now_ns) + num_packets * self._gap_ns
        wait_s = (self._paid_ns - now_ns - self._burst_ns) / 1e9
        if wait_s > 0:
            tally = self._rules.enforcement.tallies.get(self.device_id)
            if tally is not None:
                tally.throttled += 1
            self.outlet.hold(wait_s)
        elif self._unsafe >= RECEIVE_MAXIMUM:
            self.outlet.hold(_UNSAFE_WAIT_S)

    def _take_packet(self, first: int, body: bytes, now_ns: int, utc_ns: int) -> None:
        """Deal with anything but a plain message of the device."""
        kind, flags = codec.kind_of(first), first & 0x0F
        if self.state is State.NEW:
            self._connect = connect = codec.parse_connect(flags, body)
            self.version = connect.version
            self.state = State.WAITING
            if self.outlet is not None:
                self.outlet.hold(_ANSWER_LIMIT_S)
            self._reception.arrive(self, connect)
        elif kind is Packet.PUBLISH:
            self._take_publish(flags, body, now_ns, utc_ns)
        elif kind is Packet.PUBACK:
            self._ears().acknowledged(codec.parse_puback(flags, body, self.version))
        elif kind is Packet.SUBSCRIBE:
            wanted = codec.parse_subscribe(flags, body, self.version)
            self._write(self._ears().subscribe(wanted, now_ns, utc_ns))
        elif kind is Packet.UNSUBSCRIBE:
            self._write(self._ears().unsubscribe(codec.parse_unsubscribe(flags, body, self.version)))
        elif kind is Packet.PINGREQ:
            if flags or body:
                raise PacketError("bad_flags")
            self._write(codec.PINGRESP)
        elif kind is Packet.DISCONNECT:
            if not codec.parse_disconnect(flags, body, self.version):
                self._will = None
            self._close("disconnect")
        else:
            raise PacketError("unexpected", Code.PROTOCOL_ERROR)

    def _take_publish(self, flags: int, body: bytes, now_ns: int, utc_ns: int) -> None:
        message = codec.parse_publish(flags, body, self.version)
        if message.retain and self.version == MQTT_5:
            raise PacketError("retain", Code.NO_RETAIN)
        enforcement = self._rules.enforcement
        if message.topic == self._stem + DeviceLeaf.HELLO:
            taken = self._reception.hello(self.device_id, message.payload)
            outcome = int(Outcome.TAKEN if taken else Outcome.FAILED)
        elif message.topic == self._up_topic:
            payload, again = message.payload, message.again
            outcome = enforcement.up(self.device_id, self._up_topic, payload, now_ns, utc_ns, again)
        else:
            enforcement.refuse(self.device_id, Outcome.FOREIGN_TOPIC, now_ns, utc_ns, proven=True)
            outcome = int(Outcome.FOREIGN_TOPIC)
        if message.qos:
            code = _CODES.get(outcome, Code.SUCCESS)
            self._acknowledge(bytearray(codec.puback(message.packet_id, self.version, code)))
        if outcome in (_NO_SESSION, _EXPIRED):
            self.end(Code.NOT_AUTHORIZED, "no_session")

    def _ears(self) -> Hearing:
        """Most devices listen to nothing for a while, and some never, so this is made when it is wanted."""
        if self._hearing is None:
            subject = self.subject
            if subject is None:
                raise PacketError("unexpected", Code.PROTOCOL_ERROR)
            self._hearing = Hearing(
                self._rules,
                subject,
                self._stem,
                self.version,
                self._write,
                window=self._window,
                max_packet_bytes=self._max_out,
            )
        return self._hearing

    def _acknowledge(self, acks: bytearray) -> None:
        if not acks:
            return
        keeper, data = self._rules.keeper, bytes(acks)
        num_acks = len(data) // 4
        self._unsafe += num_acks
        if keeper is None or keeper.when_safe(partial(self._write_acks, data, num_acks)):
            self._write_acks(data, num_acks)

    def _write_acks(self, data: bytes, num_acks: int) -> None:
        self._unsafe -= num_acks
        if self.state is State.OPEN:
            self._write(data)

    def _write(self, data: bytes) -> bool:
        return self.outlet is not None and bool(data) and self.outlet.write(data)

    def _break(self, error: PacketError, now_ns: int, utc_ns: int) -> None:
        if self.state is State.OPEN:
            self._rules.enforcement.malformed(self.device_id, now_ns, utc_ns)
            self.end(error.code, error.reason)
            return
        self._reception.offended(self)
        if error.answer:
            self._write(error.answer)
        self._close(error.reason)

    def _close(self, reason: str) -> None:
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        if self.outlet is not None:
            self.outlet.close(reason)
