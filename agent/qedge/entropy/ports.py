"""What the pool needs from the rest of the node."""

from __future__ import annotations

from typing import Protocol

from qedge_driver_api import RawSamples


class RawSource(Protocol):
    """A quantum random number generator behind its worker."""

    @property
    def name(self) -> str:
        """Name of the driver instance."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether no hardware is behind it."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it may be read now."""
        ...

    async def read(self, num_bytes: int, deadline_s: float) -> RawSamples:
        """Return fresh raw samples; raises `QedgeError`."""
        ...
