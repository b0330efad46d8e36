"""What renewal needs of the node."""

from __future__ import annotations

from typing import Protocol

from qedge.bus.model import Handler
from qedge.crypto.model import Member
from qedge.crypto.trust import Trust


class Line(Protocol):
    """The fleet's broker."""

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """Hand every message on a topic to `handler`."""
        ...

    async def publish(self, topic: str, payload: bytes, *, qos: int, expiry_s: int = 0) -> None:
        """Publish; raises `bus.*`."""
        ...


class Holder(Protocol):
    """Who has the certificate."""

    @property
    def member(self) -> Member:
        """The present certificate."""
        ...

    @property
    def trust(self) -> Trust:
        """Whom the node believes."""
        ...

    async def request(self, nonce: bytes, sequence: int) -> tuple[str, bytes]:
        """Make a request; returns topic and message."""
        ...

    async def take(self, chain: tuple[bytes, ...]) -> Member:
        """Go on with the next certificate; returns the one that is in force then. Raises `auth.*`, `store.*`."""
        ...
