"""What assessments need from the rest of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from qedge.workers.model import Msg


class MeasurableQpu(Protocol):
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
    def simulated(self) -> bool:
        """Whether no hardware is behind it."""
        ...

    async def call(self, method: str, args: Mapping[str, Msg], *, deadline_s: float, light: bool = False) -> Msg:
        """Call a circuit worker; `light` calls may also use a spare worker."""
        ...


class Host(Protocol):
    """The machine that the node runs on."""

    def available_bytes(self) -> int:
        """Bytes that can be used now without swapping."""
        ...

    def cores(self) -> int:
        """Processors that this process may use."""
        ...

    def load(self) -> float:
        """Processes that ran or wanted to run, average of a minute."""
        ...

    def cpu_model(self) -> str:
        """Name of the processor; empty where the host does not tell."""
        ...
