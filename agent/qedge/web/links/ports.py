"""What the HTTP interface needs of QKD links."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.node import LinkMeasure, LinkView


class LinksPort(Protocol):
    """QKD links of the node."""

    def links(self) -> tuple[LinkView, ...]:
        """Describe all configured QKD links."""
        ...

    async def measure_link(self, name: str, request: LinkMeasure) -> LinkView:
        """Take one window of detections."""
        ...
