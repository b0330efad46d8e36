"""Nouns of the bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from qedge.base.errors import QedgeError

MAX_MESSAGE_BYTES: Final = 256 * 1024
"""Largest message on the wire; larger ones have no effect and are counted."""

MAX_PACKET_BYTES: Final = MAX_MESSAGE_BYTES + 4096
"""Largest MQTT packet: a message with its topic and properties."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as it came. `response_topic` and `correlation` are empty where the sender set none."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    response_topic: str = ""
    correlation: bytes = b""


Handler = Callable[[Incoming], Awaitable[None]]
"""Takes one message; a QoS-1 message is acknowledged when it returns or raises."""

OnSession = Callable[[bool], Awaitable[None]]
"""Called after every connection with whether the broker still had the session."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is and how to be let in. `shown` is the address without credentials."""

    host: str
    port: int
    kind: str
    tls: bool = False
    username: str = ""
    password: str = ""

    @property
    def shown(self) -> str:
        """Address for status and logs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"<Endpoint {self.kind} {self.shown}>"


Locate = Callable[[], Endpoint | None]
"""Where the broker is now; None while a child broker is not up."""


@dataclass(frozen=True, slots=True)
class LastWill:
    """Published by the broker when the connection is lost and does not come back within `delay_s`."""

    topic: str
    payload: bytes
    delay_s: int


def not_taken(error: Exception) -> QedgeError:
    """Make the error for a message that the broker refused."""
    return QedgeError("bus.unavailable", f"The broker did not take a message: {error}.", fix="Look at the broker.")


def timed_out(message: str) -> QedgeError:
    """Make the error for what did not come in time."""
    return QedgeError("bus.timeout", message, fix="Try again; `qedge status` shows the connection.")
