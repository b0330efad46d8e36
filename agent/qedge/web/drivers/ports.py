"""What the HTTP interface needs of drivers and QPUs."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.assessment import Assessment
from qedge.wire.device import DeviceView
from qedge.wire.node import DriverChange, DriverView


class DriversPort(Protocol):
    """Drivers of the node, and what they drive."""

    def drivers(self) -> tuple[DriverView, ...]:
        """Describe all configured drivers."""
        ...

    async def change_driver(self, name: str, change: DriverChange) -> DriverView:
        """Lock, unlock or reconfigure a driver."""
        ...

    async def assess(self, name: str) -> Assessment:
        """Measure a QPU; raises `driver.not_found`, `job.no_qpu`."""
        ...

    async def device(self, name: str) -> DeviceView:
        """Ask a QPU what it is like; raises `driver.not_found`, `job.no_qpu`."""
        ...
