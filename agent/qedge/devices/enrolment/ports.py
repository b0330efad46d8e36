"""What enrolment needs from the rest of the gateway, and from rooms below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

import msgspec

from qedge.bus.model import Handler

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)
A = TypeVar("A", bound=msgspec.Struct)


class Threads(Protocol):
    """Runs what takes milliseconds outside the event loop."""

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work`; raises `device.busy` where too many wait."""
        ...


class ListBus(Protocol):
    """The bus, as far as lists of revoked devices go."""

    async def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """Publish; returns once the broker has it. Raises `bus.*`."""
        ...

    def subscribe(self, pattern: str, handler: Handler, *, retained: bool = False) -> None:
        """Hand every message on `pattern` to `handler`, with `retained` what is kept there after every connection."""
        ...

    def on_session(self, hook: Callable[[bool], Awaitable[None]]) -> None:
        """Call `hook` after every connection."""
        ...


class ListPeers(Protocol):
    """Other nodes, reached through sealed sessions."""

    async def call(self, node: str, body: msgspec.Struct, answer: type[A], *, deadline_s: float) -> A:
        """Ask a node; raises `peer.*`, `session.*`, or what the node raised."""
        ...

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer every question of this type; `serve` gets the name of the node that asks, which is proved."""
        ...
