"""What the way upstream needs."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.segments import OnwardReadings


class Uplink(Protocol):
    """The connection to the upstream."""

    @property
    def is_up(self) -> bool:
        """Whether it is worth trying."""
        ...

    async def send(self, readings: OnwardReadings) -> None:
        """Send; returns when the other side has acknowledged. Raises `bus.*` or another where it has not."""
        ...
