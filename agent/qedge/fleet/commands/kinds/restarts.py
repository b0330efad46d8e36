"""Restarts: of the agent and of the box, which this program does not live to see, and of a driver's workers.

The agent and the box are asked to restart and the command is left as it is; the next start finds it in the journal and
compares: a higher epoch for the agent, another boot id for the box. A box of which only the agent came back has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from qedge.base.errors import QedgeError
from qedge.fleet.commands.journal import Journal
from qedge.fleet.commands.kinds.kind import Kind, KindOf
from qedge.fleet.commands.ports import AfterCrash, Progress, Recovered
from qedge.fleet.commands.running import ThisRun
from qedge.wire.command_kinds import DriverOutcome, RestartOutcome, WorkerCommand
from qedge.wire.commands import CommandRequest
from qedge.wire.node import DriverView

POWER_LANE: Final = "power"
_LOOK_S: Final = 0.2
_TAKEN_S: Final = 30.0


class HostRestarter(Protocol):
    """Asks a unit of the system to restart the box."""

    async def ask(self) -> None:
        """Ask; raises `order.failed` where it cannot be asked."""
        ...

    async def taken(self) -> None:
        """Wait until the unit has taken the request."""
        ...

    async def withdraw(self) -> None:
        """Take the request back where it still stands."""
        ...


class Workers(Protocol):
    """Drivers by name."""

    async def restart_workers(self, driver: str) -> None:
        """Replace a driver's workers; raises `driver.not_found`."""
        ...

    def driver(self, name: str) -> DriverView:
        """Describe a driver; raises `driver.not_found`."""
        ...


class RestartAgent(Kind):
    """`restart-agent`: stop in order, and start again."""

    kind = "restart-agent"
    lane = POWER_LANE
    after_crash = AfterCrash.CHECK
    time_limit_s = 120.0
    answers = RestartOutcome

    def __init__(self, restart: Callable[[], None], journal: Journal, this_run: ThisRun) -> None:
        self._restart = restart
        self._journal = journal
        self._this_run = this_run

    async def run(self, _request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Ask for it; never returns, the next start does."""
        await progress("stops", 0.5)
        self._restart()
        await asyncio.Event().wait()
        return None

    async def recover(self, request: CommandRequest) -> Recovered:
        """It has succeeded where the agent has started since."""
        outcome = await _outcome(self._journal, self._this_run, request)
        return Recovered(go_on=True) if outcome.epoch <= outcome.epoch_before else Recovered(result=outcome)


class RestartHost(Kind):
    """`restart-host`: restart the box, by a unit of root that watches for the request."""

    kind = "restart-host"
    lane = POWER_LANE
    after_crash = AfterCrash.CHECK
    time_limit_s = 900.0
    answers = RestartOutcome

    def __init__(self, host: HostRestarter, journal: Journal, this_run: ThisRun) -> None:
        self._host = host
        self._journal = journal
        self._this_run = this_run

    async def run(self, _request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Ask for it; never returns. Raises `order.failed` where nothing takes the request."""
        await progress("asks the system", 0.3)
        await self._host.ask()
        try:
            async with asyncio.timeout(_TAKEN_S):
                await self._host.taken()
        except TimeoutError:
            raise QedgeError(
                "order.failed",
                "Nothing on this box takes requests to restart it.",
                fix="Install and enable qedge-restart-host.path.",
            ) from None
        finally:
            # one that nobody took must not restart the box some other day
            await self._host.withdraw()
        await progress("the system restarts", 0.6)
        await asyncio.Event().wait()
        return None

    async def recover(self, request: CommandRequest) -> Recovered:
        """It has succeeded where the kernel has another boot id; raises `order.failed` where it has not."""
        await self._host.withdraw()
        outcome = await _outcome(self._journal, self._this_run, request)
        if outcome.boot_id == outcome.boot_id_before:
            raise QedgeError(
                "order.failed",
                "The box was not restarted, only the agent.",
                fix="Send it again, and look at qedge-restart-host.service.",
            )
        return Recovered(result=outcome)


class RestartWorker(KindOf[WorkerCommand]):
    """`restart-worker`: replace the workers of a driver, and wait until it is up again."""

    kind = "restart-worker"
    lane = "drivers"
    arguments = WorkerCommand
    answers = DriverOutcome
    time_limit_s = 90.0

    def __init__(self, workers: Workers, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._workers = workers
        self._sleep = sleep

    async def run(self, request: CommandRequest, progress: Progress) -> msgspec.Struct | None:
        """Do it."""
        name = self.read(request).driver
        await progress("restarts the workers", 0.3)
        await self._workers.restart_workers(name)
        view = self._workers.driver(name)
        while view.operating_state == "down" and view.admin_state == "unlocked":
            await self._sleep(_LOOK_S)
            view = self._workers.driver(name)
        return driver_outcome(view)


def driver_outcome(view: DriverView) -> DriverOutcome:
    """Say how a driver is."""
    return DriverOutcome(view.name, True, view.admin_state, view.operating_state, view.reason[:500])


async def _outcome(journal: Journal, now: ThisRun, request: CommandRequest) -> RestartOutcome:
    entry = await journal.get(request.id)
    if entry is None:
        raise QedgeError(
            "order.not_found",
            "The journal has lost the command.",
            fix="See in the inventory whether the epoch has grown.",
        )
    return RestartOutcome(entry.epoch, now.epoch, entry.boot_id, now.boot_id)
