"""What telemetry needs from others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from qedge.fleet.telemetry.model import Item
from qedge.wire.node import NodeStatus
from qedge.wire.telemetry import TelemetryBatch

Source = Callable[[], NodeStatus]
"""Describes the node as it is now."""

Sink = Callable[[Item], None]
"""Takes an item; must neither wait nor raise."""


class Uplink(Protocol):
    """The connection to those who watch the fleet."""

    @property
    def is_up(self) -> bool:
        """Whether it is worth trying."""
        ...

    async def send(self, batch: TelemetryBatch) -> None:
        """Send; returns once the broker has acknowledged. Raises `bus.*` where it has not."""
        ...
