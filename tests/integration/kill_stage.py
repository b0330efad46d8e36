"""One daemon that can be struck at any instant of a command, and the desk of an operator who looks on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from qedge.base.errors import QedgeError
from qedge.client.node import NodeClient
from qedge.crypto.operators import approve, pack_order, sign_request
from qedge.security.audit.files import newest_rows
from qedge.wire.audit import AuditTrail
from qedge.wire.commands import CommandOrder, CommandReport, CommandRequest, command_topic
from tests.integration.bus_site import MOSQUITTO
from tests.integration.daemon_process import DaemonProcess
from tests.integration.fleet_world import FleetWorld
from tests.integration.halting_daemon import BOOT_ID, HALT
from tests.integration.operator_desk import ENDS, OperatorDesk, operator_desk

T = TypeVar("T")
KIND = "mosquitto" if MOSQUITTO else "iotcore"
OPEN = "[fleet.commands]\nsynchronised_clock = false\n[http]\nenabled = false\n[mesh]\nlisten = 'off'\n"
NODE = "a"
LIMIT_S = 60.0
AWAY_S = 0.3
"""How long the broker is away."""

LAUNCHER = Path(__file__).with_name("halting_daemon.py")
_NOT_THERE = ("client.no_daemon", "client.timeout", "internal.stopping", "client.data")


class KillStage:
    """A world with one node; `starts` counts how often the test started its daemon."""

    def __init__(self, world: FleetWorld) -> None:
        self.world = world
        self.config = OPEN
        self.starts = 0
        self.boots = 0
        self._desks = AsyncExitStack()
        self.desk: OperatorDesk
        self.daemon: DaemonProcess
        """Both are there once the stage is open."""

    @property
    def home(self) -> Path:
        """The folder of the node."""
        return self.world.folder / NODE

    async def open(self) -> None:
        """Enrol the node, start its daemon, and sit down at the desk."""
        self.home.mkdir(exist_ok=True)
        self.reboot()
        within = (sys.executable, str(LAUNCHER), str(self.home))
        self.daemon = self.world.start(NODE, self.config, within=within)
        self.starts += 1
        await self.sit_down()
        await self.world.wait_up(NODE)

    async def sit_down(self) -> None:
        """Take a desk at the broker that there is now; what is retained there comes again."""
        await self._desks.aclose()
        self._desks = AsyncExitStack()
        self.desk = await self._desks.enter_async_context(operator_desk(self.world))

    async def close(self) -> None:
        """Leave the desk, and let go of a daemon that still halts."""
        for daemon in self.world.daemons.values():
            if daemon.is_alive():
                daemon.signal(signal.SIGCONT)
        await self._desks.aclose()

    def reboot(self) -> None:
        """Give the box another boot id; a running daemon knows nothing of it."""
        self.boots += 1
        (self.home / BOOT_ID).write_text(f"boot-{self.boots}\n")

    def start(self) -> None:
        """Start the daemon again."""
        self.daemon.start()
        self.starts += 1

    # Halting

    def arm(self, instant: str, command: str) -> None:
        """Have the daemon stop at an instant of a command."""
        draft = self.home / f"{HALT}.new"
        draft.write_text(f"{instant}\n{command}")
        draft.replace(self.home / HALT)

    async def halted(self) -> None:
        """Wait until the daemon has stopped."""
        async with asyncio.timeout(LIMIT_S):
            while (self.home / HALT).exists() or self._process_state() != "T":
                assert self.daemon.is_alive(), self.daemon.log()[-3000:]
                await asyncio.sleep(0.01)

    def _process_state(self) -> str:
        stat = Path(f"/proc/{self.daemon.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def kill(self) -> None:
        """Kill -9, and start again."""
        self.daemon.kill()
        self.start()

    async def cut(self) -> None:
        """Kill the broker, let the daemon run on without it, and bring up one that knows nothing."""
        self.world.broker.kill()
        self.daemon.signal(signal.SIGCONT)
        await asyncio.sleep(AWAY_S)
        self.world.broker.start()
        await self.sit_down()

    # Commands

    async def send(self, request: CommandRequest, approvals: int = 0) -> bytes:
        """Sign a request, and publish it as a fleet tool does; returns what was published."""
        signed = sign_request(request, *self.desk.olga)
        others = [self.world.fleet.operator(f"other-{number}") for number in range(approvals)]
        order = pack_order(CommandOrder(signed, tuple(approve(signed, *each) for each in others)))
        await self.publish(request, order)
        return order

    async def publish(self, request: CommandRequest, order: bytes) -> None:
        """Let an order stand on its topic."""
        await self.desk.publish(command_topic(self.world.fleet.name, NODE, request.id), order)

    def ends(self, command: str) -> set[tuple[str, str, int]]:
        """Return all ends that were told of a command."""
        told = self.desk.reports.get(command, [])
        return {(each.state, each.code, each.revision) for each in told if each.state in ENDS}

    async def end(self, command: str) -> CommandReport:
        """Wait for the end of a command."""
        try:
            return await self.desk.end(command, LIMIT_S)
        except TimeoutError:
            told = [(each.state, each.step) for each in self.desk.reports.get(command, [])]
            raise AssertionError(f"no end, only {told}; log: {self.daemon.log()[-4000:]}") from None

    async def ordered(self, kind: str, arguments: msgspec.Struct | None = None) -> CommandReport:
        """Order something else and wait for its end."""
        return await self.end(await self.desk.send(NODE, kind, arguments))

    async def ask(self, question: Callable[[NodeClient], Awaitable[T]]) -> T:
        """Put a question to the daemon, as often as it takes until it answers."""
        async with asyncio.timeout(LIMIT_S), self.daemon.client() as client:
            while True:
                try:
                    return await question(client)
                except QedgeError as error:
                    assert error.code in _NOT_THERE, error
                await asyncio.sleep(0.05)

    # What the world has seen

    def seen(self, event: str, *texts: str) -> int:
        """Count lines of the log with an event and these texts."""
        lines = self.daemon.log().splitlines()
        return sum(f'"{event}"' in line and all(text in line for text in texts) for line in lines)

    def own_starts(self) -> int:
        """Count the starts that the daemon made of itself."""
        return self.seen("daemon.starting") - self.starts

    def audited(self, command: str) -> list[str]:
        """Return what the audit log says of a command, oldest first."""
        rows = newest_rows(self.home / "audit", AuditTrail.ACTS, 100_000)
        return [row.decision for row in rows if row.resource == command]


@asynccontextmanager
async def kill_stage(folder: Path) -> AsyncIterator[KillStage]:
    """Open a world for one node, which is there after `open`."""
    async with FleetWorld(folder, KIND) as world:
        stage = KillStage(world)
        try:
            yield stage
        finally:
            await stage.close()


@contextlib.asynccontextmanager
async def beside(work: Awaitable[None]) -> AsyncIterator[None]:
    """Have something done meanwhile; what it raises is raised here."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        failed = task.done() and not task.cancelled() and task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if failed:
        raise failed
