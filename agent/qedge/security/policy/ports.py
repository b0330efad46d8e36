"""What the service of the policy needs from the rest of the node."""

from __future__ import annotations

from typing import Protocol

from qedge.bus.model import Handler, OnSession


class Shelf(Protocol):
    """Small texts that are there again after a restart; `store.Store` is one."""

    async def get_meta(self, key: str, default: str = "") -> str:
        """Return a text."""
        ...

    async def set_meta(self, key: str, value: str, *, accepted: bool = False) -> None:
        """Keep a text; it is on the disk when this returns. `accepted`: on one that is full too, where it can be."""
        ...


class PolicyBus(Protocol):
    """The bus, as far as policies need it; `bus.service.Bus` is one."""

    def subscribe(self, pattern: str, handler: Handler, *, retained: bool = False) -> None:
        """Hand messages on."""
        ...

    def on_session(self, hook: OnSession) -> None:
        """Call after every connection."""
        ...

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Publish; raises `bus.*`."""
        ...
