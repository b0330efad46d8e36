"""What a device listens to at the listener, and what is on its way to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from qedge.devices.enforcement import Outcome
from qedge.devices.ways_in import codec
from qedge.devices.ways_in.model import Code, PacketError, Subscribe, Unsubscribe
from qedge.devices.ways_in.reception import Rules
from qedge.security.model import Subject
from qedge.wire.attached import DeviceLeaf

MAX_SUBSCRIPTIONS: Final = 32
MAX_IN_FLIGHT: Final = 32
"""QoS-1 messages to one device that it has not acknowledged; fewer where it says so."""

_OVERHEAD_BYTES: Final = 16


class Hearing:
    """Subscriptions of one connection, with at most `window` messages at QoS 1 under way and a bounded queue behind.

    A full queue refuses the new message, so that whoever sent it learns of it; nothing that was taken is dropped.
    """

    __slots__ = (
        "_flying",
        "_last_id",
        "_max_bytes",
        "_rules",
        "_stem",
        "_subject",
        "_topics",
        "_version",
        "_waiting",
        "_window",
        "_write",
    )

    def __init__(
        self,
        rules: Rules,
        subject: Subject,
        stem: str,
        version: int,
        write: Callable[[bytes], bool],
        *,
        window: int,
        max_packet_bytes: int,
    ) -> None:
        self._rules = rules
        self._subject = subject
        self._stem = stem
        self._version = version
        self._write = write
        self._window = window
        self._max_bytes = max_packet_bytes
        self._topics: dict[str, int] = {}
        self._flying: set[int] = set()
        self._waiting: deque[tuple[str, bytes]] | None = None
        self._last_id = 0

    def send(self, topic: str, payload: bytes) -> bool:
        """Send a message; False where the device does not listen to its topic, or too much waits."""
        qos = self._topics.get(topic)
        if qos is None:
            return False
        if self._max_bytes and len(topic) + len(payload) + _OVERHEAD_BYTES > self._max_bytes:
            return False
        if qos == 0:
            return self._write(codec.publish(topic.encode(), payload, self._version))
        if len(self._flying) < self._window:
            return self._send_counted(topic, payload)
        if self._waiting is None:
            self._waiting = deque()
        if len(self._waiting) >= self._rules.queue:
            return False
        self._waiting.append((topic, payload))
        return True

    def acknowledged(self, packet_id: int) -> None:
        """Take a PUBACK; raises `PacketError` for one that is not due."""
        if packet_id not in self._flying:
            raise PacketError("bad_packet_id", Code.PROTOCOL_ERROR)
        self._flying.discard(packet_id)
        if self._waiting:
            self._send_counted(*self._waiting.popleft())

    def subscribe(self, wanted: Subscribe, now_ns: int, utc_ns: int) -> bytes:
        """Take a SUBSCRIBE and return the SUBACK."""
        codes = []
        for text, qos in wanted.filters:
            code = self._judge(text, now_ns, utc_ns)
            if code is Code.SUCCESS:
                self._topics[text] = min(qos, 1)
                codes.append(min(qos, 1))
            else:
                codes.append(int(code))
                refuse = self._rules.enforcement.refuse
                refuse(self._subject.id, Outcome.FOREIGN_TOPIC, now_ns, utc_ns, proven=True)
        return codec.suback(wanted.packet_id, self._version, codes)

    def unsubscribe(self, wanted: Unsubscribe) -> bytes:
        """Take an UNSUBSCRIBE and return the UNSUBACK."""
        codes = []
        for text in wanted.filters:
            known = self._topics.pop(text, None) is not None
            codes.append(0x00 if known else 0x11)
            if known:
                self._leave(text)
        return codec.unsuback(wanted.packet_id, self._version, codes)

    def leave_all(self) -> None:
        """Stop listening, when the connection is gone."""
        topics, self._topics = self._topics, {}
        for text in topics:
            self._leave(text)

    def _judge(self, text: str, now_ns: int, utc_ns: int) -> Code:
        """Say whether the device may listen to `text`: its own topics, and those of segments where policy permits."""
        if text.startswith("$share/"):
            return Code.NO_SHARED
        if "#" in text or "+" in text:
            return Code.NO_WILDCARDS
        if text in self._topics or text in (self._stem + DeviceLeaf.DOWN, self._stem + DeviceLeaf.WELCOME):
            return Code.SUCCESS
        audience = self._rules.audience
        if audience is None or not codec.is_topic(text):
            return Code.NOT_AUTHORIZED
        if len(self._topics) >= MAX_SUBSCRIPTIONS:
            return Code.QUOTA
        return Code.SUCCESS if audience.join(self._subject, text, now_ns, utc_ns) else Code.NOT_AUTHORIZED

    def _leave(self, text: str) -> None:
        if self._rules.audience is not None and not text.startswith(self._stem):
            self._rules.audience.leave(self._subject.id, text)

    def _send_counted(self, topic: str, payload: bytes) -> bool:
        packet_id = self._last_id % 65_535 + 1
        while packet_id in self._flying:
            packet_id = packet_id % 65_535 + 1
        self._last_id = packet_id
        if not self._write(codec.publish(topic.encode(), payload, self._version, packet_id)):
            return False
        self._flying.add(packet_id)
        return True
