"""What readiness needs of the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qedge.wire.node import NodeStatus


@dataclass(frozen=True, slots=True)
class Pulse:
    """A sign of life: `age_s` seconds since it last moved (−1: never), at most `limit_s` in a ready node."""

    name: str
    age_s: float
    limit_s: float


class HealthPort(Protocol):
    """What readiness depends on."""

    def status(self) -> NodeStatus:
        """Describe the whole node; cheap, called about once a second while someone watches."""
        ...

    def pulses(self) -> tuple[Pulse, ...]:
        """Return the signs of life on which readiness depends (message pump, host samples, …)."""
        ...
