"""What the mesh needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from qedge.wire.node import DriverView

KeepRevocations = Callable[[str, int, bytes], Awaitable[None]]
"""Writes down the newest list of a fleet: its name, the serial, and the list as it was signed."""


class ExtraKeys(Protocol):
    """Secrets shared with a peer from another source, QKD for instance, to be mixed into sessions, each once."""

    async def offered(self, peer: str) -> tuple[str, ...]:
        """Return the ids of keys that this node shares with `peer`, newest first; empty where policy wants none."""
        ...

    async def take(self, peer: str, key_id: str) -> bytes:
        """Return a key for good: its use is on disk before this returns. Raises `session.extra_key_missing`."""
        ...

    async def declined(self, peer: str, key_ids: tuple[str, ...]) -> None:
        """Hear that `peer` has none of these keys, which this node had offered it."""
        ...

    def required(self, peer: str) -> bool:
        """Say whether a session with `peer` without such a key may carry nothing but what leads to one."""
        ...


class Capabilities(Protocol):
    """What the node can do now."""

    def drivers(self) -> Sequence[DriverView]:
        """Describe all configured drivers, up or not."""
        ...
