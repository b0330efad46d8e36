"""What a node offers to those who manage it: commands, configuration, telemetry, and what it is to Sparkplug hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qedge.base.errors import QedgeError
from qedge.fleet.configuration.service import ConfigurationService
from qedge.wire.node import SparkplugView
from qedge.wire.telemetry import TelemetryView

if TYPE_CHECKING:
    from qedge.web.orders.ports import OrdersPort


@dataclass(frozen=True, slots=True)
class Power:
    """What ends this run of the daemon: to start again, or to remove everything first."""

    restart: Callable[[], None]
    wipe: Callable[[], None]


class ManagedNode:
    """Holds what serves fleet tools, as far as the node has it."""

    def __init__(self) -> None:
        self._orders: OrdersPort | None = None
        self._configuration: ConfigurationService | None = None
        self._telemetry: Callable[[], TelemetryView] = lambda: TelemetryView(enabled=False)
        self._sparkplug: Callable[[], SparkplugView] | None = None

    def attach_orders(self, orders: OrdersPort) -> None:
        """Take what keeps commands of fleet operators, where the node takes any."""
        self._orders = orders

    @property
    def orders(self) -> OrdersPort:
        """Commands of fleet operators; raises `order.off`."""
        if self._orders is None:
            raise QedgeError("order.off", "This node takes no commands.", fix="Let it join a fleet.")
        return self._orders

    def attach_configuration(self, service: ConfigurationService) -> None:
        """Take what tries configurations that the fleet gives."""
        self._configuration = service

    @property
    def configuration(self) -> ConfigurationService:
        """Configuration that the fleet gives."""
        if self._configuration is None:
            raise QedgeError("internal.stopping", "The node is starting.", fix="Try again soon.")
        return self._configuration

    def attach_telemetry(self, view: Callable[[], TelemetryView]) -> None:
        """Take what describes telemetry, where it is enabled."""
        self._telemetry = view

    def telemetry(self) -> TelemetryView:
        """Describe how telemetry of this node stands."""
        return self._telemetry()

    def attach_sparkplug(self, view: Callable[[], SparkplugView]) -> None:
        """Take what describes the Sparkplug edge node, where the node is one."""
        self._sparkplug = view
