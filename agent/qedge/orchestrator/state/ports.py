"""What the shared state needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

Q = TypeVar("Q", bound=msgspec.Struct)
T = TypeVar("T", bound=msgspec.Struct)


class StatePeers(Protocol):
    """The other nodes, reached through sealed sessions."""

    def alive(self) -> Sequence[str]:
        """Name the peers of this site that live."""
        ...

    async def call(self, node: str, body: msgspec.Struct, answer: type[T], *, deadline_s: float) -> T:
        """Ask a node; raises `peer.*`, `bus.*`, `session.*` where it cannot be reached, or the node's own error."""
        ...

    def serve(self, request: type[Q], serve: Callable[[str, Q], Awaitable[msgspec.Struct]]) -> None:
        """Answer every question of this type; `serve` gets the name of the node that asks, which is proved."""
        ...
