"""What segments need from other parts of the gateway and from rooms below; the daemon fills them in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from qedge.bus.model import Handler
from qedge.devices.segments.model import RetentionClass
from qedge.security.model import Action, Decision, Resource, Subject, SubjectKind

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)

Denied = Callable[[Subject | None, Action, Resource, Decision], None]
"""Hears of every decision that refused, for the audit."""


class Subjects(Protocol):
    """Who may ask: the one `Subject` of each, or None. Never waits."""

    def find(self, kind: SubjectKind, name: str) -> Subject | None:
        """Return the subject of a device, an app, a peer or the cloud."""
        ...


class Downlink(Protocol):
    """The enforcement point downwards."""

    def down(self, device_id: str, command: str, body: bytes, now_ns: int) -> bool:
        """Seal a message in the device's session and send it; False where the device cannot be reached now."""
        ...


class SegmentBus(Protocol):
    """The bus."""

    def post(self, topic: str, payload: bytes, *, expiry_s: int) -> None:
        """Publish at QoS 1 without waiting; raises `bus.*`."""
        ...

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """Hand every message on `pattern` to `handler`."""
        ...


class Peers(Protocol):
    """Other nodes, reached through sealed sessions."""

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node; raises `peer.*`, `session.*`, or what the node raised."""
        ...

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer every question of this type; `serve` gets the name of the node that asks, which is proved."""
        ...


class EpochKeep(Protocol):
    """Numbers of epochs that are taken, on the disk."""

    async def reserved(self) -> Mapping[str, int]:
        """Return for each segment the first number that was never taken."""
        ...

    async def reserve(self, segment: str, upto: int) -> None:
        """Write down that all numbers below `upto` are taken; raises `store.*`."""
        ...


@dataclass(frozen=True, slots=True)
class KnownCommand:
    """A command that was written down before it was sent. `outcome` is empty until it ended."""

    request: bytes
    digest: bytes
    outcome: str = ""
    detail: str = ""


class CommandJournal(Protocol):
    """Commands with a key of their client, on the disk before they are sent."""

    async def begin(self, client: str, key: str, digest: bytes, request: bytes, utc_ns: int) -> KnownCommand | None:
        """Write a command down; returns the one that has the key already, and writes nothing then. Raises `store.*`."""
        ...

    async def end(self, client: str, key: str, outcome: str, detail: str) -> None:
        """Write down how it ended."""
        ...


class Onward(Protocol):
    """The way upstream."""

    def put(self, device: str, segment: str, channel: str, retention: RetentionClass, utc_ns: int, body: bytes) -> bool:
        """Keep a reading for the upstream; False where it had to be dropped. Never waits."""
        ...
