"""Nouns of the ways in: versions and codes of MQTT, what clients say, and what the listener tells of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

MQTT_3_1_1: Final = 4
MQTT_5: Final = 5


class Packet(IntEnum):
    """Types of MQTT control packets (MQTT 5, §2.1.2); 3.1.1 has all but AUTH."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Code(IntEnum):
    """Reason codes of MQTT 5 that are used here (§2.4)."""

    SUCCESS = 0x00
    UNSPECIFIED = 0x80
    MALFORMED = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_VERSION = 0x84
    BAD_CLIENT_ID = 0x85
    NOT_AUTHORIZED = 0x87
    SERVER_BUSY = 0x89
    SHUTTING_DOWN = 0x8B
    BAD_METHOD = 0x8C
    KEEP_ALIVE = 0x8D
    TAKEN_OVER = 0x8E
    BAD_FILTER = 0x8F
    BAD_TOPIC = 0x90
    TOPIC_ALIAS = 0x94
    TOO_LARGE = 0x95
    QUOTA = 0x97
    ADMINISTRATIVE = 0x98
    BAD_PAYLOAD = 0x99
    NO_RETAIN = 0x9A
    NO_QOS_2 = 0x9B
    NO_SHARED = 0x9E
    NO_SUBSCRIPTION_IDS = 0xA1
    NO_WILDCARDS = 0xA2


class PacketError(Exception):
    """A client broke the protocol or asked for what it cannot have; its connection ends.

    `reason` is a short word for counters, `code` what an MQTT 5 client is told, `answer` a CONNACK for one that is not
    connected yet.
    """

    def __init__(self, reason: str, code: Code = Code.MALFORMED, answer: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Will:
    """What a client wants to have published when its connection breaks."""

    topic: str
    payload: bytes
    qos: int


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT. `keep_alive_s` 0: the client promises nothing."""

    version: int
    client_id: str
    username: str
    password: bytes
    keep_alive_s: int
    will: Will | None
    receive_maximum: int = 65_535
    max_packet_bytes: int = 0
    """Largest packet that the client takes; 0: it did not say."""


@dataclass(frozen=True, slots=True)
class Publish:
    """A PUBLISH. `packet_id` is 0 at QoS 0."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    again: bool
    retain: bool


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A SUBSCRIBE: filters with the highest QoS wanted of each."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """An UNSUBSCRIBE."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(slots=True)
class ListenerView:
    """What the listener tells of itself. `tls` is `none`, `classical` or `x25519mlkem768`, at best."""

    addresses: tuple[str, ...] = ()
    tls: str = "none"
    connections: int = 0
    unauthenticated: int = 0
    max_connections: int = 0
    paused: str = ""
    """Why no connection is taken now; empty: they are."""

    groups: dict[str, int] = field(default_factory=dict)
    """Open TLS connections by the group of their key exchange."""
