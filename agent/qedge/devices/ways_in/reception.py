"""What connections of the listener have in common, and what they need from it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import IntEnum
from typing import Protocol

from qedge.devices.enforcement import Enforcement
from qedge.devices.ports import Audience, Keeper
from qedge.devices.ways_in.model import Code, Connect
from qedge.devices.ways_in.rates import Throttles
from qedge.security.model import Subject


class State(IntEnum):
    """Where a connection stands."""

    NEW = 0
    WAITING = 1
    OPEN = 2
    CLOSED = 3


class Outlet(Protocol):
    """The socket of a connection."""

    def write(self, data: bytes) -> bool:
        """Send at once, or keep what does not fit; False where too much waits already, and nothing was taken."""
        ...

    def hold(self, seconds: float) -> None:
        """Read nothing for so long; 0: read on."""
        ...

    def corked(self) -> AbstractContextManager[None]:
        """Send what is written within in one piece at the end: a send costs more than most that leads to it."""
        ...

    def close(self, reason: str) -> None:
        """Close at once; what was written is still sent where the socket takes it."""
        ...


class Guest(Protocol):
    """A connection that waits to be let in."""

    def admit(self, subject: Subject, now_ns: int, utc_ns: int) -> None:
        """Let the device in, and deal with what it sent meanwhile."""
        ...

    def refuse(self, code: Code, reason: str) -> None:
        """Turn the client away."""
        ...


class Reception(Protocol):
    """What a connection needs from the listener."""

    def arrive(self, guest: Guest, connect: Connect) -> None:
        """Find out who that is, then call its `admit` or `refuse`."""
        ...

    def hello(self, device_id: str, message: bytes) -> bool:
        """Take a step of a handshake; False where too much of this waits already."""
        ...

    def offended(self, guest: Guest) -> None:
        """Note that somebody who has proved nothing does not speak MQTT."""
        ...


class Rules:
    """What all connections of a listener have in common."""

    __slots__ = (
        "audience",
        "enforcement",
        "fleet",
        "keeper",
        "max_keepalive_s",
        "max_packet",
        "node",
        "queue",
        "throttles",
        "up",
    )

    def __init__(
        self,
        fleet: str,
        node: str,
        enforcement: Enforcement,
        throttles: Throttles,
        *,
        max_packet_bytes: int,
        max_keepalive_s: int,
        queue_messages: int,
        keeper: Keeper | None,
        audience: Audience | None,
    ) -> None:
        self.fleet = fleet
        self.node = node
        self.enforcement = enforcement
        self.up = enforcement.up
        self.throttles = throttles
        self.max_packet = max_packet_bytes
        self.max_keepalive_s = max_keepalive_s
        self.queue = queue_messages
        self.keeper = keeper
        self.audience = audience
