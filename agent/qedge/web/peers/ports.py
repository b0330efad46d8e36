"""What the HTTP interface needs of the other nodes."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.mesh import PeerList
from qedge.wire.node import PingRequest, PingView


class PeersPort(Protocol):
    """The other nodes, as this one knows them."""

    def peers(self) -> PeerList:
        """Describe all members of the fleet that this node knows, itself included."""
        ...

    async def ping(self, request: PingRequest) -> PingView:
        """Measure the way to a peer over the bus."""
        ...
