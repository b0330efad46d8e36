"""What the job service needs from the rest of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from qedge.workers.model import Msg


class QpuPort(Protocol):
    """A QPU behind its workers."""

    @property
    def name(self) -> str:
        """Name of the driver instance."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether it is a QPU, unlocked and up."""
        ...

    @property
    def capacity(self) -> int:
        """How many jobs it runs at once."""
        ...

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False) -> Msg:
        """Call a circuit worker; `light` calls may also use a spare worker."""
        ...


class Memory(Protocol):
    """How much memory jobs can find."""

    def available_bytes(self) -> int:
        """Bytes that can be used now without swapping, within the limits of the service's control group."""
        ...
