"""What the HTTP interface needs of the node itself."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.node import DrainChange, DrainView, NodeStatus, RandomRequest, RandomView
from qedge.wire.telemetry import TelemetryView


class OwnPort(Protocol):
    """What the node says of itself and gives out."""

    def status(self) -> NodeStatus:
        """Describe the whole node; cheap, called about once a second while someone watches."""
        ...

    def telemetry(self) -> TelemetryView:
        """Describe how telemetry stands."""
        ...

    def drain_view(self) -> DrainView:
        """Describe whether the node takes jobs."""
        ...

    async def drain(self, change: DrainChange) -> DrainView:
        """Give jobs away and take no new ones, or undo that."""
        ...

    async def random(self, request: RandomRequest) -> RandomView:
        """Draw from the pool."""
        ...
