"""What the node works with: drain, and its drivers."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import msgspec

from qedge.fleet.commands.kinds.kind import KindOf
from qedge.fleet.commands.kinds.restarts import driver_outcome
from qedge.fleet.commands.ports import Progress
from qedge.wire.command_kinds import DrainCommand, DriverCommand, DriverOutcome
from qedge.wire.commands import CommandRequest
from qedge.wire.node import DrainChange, DrainView, DriverChange, DriverView

_LOOK_S: Final = 0.2


class Drains(Protocol):
    """Takes the node out of work."""

    async def drain(self, change: DrainChange, /) -> DrainView:
        """Give jobs away, or take them again."""
        ...

    def drain_view(self) -> DrainView:
        """Say how far it is."""
        ...


class Drivers(Protocol):
    """Changes drivers."""

    async def change_driver(self, name: str, change: DriverChange, /) -> DriverView:
        """Lock, unlock or reconfigure; raises `driver.not_found` and what the driver says."""
        ...

    async def enable_driver(self, name: str, *, enabled: bool) -> None:
        """Take a configured driver into the daemon, or let it go; raises `driver.not_found`."""
        ...


class Drain(KindOf[DrainCommand]):
    """`drain`: give jobs away and take no new ones, or the opposite."""

    kind = "drain"
    lane = "drain"
    arguments = DrainCommand
    answers = DrainView
    time_limit_s = 3600.0

    def __init__(self, drains: Drains) -> None:
        self._drains = drains

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Do it; with `wait`, returns once no job is left."""
        wanted = self.read(request)
        view = await self._drains.drain(DrainChange(undo=wanted.undo))
        jobs = left = view.waiting + view.running
        while wanted.wait and view.state == "draining":
            await asyncio.sleep(_LOOK_S)
            view = self._drains.drain_view()
            if view.waiting + view.running != left:
                left = view.waiting + view.running
                await progress(f"{left} jobs left", max(0.0, 1 - left / max(1, jobs)))
        return view


class Driver(KindOf[DriverCommand]):
    """`driver`: enable, disable, lock, unlock a driver, or change its settings."""

    kind = "driver"
    lane = "drivers"
    arguments = DriverCommand
    answers = DriverOutcome
    time_limit_s = 90.0

    def __init__(self, drivers: Drivers) -> None:
        self._drivers = drivers

    async def run(self, request: CommandRequest, _progress: Progress) -> msgspec.Struct | None:
        """Do it."""
        wanted = self.read(request)
        if wanted.enabled is not None:
            await self._drivers.enable_driver(wanted.name, enabled=wanted.enabled)
            if not wanted.enabled:
                return DriverOutcome(wanted.name, False, "", "down", "disabled by a command")
        change = DriverChange(wanted.admin_state, wanted.settings)
        return driver_outcome(await self._drivers.change_driver(wanted.name, change))
