"""What a fleet's operators need of the daemon; `qedge.daemon.compose.Parts` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qedge.base.metrics import Metrics
from qedge.base.system_clock import SystemClock
from qedge.bus.service import Bus
from qedge.config import AgentConfig
from qedge.daemon.node import Node
from qedge.daemon.peers import Tools
from qedge.mesh.service import MeshService
from qedge.supervisor import Supervisor

if TYPE_CHECKING:
    from qedge.daemon.fleet.commands import FleetParts
    from qedge.security.audit.log import AuditLog


class TelemetryParts(Protocol):
    """What telemetry needs of all the parts of a daemon."""

    @property
    def tools(self) -> Tools:
        """Who the node is, its clock and metrics."""
        ...

    @property
    def config(self) -> AgentConfig:
        """All settings."""
        ...

    @property
    def bus(self) -> Bus:
        """The node's own broker."""
        ...

    @property
    def node(self) -> Node:
        """What describes the node."""
        ...


class Parts(TelemetryParts, Protocol):
    """What the rest needs of them."""

    @property
    def clock(self) -> SystemClock:
        """Time."""
        ...

    @property
    def metrics(self) -> Metrics:
        """The node's metrics."""
        ...

    @property
    def supervisor(self) -> Supervisor:
        """Where services are added."""
        ...

    @property
    def mesh(self) -> MeshService:
        """What tells peers of changes."""
        ...

    @property
    def fleet(self) -> FleetParts | None:
        """The service of commands, where the node takes any."""
        ...

    @property
    def audit(self) -> AuditLog | None:
        """The audit log that the security of attached devices keeps, where the node takes any."""
        ...
