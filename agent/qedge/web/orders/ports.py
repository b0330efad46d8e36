"""What the HTTP interface needs of commands of fleet operators; `qedge.fleet.commands` fills it."""

from __future__ import annotations

from typing import Protocol

from qedge.wire.commands import FleetCommandList, FleetCommandView


class OrdersPort(Protocol):
    """Commands of fleet operators, as this node keeps them."""

    async def commands(self, limit: int) -> FleetCommandList:
        """Return the newest, newest first."""
        ...

    async def command(self, command: str) -> FleetCommandView:
        """Return one; raises `order.not_found`."""
        ...


class OrdersNode(Protocol):
    """The node, as far as this is about it."""

    @property
    def orders(self) -> OrdersPort:
        """Commands of fleet operators; raises `order.off`."""
        ...
