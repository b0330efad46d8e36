"""What the uplink needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qedge.orchestrator.state.model import Entry
from qedge.orchestrator.state.replica import Replica


class SharedState(Protocol):
    """The state that the nodes of the fleet share."""

    @property
    def shared(self) -> Replica:
        """The map of the fleet."""
        ...

    def watch(self, namespace: str, heard: Callable[[Entry], None]) -> Callable[[], None]:
        """Call `heard` with every entry that comes; returns what ends that."""
        ...

    def under(self, namespace: str, key: str = "") -> tuple[Entry, ...]:
        """Return all entries of a namespace."""
        ...

    async def learn(self, peer: str, message: bytes) -> bool:
        """Check an entry that came another way and take it in; says whether it was new."""
        ...
